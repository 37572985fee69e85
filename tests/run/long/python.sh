#!/bin/sh
# SPDX-License-Identifier: MIT
# python3 with 1 GiB of objects and byte arrays below 512 MiB.
run_dir=$(dirname "$0")/..
. "$run_dir/lib"

command -v python3 >/dev/null || { echo 'skipped: no python3'; exit 77; }
cat >"$tmp/program.py" <<'P'
import hashlib
big = [bytearray((i * 7 + j) % 251 for j in range(1000)) * 16000 for i in range(36)]
small = {i: (str(i) * 4, [i, i + 1]) for i in range(2000000)}
h = hashlib.sha256()
for r in range(2):
    for i, b in enumerate(big):
        b[r * 17 + i] = r
        h.update(b)
print(h.hexdigest(), sum(len(v[0]) + v[1][1] for v in small.values()))
print(sum(len(small[i * 7919 % 2000000][0]) for i in range(200000)))
P
same 'python3 with 1 GiB' 512 python3 "$tmp/program.py"
