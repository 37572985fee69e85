#!/bin/sh
# SPDX-License-Identifier: MIT
# sort(1) of 1.5 GiB with its buffer in memory, below 512 MiB. Takes minutes, 2 GiB of disk and 3 GiB of RAM for the plain run.
run_dir=$(dirname "$0")/..
. "$run_dir/lib"

awk 'BEGIN { srand(7); for (i = 0; i < 16000000; i++) printf "%.0f %d %s\n", rand() * 1e15, i,
    "a line of about a hundred bytes, most of which are the same on all of them, as is usual" }' >"$tmp/lines"
same 'sort of 1.5 GiB' 512 sort -S 4G --parallel=2 "$tmp/lines"
