#!/bin/sh
# SPDX-License-Identifier: MIT
# "bench floor" sets uhmm beside the copy alone.
. "$(dirname "$0")/lib"
need_userfaultfd
grep -Eq '^ok +a 2 MiB page' "$tmp/doctor" || { echo 'skipped: no THP can be had'; exit 77; }

run 0 bench floor --size 8M --rounds 2 --json
json_lines
for dir in copy bare_move to_device; do
    [ "$(grep -c "\"dir\":\"$dir\"" "$tmp/out")" = 3 ] || fail "not three rows for $dir: 2M, 4M, 8M"
done
tail -n 1 "$tmp/out" | grep -q '"bench":"floor","summary":true' || fail 'the summary is not the last line'
for key in to_device_fraction bare_move_fraction fault_overhead_us_p50 bare_overhead_us_p50 fault_threads_ratio copy_threads_ratio; do
    [ -n "$(field $key)" ] || fail "no number under $key"
done

run 0 bench floor --size 4M --rounds 1
out 'beyond the copy'
