#!/bin/sh
# SPDX-License-Identifier: MIT
# A program that has children of fork save all of its memory: program and child together stay below the limit.
. "$(dirname "$0")/lib"

command -v cc >/dev/null || exit 77
cc -O1 -o "$tmp/snapshot" "$(dirname "$0")/programs/snapshot.c" || exit 77
same 'snapshots' 96 "$tmp/snapshot" 200
