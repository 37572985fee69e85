#!/bin/sh
# SPDX-License-Identifier: MIT
# A process has given back its slot when it ends, and its threads look for a while yet, for a library takes its time.
. "$(dirname "$0")/lib"

command -v cc >/dev/null || exit 77
source=$(dirname "$0")/programs/late_end.c
cc -O1 -o "$tmp/late" "$source" && cc -O1 -shared -fPIC -DLIBRARY -o "$tmp/late.so" "$source" || exit 77
export LD_PRELOAD="$tmp/late.so"
same 'a late end' 64 "$tmp/late"
