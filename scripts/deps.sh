#!/bin/sh
# SPDX-License-Identifier: MIT
#
# deps.sh --build | --ci: finds what a build (or every step of .ci/run) needs and is not here, and installs it.
#
# A thing counts as present when it works, wherever it came from; only what is missing is asked of apt, and when nothing
# is, apt is not called at all. Where there is no apt, or no right to use it, the list is printed, and the exit status is
# 1 only if something is missing that a build cannot do without.
set -u
cd "$(dirname "$0")/.." || exit 1

needed='' optional=''

# want needed|optional PACKAGE WHAT-FOR CHECK...
want() {
    kind=$1 package=$2 what=$3
    shift 3
    "$@" >/dev/null 2>&1 && return
    if [ "$kind" = needed ]; then needed="$needed $package"; else optional="$optional $package"; fi
    echo "missing: $what (Debian: $package)"
}

have() { command -v "$1"; }
compiles() { printf '#include <%s>\nint main(void) { return 0; }\n' "$2" | "$1" -x c -o /dev/null -; }
has_library() { PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep -q "$1 "; }
has_opencl_driver() { ls "${OCL_ICD_VENDORS:-/etc/OpenCL/vendors}"/*.icd; }
meson_is_new() { meson --version | awk -F. '{ ok = $1 >= 1 } END { exit !ok }'; }
clang_sanitizes() { echo 'int main(void) { return 0; }' | clang -fsanitize=thread -x c -o /dev/null -; }
clang_major() { clang -dumpversion 2>/dev/null | cut -d. -f1; }

want needed gcc 'a C compiler' have gcc
want needed libc6-dev 'the C library headers' compiles gcc stdio.h
want needed meson 'meson 1.0 or newer' meson_is_new
want needed ninja-build 'ninja' have ninja
want optional pkg-config 'pkg-config, which finds libraries' have pkg-config
want optional libcmocka-dev 'cmocka, for the tests' pkg-config --exists cmocka
want optional liburing-dev 'liburing, for the driver file:' pkg-config --exists 'liburing >= 2.2'
want optional libzstd1 'libzstd, for the driver zstd:' has_library libzstd.so.1
want optional liblz4-1 'liblz4, for the driver lz4:' has_library liblz4.so.1
want optional ocl-icd-libopencl1 'the loader of OpenCL drivers, for the driver opencl:' has_library libOpenCL.so.1
want optional pocl-opencl-icd 'an OpenCL driver, for the tests of opencl:' has_opencl_driver
want optional libjansson-dev 'jansson, for the reports of the uhmm command' pkg-config --exists jansson
want optional gnuplot-nox 'gnuplot, for the plots of uhmm bench' have gnuplot
if [ "${1:-}" = --ci ]; then
    want optional clang 'clang' have clang
    want optional clang-runtime "clang's sanitizer runtime (libclang-rt-N-dev)" clang_sanitizes
    want optional gcc-aarch64-linux-gnu 'a compiler for aarch64' have aarch64-linux-gnu-gcc
    want optional libc6-dev-arm64-cross 'C library headers for aarch64' compiles aarch64-linux-gnu-gcc stdio.h
    want optional mandoc 'mandoc, which checks the man pages' have mandoc
fi

[ -n "$needed$optional" ] || exit 0

give_up() {
    echo "$1"
    [ -z "$needed" ] && exit 0
    echo "cannot build without:$needed"
    exit 1
}

# An apt that failed for the sake of something optional is not asked again before `make clean`.
tried=build/.deps-tried
[ -z "$needed" ] && [ "${1:-}" != --ci ] && [ -f "$tried" ] && give_up 'going on without'

have apt-get >/dev/null || give_up 'no apt-get here: please install the above by hand'
if [ "$(id -u)" = 0 ]; then
    as_root='env'
elif have sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root='sudo -n env'
else
    give_up 'neither root nor sudo: please install the above by hand'
fi
apt="$as_root DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3"

$apt update || echo 'apt-get update failed: trying with the lists that are here'

# The runtime is versioned as clang is; where no such package exists, clang's own packages bring it along.
packages=''
for package in $needed $optional; do
    if [ "$package" = clang-runtime ]; then
        major=$(clang_major)
        [ -n "$major" ] || major=$(apt-cache depends clang | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p' | head -n 1)
        package=libclang-rt-$major-dev
        apt-cache show "$package" >/dev/null 2>&1 || continue
    fi
    packages="$packages $package"
done
echo "installing:$packages"
if ! $apt install -y --no-install-recommends $packages >/dev/null; then
    for package in $packages; do # one that cannot be had must not take the others with it
        $apt install -y --no-install-recommends "$package" >/dev/null || echo "could not install $package"
    done
    mkdir -p build && : >"$tried"
fi

for check in gcc meson ninja; do
    have "$check" >/dev/null || { echo "cannot build without $check"; exit 1; }
done
meson_is_new || { echo 'cannot build: meson 1.0 or newer is needed'; exit 1; }
