#!/bin/sh
# SPDX-License-Identifier: MIT
# uhmm stat and uhmm top tell what a process under uhmm run holds and does.
. "$(dirname "$0")/lib"

wrong 2 'needs the number' stat
wrong 2 'not the number of a process' stat me
wrong 1 'does not run under' stat $$
wrong 1 'does not run under' top --count 1 $$
wrong 2 'out of range' top --delay 0 --count 1
wrong 2 'out of range' top --count 0

need_userfaultfd

# A process that waits until it has been looked at.
mkfifo "$tmp/wait"
"$UHMM" run --limit 64M --device emu:size=64M --emu-apart -- sh -c "read line <'$tmp/wait'" &
pid=$!
tries=0
until "$UHMM" stat $pid >"$tmp/out" 2>"$tmp/err"; do
    kill -0 $pid || fail 'the process has ended'
    tries=$((tries + 1))
done
out '^limit of the run +64 MiB$'
out 'not been near the limit'
run 0 stat --json $pid
json_lines
[ "$(field pid)" = $pid ] || fail 'another process'
[ "$(field run_limit_bytes)" = 67108864 ] || fail 'another limit'
run 0 top --count 2 --delay 0.1 $pid
out "^ *$pid sh "
out 'emu:size=64M'
[ "$(grep -c PROGRAM "$tmp/out")" = 2 ] || fail 'not two tables'
run 0 top -n 1
out "^ *$pid sh "
echo go >"$tmp/wait"
wait $pid || fail 'the program failed'
wrong 1 'does not run under' stat $pid

# One that is limited.
if command -v python3 >/dev/null; then
    "$UHMM" run --limit 64M --device emu:size=1G --emu-apart -- python3 -c "
b = bytearray(bytes(range(1, 256))) * 500000
print(b[::100000].hex(), flush=True)
open('$tmp/wait').read()
print(b[::100000].hex())" >"$tmp/sums" &
    pid=$!
    until "$UHMM" stat $pid 2>/dev/null | grep -q 'gone to devices'; do
        kill -0 $pid || fail 'the process has ended'
    done
    run 0 stat $pid
    out '^emu:size=1G +'
    out '^faults +[0-9]+, '
    out '^GB/s '
    until "$UHMM" top -n 1 $pid 2>/dev/null | grep -q 'a character for'; do
        kill -0 $pid || fail 'the process has ended'
    done
    run 0 top -n 1 $pid
    out '1 emu:size=1G$'
    out '^ +[#.1]+$'
    run 0 stat --json $pid
    json_lines
    [ "$(field evicted_bytes)" -ge 0 ] && [ "$(field ahead_bytes)" -ge 0 ] && [ "$(field returned_bytes)" -ge 0 ] || fail 'no bytes'
    echo go >"$tmp/wait"
    wait $pid || fail 'the program failed'
    [ "$(sort -u "$tmp/sums" | wc -l)" = 1 ] || fail 'bytes have changed'
fi
exit 0
