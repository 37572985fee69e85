#!/bin/sh
# SPDX-License-Identifier: MIT
# "bench thp" prints a row for each size, kind of page and direction, and the ratios last.
. "$(dirname "$0")/lib"
need_userfaultfd

run 0 bench thp --size 8M --rounds 2 --json
json_lines
for dir in to_device to_system fault fault_write; do
    for pages in huge base; do
        [ "$(grep "\"dir\":\"$dir\"" "$tmp/out" | grep -c "\"pages\":\"$pages\"")" = 5 ] ||
            fail "not five rows for $dir with $pages pages: 512K, 1M, 2M, 4M, 8M"
    done
done
for key in size_bytes order gib_s us_p50 us_p99 us_mean; do
    [ "$(grep -v summary "$tmp/out" | grep -c "\"$key\":[0-9]")" = 40 ] || fail "not forty rows with a number under $key"
done
tail -n 1 "$tmp/out" | grep -q '"bench":"thp","summary":true' || fail 'the summary is not the last line'
for key in fault_throughput_ratio fault_latency_ratio; do
    [ -n "$(field $key)" ] || fail "no number under $key"
done

run 0 bench thp --size 2M --rounds 1
out 'home by read touches'
out ' 2 MiB  huge '
