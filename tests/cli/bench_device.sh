#!/bin/sh
# SPDX-License-Identifier: MIT
# "bench device" measures one device at three sizes; an OpenCL device beside OpenCL alone.
. "$(dirname "$0")/lib"
need_userfaultfd

rows() {
    for dir in to_device fault prefetch prefetch_back; do
        for size in 4096 65536 2097152; do
            [ "$(grep "\"dir\":\"$dir\"" "$tmp/out" | grep -c "\"size_bytes\":$size,")" = 1 ] || fail "not one row for $dir, $size bytes"
        done
    done
    tail -n 1 "$tmp/out" | grep -q '"bench":"device","summary":true' || fail 'the summary is not the last line'
}

run 0 bench device --size 4M --rounds 2 --json
json_lines
rows
if grep -q own_ "$tmp/out"; then fail 'a device that is not OpenCL has rows of OpenCL'; fi
wrong 2 'has no curve to draw' bench device --plot x.svg
wrong 1 'there is no OpenCL platform "nobody"|OpenCL' bench device --device opencl:platform=nobody

if ! grep -Eq '^ok +OpenCL +opencl:device=' "$tmp/doctor"; then
    echo 'no OpenCL device here: only emu: was measured'
    exit 0
fi
run 0 bench device --device opencl:size=64M --size 4M --rounds 2 --json
json_lines
rows
for dir in own_write own_read; do
    [ "$(grep -c "\"dir\":\"$dir\"" "$tmp/out")" = 1 ] || fail "not one row for $dir"
done
for key in to_device_fraction fault_fraction prefetch_fraction prefetch_back_fraction; do
    [ -n "$(field $key)" ] || fail "no number under $key"
done
run 0 bench device --device opencl:size=64M --size 4M --rounds 1
out 'of what the runtime reaches by itself'
