#!/bin/sh
# SPDX-License-Identifier: MIT
# A Java program: a collected heap, threads of the runtime, its own handlers for SIGSEGV.
. "$(dirname "$0")/lib"

command -v javac >/dev/null && command -v java >/dev/null || { echo 'skipped: no Java'; exit 77; }
javac -d "$tmp" "$(dirname "$0")/programs/Table.java" || fail 'Table.java does not compile'
same 'Java' 112 java -Xmx256m -cp "$tmp" Table 100000 1
