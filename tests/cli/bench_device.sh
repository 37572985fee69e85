#!/bin/sh
# SPDX-License-Identifier: MIT
# "bench device" measures one device at three sizes; an OpenCL device beside OpenCL alone, a CUDA device beside CUDA alone.
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

# alone DIR...: one row for each.
alone() {
    for dir; do
        [ "$(grep -c "\"dir\":\"$dir\"" "$tmp/out")" = 1 ] || fail "not one row for $dir"
    done
}

# numbers KEY...: the summary has each.
numbers() {
    for key; do
        [ -n "$(field "$key")" ] || fail "no number under $key"
    done
}

run 0 bench device --size 4M --rounds 2 --json
json_lines
rows
if grep -Eq 'own_|pinned_|managed_' "$tmp/out"; then fail 'a device without a runtime has rows of one'; fi
wrong 2 'has no curve to draw' bench onewalk --plot x.svg
wrong 1 'there is no OpenCL platform "nobody"|OpenCL' bench device --device opencl:platform=nobody

fake=$UHMM_BUILD/tests/libfake_cuda.so
if [ -e "$fake" ]; then
    cuda=cuda:size=64M,library=$fake
    run 0 bench device --device "$cuda" --size 4M --rounds 2 --json
    json_lines
    rows
    alone own_write own_read pinned_write pinned_read managed_prefetch managed_back managed_fault
    numbers to_device_fraction fault_fraction prefetch_fraction prefetch_back_fraction to_device_of_pinned fault_of_pinned \
        fault_of_managed prefetch_of_managed prefetch_back_of_managed
    run 0 bench device --device "$cuda,apart=off" --size 4M --rounds 1
    out 'of what pinned memory reaches'
    out 'of what CUDA.s managed memory reaches'
    for without in 83:MANAGED_MEMORY 89:CONCURRENT_MANAGED_ACCESS; do
        FAKE_CUDA_WITHOUT=${without%:*}
        export FAKE_CUDA_WITHOUT
        run 0 bench device --device "$cuda" --size 4M --rounds 1 --json
        err "CUDA by itself, for comparison: without managed memory: .*CU_DEVICE_ATTRIBUTE_${without#*:} is 0"
        rows
        alone own_write own_read pinned_write pinned_read
        if grep -q managed "$tmp/out"; then fail 'managed memory is measured where there is none'; fi
        numbers to_device_fraction to_device_of_pinned
    done
    unset FAKE_CUDA_WITHOUT
    run 0 bench device --device "cuda:size=496M,library=$fake" --size 8M --rounds 1
    err 'it is given 4 MiB, a quarter of what the GPU has free beside the device'
    wrong 1 'CUDA by itself, for comparison: the GPU has 0 B free, which is too little; give the device a smaller size' \
        bench device --device "cuda:size=512M,library=$fake" --size 4M --rounds 1
else
    echo 'the stand-in for libcuda.so.1 is not built: no CUDA device was measured'
fi

if ! grep -Eq '^ok +OpenCL +opencl:device=' "$tmp/doctor"; then
    echo 'no OpenCL device here: emu: was measured, and a stand-in for CUDA'
    exit 0
fi
run 0 bench device --device opencl:size=64M --size 4M --rounds 2 --json
json_lines
rows
alone own_write own_read
numbers to_device_fraction fault_fraction prefetch_fraction prefetch_back_fraction
run 0 bench device --device opencl:size=64M --size 4M --rounds 1
out 'of what the runtime reaches by itself'
