#!/bin/sh
# SPDX-License-Identifier: MIT
# A C++ program with containers of the standard library.
. "$(dirname "$0")/lib"

command -v c++ >/dev/null || { echo 'skipped: no C++ compiler'; exit 77; }
c++ -O2 -o "$tmp/table" "$(dirname "$0")/programs/table.cpp" || fail 'table.cpp does not compile'
same 'C++' 64 "$tmp/table" 200000
