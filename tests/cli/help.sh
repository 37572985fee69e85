#!/bin/sh
# SPDX-License-Identifier: MIT
# Help is asked for, and comes on standard output with exit status 0.
. "$(dirname "$0")/lib"

run 0 --help
for word in doctor demo bench dmirror; do
    out "^  $word "
done
run 0 --version
out '^uhmm [0-9]+\.[0-9]+\.[0-9]+$'

for command in doctor demo bench 'bench thp' 'bench floor' 'bench onewalk' 'bench scale'; do
    run 0 $command --help
    out '^Usage: uhmm '
    out '--json'
    out '--help'
    [ ! -s "$tmp/err" ] || fail 'help on standard error'
done
