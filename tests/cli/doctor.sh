#!/bin/sh
# SPDX-License-Identifier: MIT
# The doctor always answers; its exit status and its verdict agree.
. "$(dirname "$0")/lib"

"$UHMM" doctor >"$tmp/out" 2>"$tmp/err"
status=$?
[ "$status" -le 1 ] || fail "doctor: exit status $status"
for check in kernel userfaultfd THP max_map_count RLIMIT_NOFILE memory 'control group' CPUs; do
    out "^(ok|degraded|missing) +$check "
done
if grep -q '^missing' "$tmp/out"; then verdict=1; else verdict=0; fi
[ "$status" = "$verdict" ] || fail "doctor: exit status $status, but the lines say $verdict"
if grep -q '^missing' "$tmp/out"; then out ' -> '; fi

run "$status" doctor --json
json_lines
out '"works":(true|false)'
[ "$(wc -l <"$tmp/out")" = 1 ] || fail 'doctor --json: more than one object'

[ "$status" = 0 ] || exit 77
run 0 doctor
out '^ok +device +emu:'
for driver in zstd lz4 file opencl cuda faulty slow trace; do out "^(ok|degraded) +device +$driver[:+]"; done
