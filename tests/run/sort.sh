#!/bin/sh
# SPDX-License-Identifier: MIT
# sort(1) with all of its input in memory.
. "$(dirname "$0")/lib"

awk 'BEGIN { for (i = 0; i < 400000; i++) printf "%d %d some words to make the line longer, and then some more of them %d\n",
    (i * 7919) % 400009, i, i % 10 }' >"$tmp/lines"
same 'sort' 64 sort -n -S 200M "$tmp/lines"
