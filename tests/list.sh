#!/bin/sh
# SPDX-License-Identifier: MIT
# list.sh FOLDER PATTERN: the files of tests/FOLDER that match, one a line; none is fine.
cd "$(dirname "$0")" || exit 1
[ -d "$1" ] || exit 0
find "$1" -maxdepth 1 -type f -name "$2" | LC_ALL=C sort
