#!/bin/sh
# SPDX-License-Identifier: MIT
# Two devices, the first small: what nobody touches moves on to the second.
. "$(dirname "$0")/lib"

for spec in lz4:size=16M zstd:size=16M; do
    "$UHMM" run --limit 64M --device "$spec" -- true >/dev/null 2>&1 && break
    spec=''
done
[ -n "$spec" ] || spec='emu:size=16M --emu-apart'

# shellcheck disable=SC2086 # spec may be two words
"$UHMM" run --verbose --limit 64M --device $spec --device "file:$tmp/cold.%p,size=4G" --stats "$tmp/stats" -- "$CHURN" 256 "${1:-4}" 2 1 \
    >"$tmp/out" 2>"$tmp/err" || fail "churn: exit status $?"
out 'all bytes right$'
grep -q 'moved on' "$tmp/err" || fail 'the summary does not say what moved on'
[ "$(number lost_pages)" = 0 ] || fail 'pages were lost'
[ "$(number evicted_bytes)" -gt 0 ] || fail 'nothing left'
[ "$(number onward_bytes)" -gt 0 ] || fail 'nothing moved on'
