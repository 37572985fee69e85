#!/bin/sh
# SPDX-License-Identifier: MIT
# sort(1) of 1.5 GiB with its buffer in memory, below 512 MiB. Takes 2 GiB of disk and 3 GiB of RAM for the plain run.
#   $1: how long a line is, in bytes. A merge sort looks at each line some three times when it is no longer in memory, each time at
#   another place: with lines of 1000 bytes that takes minutes, with 100 hours.
run_dir=$(dirname "$0")/..
. "$run_dir/lib"

bytes=${1:-1000}
awk -v bytes="$bytes" 'BEGIN {
    srand(7)
    for (text = "what most of a line is made of, the same on all of them"; length(text) < bytes; text = text " and again")
        ;
    for (i = 0; i < 1.5 * 2 ^ 30 / bytes; i++)
        printf "%.0f %d %s\n", rand() * 1e15, i, substr(text, 1, bytes - 30)
}' >"$tmp/lines"
same "sort of 1.5 GiB, lines of $bytes bytes," 512 env LC_ALL=C sort -S 4G --parallel=2 "$tmp/lines"
