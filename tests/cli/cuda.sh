#!/bin/sh
# SPDX-License-Identifier: MIT
# A machine without an NVIDIA driver, or without the device that was asked for, is told so in one sentence. What the doctor says of one
# that has devices is seen on the library that tests/support/fake_cuda.c is, put in its place.
. "$(dirname "$0")/lib"
need_userfaultfd

wrong 1 'library=/nonexistent.so.*cannot be opened: /nonexistent.so' \
    bench thp --size 2M --rounds 1 --device cuda:size=64M,library=/nonexistent.so
wrong 2 'size must be a multiple of 2M' bench thp --device cuda:size=3M
wrong 2 'staging=slow is not auto, pinned or direct' bench thp --device cuda:staging=slow
if grep -Eq '^ok +CUDA +none: no NVIDIA driver' "$tmp/doctor"; then
    grep -Eq '^ok +device +cuda:size=16M: .*the NVIDIA driver.s library, libcuda.so.1, cannot be opened \(it comes with' "$tmp/doctor" ||
        fail "the doctor does not say why cuda: does not open: $(grep cuda: "$tmp/doctor")"
    wrong 1 'the NVIDIA driver.s library, libcuda.so.1, cannot be opened' bench thp --size 2M --rounds 1 --device cuda:size=64M
fi

fake=$UHMM_BUILD/tests/libfake_cuda.so
if [ ! -e "$fake" ]; then
    echo 'the stand-in for libcuda.so.1 is not built: only absence was tested'
    exit 0
fi
mkdir "$tmp/lib"
ln -s "$fake" "$tmp/lib/libcuda.so.1"
LD_LIBRARY_PATH=$tmp/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH

run 0 doctor
out '^ok +device +cuda:size=16M opens, 16 MiB'
out '^degraded +CUDA +cuda:device=0 is fake old gpu, and cannot map memory'
out '^ok +CUDA +cuda:device=1 is fake gpu, 512 MiB, 2 copy engines, compute capability 8.0; the driver is for CUDA 12.4'
wrong 1 'no CUDA device "nothing"; the devices are 0 = fake old gpu, 1 = fake gpu' bench thp --device cuda:device=nothing
wrong 1 'size is more than the 512 MiB that fake gpu has free' bench thp --device cuda:size=1024T
wrong 125 'needs memory of the program.s process for itself' run --limit 64M --device cuda:size=64M -- true
run 0 bench thp --size 4M --rounds 1 --device cuda:device=1,size=64M

FAKE_CUDA_DEVICES=0 FAKE_CUDA_VERSION=0
export FAKE_CUDA_DEVICES FAKE_CUDA_VERSION
run 0 doctor
out '^ok +CUDA +none: no NVIDIA GPU, or CUDA_VISIBLE_DEVICES hides it'
FAKE_CUDA_VERSION=11010
run 0 doctor
out '^degraded +CUDA +the driver is for CUDA 11.1, 11.2 is needed'
wrong 1 'the NVIDIA driver is for CUDA 11.1; 11.2 or newer is needed' bench thp --device cuda:size=64M
