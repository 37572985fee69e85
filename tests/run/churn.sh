#!/bin/sh
# SPDX-License-Identifier: MIT
# A program that checks every byte, in threads and forked children, at a quarter of its working set.
# $1: seconds
. "$(dirname "$0")/lib"

for spec in $devices; do
    for forks in 0 1; do
        echo "churn on $spec, forks: $forks"
        "$UHMM" run --limit 64M --device "$spec" $apart --stats "$tmp/stats" -- "$CHURN" 256 "${1:-4}" 4 $forks \
            >"$tmp/out" 2>"$tmp/err" || fail "churn on $spec: exit status $?"
        out 'all bytes right$'
        [ "$(number lost_pages)" = 0 ] || fail "churn on $spec: pages were lost"
        # with room for slow readers; two processes may need more than that on compressed RAM (docs/policy.md)
        [ $forks = 1 ] || [ "$(number resident_max_bytes)" -lt 134217728 ] ||
            fail "churn on $spec: $(number resident_max_bytes) bytes were held below a limit of 64M"
        [ "$(number evicted_bytes)" -gt 0 ] || fail "churn on $spec: nothing left"
    done
done
