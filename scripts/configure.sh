#!/bin/sh
# SPDX-License-Identifier: MIT
# configure.sh DIR [meson setup arguments]: sets DIR up if it is not; does it again when a test, an example or a
# meson.build came or went, because these are found by name.
set -eu
cd "$(dirname "$0")/.."

dir=$1
shift
folders=$(find . -path './build*' -prune -o -path './.git' -prune -o -type f \
    \( -path './tests/*' -o -path './examples/*' -o -name meson.build \) -print | LC_ALL=C sort)

if [ ! -f "$dir/build.ninja" ]; then
    meson setup "$dir" "$@"
elif [ "$folders" != "$(cat "$dir/.configured-for" 2>/dev/null)" ]; then
    meson setup --reconfigure "$dir" "$@"
fi
printf '%s\n' "$folders" >"$dir/.configured-for"
