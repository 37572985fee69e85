#!/bin/sh
# SPDX-License-Identifier: MIT
# "bench onewalk" sends absent memory in one walk and populated first, and checks what comes home.
. "$(dirname "$0")/lib"
need_userfaultfd

run 0 bench onewalk --size 8M --rounds 2 --json
json_lines
for pattern in absent half_blocks half_pages; do
    for dir in one_walk populate_first bytes_alone; do
        [ "$(grep "\"pattern\":\"$pattern\"" "$tmp/out" | grep -c "\"dir\":\"$dir\"")" = 1 ] || fail "not one row for $dir, $pattern"
    done
    [ -n "$(field ${pattern}_ratio)" ] || fail "no number under ${pattern}_ratio"
    [ -n "$(field ${pattern}_floor)" ] || fail "no number under ${pattern}_floor"
done
[ "$(grep -v summary "$tmp/out" | grep -c '"samples":2,')" = 9 ] || fail 'not two samples in each row'
tail -n 1 "$tmp/out" | grep -q '"bench":"onewalk","summary":true' || fail 'the summary is not the last line'

run 0 bench onewalk --size 1M --rounds 1
out 'wanted: at most 0.60'
out ' 4 MiB  huge .* half_blocks'
