#!/bin/sh
# SPDX-License-Identifier: MIT
# Real bytes go and come home unchanged, and the demonstration says so.
. "$(dirname "$0")/lib"
need_userfaultfd

run 0 demo --size 64M
out 'checksums equal'
out 'fault latency p50'
out 'server on the same CPU'
out 'server on another CPU'
out 'metadata per 2 MiB'

run 0 demo --size 64M --json
json_lines
out '"checksums_equal":true'
out '"input":"/'
for key in fault_throughput_ratio fault_latency_ratio base_fault_to_bare_ratio; do
    [ -n "$(field $key)" ] || fail "no number under $key"
done

# Files of one's own, one smaller than a page, and a device of one's own choice.
printf 'seven bytes' >"$tmp/small"
run 0 demo --size 5M --json --device emu:size=64M,orders=0 "$tmp/small" "$UHMM"
out '"checksums_equal":true'
out "\"input\":\"$tmp/small\""
out '"huge":\{"bytes":6291456,"folios_by_order":\{"0":1536\}'

wrong 2 'frob' demo --size 2M --device emu:frob=1
wrong 2 '.' demo --size 2M --device nosuchdriver:
wrong 2 'larger device or a smaller --size' demo --size 64M --device emu:size=16M
