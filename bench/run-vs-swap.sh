#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The same programs below the same limit, with `uhmm run` and with kernel swap, in one run and turn by turn: lz4: against zram with lz4
# and file: against a swapfile. Needs root, a memory control group, and zram. Usage: bench/run-vs-swap.sh [BUILD-DIRECTORY]
#
#   LIMIT, SET   MiB (256, 512)   ROUNDS (3)   PROGRAMS (seq block random sort)   DISK: a folder for file: and the swapfile ("" for none)
#
# A program's time is that of its uses, without filling its memory; for sort it is all. Each program must write what it writes without a
# limit. What zram keeps its data in does not count for a control group, while lz4: counts against uhmm's limit. So there are two rows of
# zram: with all of the limit for the program, and ("counted") with as much less as zram needed the last time.
set -u
cd "$(dirname "$0")/.." || exit 1
build=${1:-build}
uhmm=$PWD/$build/tools/uhmm pattern=$PWD/$build/bench/pattern
limit=${LIMIT:-256} set=${SET:-512} rounds=${ROUNDS:-3} programs=${PROGRAMS:-seq block random sort} disk=${DISK-/var/tmp}
tmp=$(mktemp -d) || exit 1
cage='' swap='' zram='' pool=0

say() { echo "run-vs-swap: $*" >&2; }
quit() { say "$*"; exit 77; }
bytes() { echo $(($1 * 1024 * 1024)); }

[ "$(id -u)" = 0 ] || quit 'needs root'
[ -x "$uhmm" ] && [ -x "$pattern" ] || { say "no $uhmm or no $pattern; build first"; exit 2; }
[ -z "$(swapon --noheadings --show)" ] || quit 'swap is on already: switch it off first'

# ---- a control group ----

for root in /sys/fs/cgroup/memory /sys/fs/cgroup; do
    [ -e $root/memory.limit_in_bytes ] || [ -e $root/cgroup.subtree_control ] || continue
    mkdir $root/uhmm-bench-$$ 2>/dev/null && { cage=$root/uhmm-bench-$$; break; }
done
[ -n "$cage" ] || quit 'no memory control group can be made'
max=$cage/memory.limit_in_bytes peak=$cage/memory.max_usage_in_bytes
[ -e $max ] || max=$cage/memory.max peak=$cage/memory.peak
[ -e $max ] || { rmdir $cage; quit 'the control group has no memory limit'; }

# caged MIB COMMAND...
caged() {
    echo "$(bytes "$1")" >$max || exit 1
    [ ! -e $cage/memory.max_usage_in_bytes ] || echo 0 >$peak
    shift
    (echo 0 >$cage/cgroup.procs && exec "$@")
}

# ---- swap ----

swap_off() {
    [ -z "$swap" ] || swapoff "$swap"
    [ -z "$zram" ] || echo "$zram" >/sys/class/zram-control/hot_remove 2>/dev/null || echo 1 >/sys/block/zram"$zram"/reset
    swap='' zram=''
}
clean() {
    swap_off
    rmdir "$cage" 2>/dev/null
    rm -rf "$tmp" "$disk/uhmm-swap.$$"
}
trap clean EXIT
trap 'exit 130' INT TERM

zram_on() {
    zram=$(cat /sys/class/zram-control/hot_add 2>/dev/null) || return 1
    echo lz4 >/sys/block/zram"$zram"/comp_algorithm 2>/dev/null && echo "$(bytes $((4 * set)))" >/sys/block/zram"$zram"/disksize &&
        mkswap -q /dev/zram"$zram" >/dev/null && swapon /dev/zram"$zram" && swap=/dev/zram$zram
}
file_on() {
    if [ ! -e "$disk/uhmm-swap.$$" ]; then
        dd if=/dev/zero of="$disk/uhmm-swap.$$" bs=1M count=$((2 * set)) 2>/dev/null && chmod 600 "$disk/uhmm-swap.$$" &&
            mkswap -q "$disk/uhmm-swap.$$" >/dev/null || return 1
    fi
    swapon "$disk/uhmm-swap.$$" && swap=$disk/uhmm-swap.$$
}

# ---- the programs ----

