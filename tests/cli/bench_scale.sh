#!/bin/sh
# SPDX-License-Identifier: MIT
# "bench scale" shows that a device's size costs nothing: what is kept for the same bytes is the same on all of them.
. "$(dirname "$0")/lib"
need_userfaultfd

run 0 bench scale --size 8M --rounds 2 --json
json_lines
rows() { grep -v summary "$tmp/out"; }
[ "$(rows | wc -l)" = 4 ] || fail 'not four rows: 1G, 16G, 128G, 1T'
for key in open_us_p50 library_open_us_p50 struct_page_bytes; do
    [ "$(rows | grep -c "\"$key\":[0-9]")" = 4 ] || fail "not four rows with a number under $key"
done
for key in metadata_bytes huge_device_metadata_bytes_per_2mib base_device_metadata_bytes_per_2mib \
    huge_metadata_bytes_per_2mib base_metadata_bytes_per_2mib; do
    [ "$(rows | grep -Eo "\"$key\":[0-9.e+-]+" | wc -l)" = 4 ] || fail "not four rows with a number under $key"
    [ "$(rows | grep -Eo "\"$key\":[0-9.e+-]+" | sort -u | wc -l)" = 1 ] || fail "$key depends on the size of the device"
done
tail -n 1 "$tmp/out" | grep -q '"bench":"scale","summary":true' || fail 'the summary is not the last line'
for key in huge_metadata_ratio base_metadata_ratio; do
    [ "$(field $key)" = 1.0 ] || fail "$key is not 1"
done
[ "$(field open_metadata_bytes_more)" = 0.0 ] || fail 'a large device that is empty has more metadata than a small one'
[ -n "$(field open_ratio)" ] || fail 'no number under open_ratio'

run 0 bench scale --size 2M --rounds 1
out '^emu:size=1T '
out 'wanted: 1, whatever the size'
