#!/bin/sh
# SPDX-License-Identifier: MIT
# python3 with small objects and large byte arrays, threads and subprocesses.
. "$(dirname "$0")/lib"

command -v python3 >/dev/null || exit 77
cat >"$tmp/program.py" <<'P'
import hashlib, subprocess, threading
big = [bytearray((i * 7 + j) % 251 for j in range(1000)) * 4000 for i in range(24)]
small = {i: (str(i) * 3, [i, i + 1]) for i in range(60000)}
sums = [None] * 4
def work(k):
    h = hashlib.sha256()
    for r in range(2):
        for i in range(k, len(big), 4):
            big[i][r * 17 + i] = r
            h.update(big[i])
    sums[k] = h.hexdigest()
threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
print(sums, sum(len(v[0]) + v[1][1] for v in small.values()))
print(subprocess.run(['sh', '-c', 'echo child; exit 3'], capture_output=True))
print(hashlib.sha256(b''.join(bytes(b[::64]) for b in big)).hexdigest())
P
same 'python3' 64 python3 "$tmp/program.py"