command_of() {
    case $1 in
    seq)    echo "$pattern seq $(bytes $set) 3" ;;
    block)  echo "$pattern block $(bytes $set) $set" ;;
    random) echo "$pattern random $(bytes $set) 100000" ;;
    sort)   echo "sort -S $((8 * set))M --parallel=1 $tmp/lines" ;;
    esac
}

case " $programs " in
*' sort '*)
    # text and pointers together: as much as the others' set
    awk -v n=$((set * 7500)) 'BEGIN { srand(7); for (i = 0; i < n; i++) printf "%.0f %d %s\n", rand() * 1e15, i,
        "a line of some bytes that are always the same" }' >"$tmp/lines" ;;
esac

# measure NAME HOW: seconds in $took, MiB at most in $most
measure() {
    local name=$1 how=$2 run t0 t1
    read -ra run < <(command_of "$name")
    t0=$(date +%s%N)
    case $how in
    plain) "${run[@]}" ;;
    lz4)   caged $((limit + 64)) "$uhmm" run --limit ${limit}M --device lz4: --stats "$tmp/stats" -- "${run[@]}" ;;
    file)  caged $((limit + 64)) "$uhmm" run --limit ${limit}M --device "file:$disk/uhmm.%p,size=${set}M" --stats "$tmp/stats" -- \
               "${run[@]}" ;;
    zram|swapfile) caged "$limit" "${run[@]}" ;;
    counted) caged $((limit - pool)) "${run[@]}" ;;
    esac >"$tmp/out" 2>"$tmp/err" || { say "$name with $how failed"; cat "$tmp/err" >&2; exit 1; }
    t1=$(date +%s%N)
    took=$(sed -n 's/^ns //p' "$tmp/err")
    took=${took:-$((t1 - t0))}
    p50=$(sed -n 's/.*p50_ns \([0-9]*\).*/\1/p' "$tmp/err")
    case $how in
    plain) most=0; cp "$tmp/out" "$tmp/$name.right" ;;
    lz4|file) most=$(grep -Eo '"resident_max_bytes":[0-9]+' "$tmp/stats" | cut -d: -f2) ;;
    *) most=$(cat $peak) ;;
    esac
    most=$((most / 1048576))
    if [ -n "$zram" ]; then
        pool=$(($(awk '{ print $5 }' /sys/block/zram"$zram"/mm_stat) / 1048576))
        [ $pool -lt $((limit * 3 / 4)) ] || pool=$((limit * 3 / 4)) # with less it cannot live
        [ "$how" = zram ] || most=$((most + pool))
    fi
    cmp -s "$tmp/out" "$tmp/$name.right" || { say "$name with $how: the output differs"; exit 1; }
}

# one NAME HOW
one() {
    measure "$1" "$2"
    printf '%-8s %-9s %10.3f s  at most %4d MiB%s\n' "$1" "$2" "$(echo "$took / 1000000000" | bc -l)" "$most" "${p50:+  p50 $((p50 / 1000)) us}"
    echo "$took" >>"$tmp/$1.$2"
}

median() { sort -n "$1" | sed -n "$((($(wc -l <"$1") + 1) / 2))p"; }

# ratio NAME OURS THEIRS
ratio() {
    ratios+=$(printf '%-8s %-4s / %-9s %7.2f' "$1" "$2" "$3" "$(echo "$(median "$tmp/$1.$2") / $(median "$tmp/$1.$3")" | bc -l)")$'\n'
}

# pairs OURS THEIRS ON
pairs() {
    local name round
    for name in $programs; do
        for ((round = 0; round < rounds; round++)); do
            one "$name" "$1"
            "$3" || { swap_off; say "no $2 here"; return; }
            one "$name" "$2"
            swap_off
            [ "$2" = zram ] || continue
            "$3" && one "$name" counted
            swap_off
        done
        [ "$2" != zram ] || ratio "$name" "$1" counted
        ratio "$name" "$1" "$2"
        ratio "$name" "$1" plain
    done
}

ratios=''
echo "limit $limit MiB, working set $set MiB, $rounds rounds"
for name in $programs; do one "$name" plain; done
pairs lz4 zram zram_on
[ -z "$disk" ] || pairs file swapfile file_on
echo
printf '%s' "$ratios"
