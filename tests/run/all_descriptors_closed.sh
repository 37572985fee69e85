#!/bin/sh
# SPDX-License-Identifier: MIT
# A program that closes every descriptor, as daemons do, finds its memory as it was: uhmm's are out of its reach, and it is given
# numbers as if there were none. What it has closed is closed: who reads the other end of its pipe sees the end.
. "$(dirname "$0")/lib"

command -v python3 >/dev/null || exit 77
cat >"$tmp/program.py" <<'P'
import hashlib, os
def check(big):
    h = hashlib.sha256()
    for b in big:
        h.update(b)
    return h.hexdigest()
os.closerange(3, 4096)
# before anything has left, and when much has
big = [bytearray((i * 7 + j) % 251 for j in range(1000)) * 4000 for i in range(40)]
before = check(big)
os.closerange(3, 4096)
read, write = os.pipe()
print(read, write, before == check(big))
more = [bytes(b) for b in big[:10]]
if os.fork() == 0:
    os.closerange(3, 4096)
    os._exit(big[5] != more[5] or os.dup(0) != 3)
print(os.wait()[1], before == check(big), more[7] == big[7])
os.close(write)
print(os.read(read, 1))
P
# The child is given copies of all that is away, and what the parent shares with it cannot leave: the limit is others' matter.
cage() { :; }
slack=256
same 'closing all descriptors' 64 python3 "$tmp/program.py"

# a daemon keeps no pipe open that it has closed
cat >"$tmp/daemon.py" <<'P'
import os, time
big = bytearray(b'some' * (40 << 18))
if os.fork():
    os._exit(0)
for fd in range(3):
    os.close(fd)
    os.open('/dev/null', os.O_RDWR)
big[::4096] = b'x' * len(big[::4096])
while not os.path.exists('end'):
    time.sleep(0.01)
os.unlink('end')
P
cd "$tmp" || exit 1
spec=$(echo $devices | cut -d' ' -f1)
"$UHMM" run --limit 64M --device "$spec" $apart -- python3 "$tmp/daemon.py" | cat
touch end
while [ -e end ]; do sleep 0.1; done
exit 0
