#!/bin/sh
# SPDX-License-Identifier: MIT
# A machine without OpenCL, or without the device that was asked for, is told so in one sentence.
. "$(dirname "$0")/lib"
need_userfaultfd

mkdir "$tmp/none"
OCL_ICD_VENDORS=$tmp/none OPENCL_VENDOR_PATH=$tmp/none
export OCL_ICD_VENDORS OPENCL_VENDOR_PATH

run 0 doctor
out '^ok +device +opencl:size=16M: .*(there is no OpenCL platform: no driver \(ICD\) is installed|libOpenCL.so.1, cannot be opened)'
out '^ok +OpenCL +none: no '
wrong 1 '(no OpenCL platform: no driver \(ICD\) is installed|libOpenCL.so.1, cannot be opened)' \
    bench thp --size 2M --rounds 1 --device opencl:size=64M
wrong 1 'library=/nonexistent.so.*cannot be opened: /nonexistent.so' \
    bench thp --size 2M --rounds 1 --device opencl:size=64M,library=/nonexistent.so
unset OCL_ICD_VENDORS OPENCL_VENDOR_PATH

run 0 doctor
if ! grep -Eq '^ok +OpenCL +opencl:device=0 is ' "$tmp/out"; then
    echo 'no OpenCL device here: only its absence was tested'
    exit 0
fi
out '^ok +device +opencl:size=16M opens, 16 MiB'
out '^ok +OpenCL +opencl:device=0 is .*, .* [GM]iB, .* at most in one buffer'
wrong 1 'no OpenCL platform "nobody"; the platforms are 0 = ' bench thp --device opencl:platform=nobody
wrong 1 'no OpenCL device "nothing"; the devices are 0 = ' bench thp --device opencl:device=nothing
wrong 1 'size is more than the .* MiB that ' bench thp --device opencl:size=1024T
wrong 2 'size must be a multiple of 2M' bench thp --device opencl:size=3M
wrong 125 'needs memory of the program.s process for itself' run --limit 64M --device opencl:size=64M -- true
run 0 bench thp --size 4M --rounds 1 --device opencl:device=0,platform=0,size=64M
