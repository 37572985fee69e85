#!/bin/sh
# SPDX-License-Identifier: MIT
# What cannot be meant is refused with one sentence that names it, before anything is measured.
. "$(dirname "$0")/lib"

wrong 2 'command is needed'
wrong 2 'no command "frobnicate"' frobnicate
wrong 2 'no option --frobnicate' doctor --frobnicate
wrong 2 'no option -x' demo -x
wrong 2 '"extra" is one word too many' doctor extra
wrong 2 '--json takes no value' demo --json=yes
wrong 2 '--size wants a value' bench thp --size
for size in '' 12Q -5M five 0x10 1e99; do
    wrong 2 "--size=$size is not a size" demo "--size=$size"
done
wrong 2 'nothing to move' demo --size=0
wrong 2 'nothing to move' bench thp --size 0
wrong 2 'out of range' bench thp --rounds 0
wrong 2 'out of range' bench floor --rounds=many
wrong 2 'say what to measure' bench
wrong 2 'no bench "speed"' bench speed
wrong 2 '"floor" is one word too many' bench thp floor
wrong 2 'leave --device away' bench scale --device emu:
wrong 2 'leave --plot away' bench scale --plot "$tmp/plot.svg"
wrong 2 'leave --plot away' bench onewalk --plot "$tmp/plot.svg"
wrong 2 'smallest device .* 1 GiB' bench scale --size 2G
wrong 2 '.svg or .png' bench thp --plot "$tmp/plot.gif"
wrong 1 'no/such/file.* cannot be read' demo --size 2M "$tmp/no/such/file"
wrong 1 'cannot be read' demo --size 2M "$tmp"
: >"$tmp/empty"
wrong 1 'empty is empty' demo --size 2M "$tmp/empty"
