#!/bin/sh
# SPDX-License-Identifier: MIT
# redis-server with 1 GiB of values below 400 MiB, where permitted in a control group of 464: a full read-back, and a BGSAVE, which
# forks, whose file gives the same data. The child that saves reads at random, which takes minutes.
#   $1, $2: other numbers, of values of 1000 bytes and of MiB
run_dir=$(dirname "$0")/..
. "$run_dir/lib"

command -v redis-server >/dev/null && command -v redis-cli >/dev/null || { echo 'skipped: no redis'; exit 77; }
values=${1:-1000000} limit=${2:-400}
port=$((20000 + $$ % 20000))
cli() { redis-cli -p $port "$@"; }
up() { until cli ping >/dev/null 2>&1; do kill -0 "$1" || fail 'redis-server has ended'; done; }
digest() { cli debug digest; }

for spec in $devices; do
    echo "redis on $spec below $limit MiB"
    rm -f "$tmp/dump.rdb"
    cage "$(mib $((limit + 64)))"
    caged "$UHMM" run --limit "${limit}M" --device "$spec" $apart --stats "$tmp/stats" -- redis-server --port $port --dir "$tmp" \
        --save '' --appendonly no --enable-debug-command yes >"$tmp/log" 2>&1 &
    pid=$!
    up $pid
    cli debug populate $values key 1000 >/dev/null
    before=$(digest)
    if command -v redis-benchmark >/dev/null; then
        redis-benchmark -p $port -q -n 50000 -r $values -t get,lrange_100,lpush,sadd >"$tmp/benchmark" || fail 'redis-benchmark failed'
        cat "$tmp/benchmark"
        before=$(digest)
    fi
    cli bgsave >/dev/null
    until cli info persistence | grep -q 'rdb_bgsave_in_progress:0'; do sleep 0.2; done
    [ "$(digest)" = "$before" ] || fail 'the data has changed'
    cli shutdown nosave
    wait $pid || fail "redis-server on $spec: exit status $?"
    uncage
    redis-server --port $port --dir "$tmp" --save '' --enable-debug-command yes >"$tmp/log" 2>&1 &
    pid=$!
    up $pid
    until cli info persistence | grep -q '^loading:0'; do sleep 0.2; done
    [ "$(digest)" = "$before" ] || fail 'the saved file has other data'
    cli shutdown nosave
    wait $pid
done
