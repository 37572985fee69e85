#!/bin/sh
# SPDX-License-Identifier: MIT
# --plot draws a picture with gnuplot, and says so early if it cannot.
. "$(dirname "$0")/lib"

# With no gnuplot in the path, and with a place that cannot be written to.
mkdir "$tmp/nothing"
PATH_BEFORE=$PATH
UHMM=$(realpath "$UHMM")
PATH=$tmp/nothing "$UHMM" bench thp --plot "$tmp/p.svg" >"$tmp/out" 2>"$tmp/err"
[ $? = 1 ] || fail 'no gnuplot: exit status is not 1'
PATH=$PATH_BEFORE
err '^uhmm: --plot needs gnuplot'
[ ! -e "$tmp/p.svg" ] || fail 'no gnuplot: a file was left behind'

command -v gnuplot >/dev/null || { echo 'skipped: gnuplot is not here'; exit 77; }
wrong 1 'cannot be written' bench thp --plot "$tmp/no/such/p.svg"
need_userfaultfd

run 0 bench thp --size 2M --rounds 1 --plot "$tmp/p q'.svg"
[ -s "$tmp/p q'.svg" ] || fail 'no picture'
grep -q '<svg' "$tmp/p q'.svg" || fail 'not an SVG'
[ ! -s "$tmp/err" ] || fail 'something on standard error'
run 0 bench device --device emu:size=64M --size 2M --rounds 1 --plot "$tmp/d.svg"
# three sizes a curve, whatever kind of pages they have
[ "$(grep -c '<title>to_device, 1 thread' "$tmp/d.svg")" = 1 ] || fail 'bench device: a way is not one curve'
run 0 bench thp --size 2M --rounds 1 --plot "$tmp/p.png"
[ -s "$tmp/p.png" ] || fail 'no picture'
