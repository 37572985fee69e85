#!/bin/sh
# SPDX-License-Identifier: MIT
# A Java program with 1 GiB of live objects below 512 MiB.
run_dir=$(dirname "$0")/..
. "$run_dir/lib"

command -v javac >/dev/null && command -v java >/dev/null || { echo 'skipped: no Java'; exit 77; }
javac -d "$tmp" "$run_dir/programs/Table.java" || fail 'Table.java does not compile'
same 'Java with 1 GiB' 512 java -Xmx2g -cp "$tmp" Table 1000000 1
