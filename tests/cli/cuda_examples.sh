#!/bin/sh
# SPDX-License-Identifier: MIT
# What the examples give to CUDA is PTX by NVIDIA's own assembler, where there is one: the stand-in for libcuda.so.1 that runs it
# elsewhere (tests/support/fake_ptx.h) does not look at types.
. "$(dirname "$0")/lib"
need_userfaultfd

fake=$UHMM_BUILD/tests/libfake_cuda.so
ptxas=$(command -v ptxas || echo /usr/local/cuda/bin/ptxas)
if [ ! -e "$fake" ] || [ ! -x "$UHMM_BUILD/tests/example_linked_list" ]; then
    echo 'skipped: the stand-in for libcuda.so.1 or the examples are not built'
    exit 77
fi
if ! "$ptxas" --version >/dev/null 2>&1; then
    echo 'skipped: there is no ptxas here'
    exit 77
fi
for name in saxpy histogram linked_list; do
    FAKE_CUDA_PTX=$tmp/$name.ptx
    export FAKE_CUDA_PTX
    "$UHMM_BUILD/tests/example_$name" "cuda:size=16M,library=$fake" >"$tmp/out" 2>"$tmp/err" || fail "$name on the stand-in"
    grep -q 'by a kernel' "$tmp/out" || fail "$name has no kernel there"
    "$ptxas" -o "$tmp/cubin" "$tmp/$name.ptx" >"$tmp/out" 2>"$tmp/err" || fail "ptxas refuses the kernel of $name"
done
