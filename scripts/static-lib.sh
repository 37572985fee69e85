#!/bin/sh
# SPDX-License-Identifier: MIT
# Makes the archive that is installed: one object in which everything hidden is local, so that a program linked with it
# meets no name but uhmm_*.
#
#   static-lib.sh OBJCOPY AR IN.a OUT.a COMPILER...
set -eu
objcopy=$1 ar=$2 in=$3 out=$4
shift 4
"$@" -r -nostdlib -o "$out.o" -Wl,--whole-archive "$in" -Wl,--no-whole-archive
"$objcopy" --localize-hidden "$out.o"
rm -f "$out"
"$ar" rcs "$out" "$out.o"
rm -f "$out.o"
