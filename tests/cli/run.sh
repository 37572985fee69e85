#!/bin/sh
# SPDX-License-Identifier: MIT
# uhmm run says what is wrong in one sentence, and is not to be seen where nothing is.
. "$(dirname "$0")/lib"

dev='--device emu:size=64M --emu-apart'

# ---- what is wrong with the words ----

wrong 125 'needs a program' run
wrong 125 'needs a program' run --limit 1G
wrong 125 'not a size' run --limit lots $dev -- true
wrong 125 'not a size' run --limit 0 $dev -- true
wrong 125 'below 48 MiB' run --limit 1M $dev -- true
wrong 125 'there is no option' run --what -- true
wrong 125 'count against the limit' run --limit 64M --device emu: -- true
wrong 125 'cannot be written' run --limit 64M $dev --stats "$tmp/no/such/folder" -- true
wrong 127 'no such program' run $dev -- uhmm-has-no-such-program
wrong 127 'cannot be run' run $dev -- "$tmp/there-is-none"
wrong 126 'cannot be run' run $dev -- "$tmp"
echo 'text' >"$tmp/text"
wrong 126 'cannot be run' run $dev -- "$tmp/text"
run 0 run --help
out 'Usage: uhmm run'

# ---- programs in which a preload library does nothing ----

if command -v cc >/dev/null && echo 'int main(void) { return 0; }' | cc -static -x c - -o "$tmp/static" 2>/dev/null; then
    wrong 125 'statically linked' run $dev -- "$tmp/static"
    printf '#!%s\n' "$tmp/static" >"$tmp/script"
    chmod +x "$tmp/script"
    wrong 125 'statically linked' run $dev -- "$tmp/script"
fi
if [ "$(id -u)" = 0 ]; then
    cp /bin/true "$tmp/setuid" && chown 1 "$tmp/setuid" && chmod 4755 "$tmp/setuid"
    wrong 125 'setuid' run $dev -- "$tmp/setuid"
fi

need_userfaultfd
left_over() { ls "${XDG_RUNTIME_DIR:-/dev/shm}" /dev/shm /tmp 2>/dev/null | grep '^uhmm-run' | sort -u; }
left_over >"$tmp/before"
wrong 125 'no driver' run --limit 64M --device nothing: -- true
wrong 125 'size' run --limit 64M --device emu:size=3 --emu-apart -- true

# ---- the program is the program ----

run 3 run $dev -- sh -c 'exit 3'
run 143 run $dev -- sh -c 'kill -TERM $$'
echo 'to and fro' | "$UHMM" run $dev -- cat >"$tmp/out" 2>"$tmp/err" || fail 'cat'
out '^to and fro$'
[ ! -s "$tmp/err" ] || fail 'cat: something on standard error'
run 0 run $dev -- sh -c 'trap "echo caught; exit 0" USR1; kill -USR1 $$; sleep 5'
out '^caught$'
run 0 run $dev -- sh -c 'echo $$; exec sh -c "echo \$\$"'
[ "$(sort -u "$tmp/out" | wc -l)" = 1 ] || fail 'the process number has changed'
i=0
while [ $i -lt 30 ]; do
    echo abc
    i=$((i + 1))
done >"$tmp/in"
run 0 run $dev -- sh -c "cat '$tmp/in' | cat | sort | uniq -c | cat"
out '^ *30 abc$'

# ---- figures ----

run 0 run --limit 64M $dev --stats "$tmp/stats" -- true
grep -Eq '^\{"pid":[0-9]+,"managed":"not_needed",' "$tmp/stats" || fail 'no figures'
cd "$tmp" || exit 1
run 0 run --limit 64M $dev --stats here -- true
[ -s "$tmp/here" ] || fail 'no figures in a file named without a folder'
if [ -w /dev/full ]; then
    run 0 run --limit 64M $dev --stats /dev/full -- true
    grep -q 'figures cannot be written to /dev/full: No space left' "$tmp/err" || fail 'a full disk for --stats is not told'
fi

# ---- nothing is left over ----

left_over | while read -r file; do
    grep -q "$file" "$tmp/before" || kill -0 "$(echo "$file" | cut -d. -f2)" 2>/dev/null || echo "$file"
done >"$tmp/left"
[ ! -s "$tmp/left" ] || fail "$(cat "$tmp/left") was left over"
exit 0
