#!/bin/sh
# SPDX-License-Identifier: MIT
# A program that has children of fork save all of its memory: program and child together stay below the limit.
. "$(dirname "$0")/lib"

command -v cc >/dev/null || exit 77
# before, children are given all at once
[ "$(printf '6.17\n%s\n' "$(uname -r)" | sort -V | head -n 1)" = 6.17 ] || { echo 'skipped: children have limits from Linux 6.17 on'; exit 77; }
cc -O1 -o "$tmp/snapshot" "$(dirname "$0")/programs/snapshot.c" || exit 77
same 'snapshots' 96 "$tmp/snapshot" 200
