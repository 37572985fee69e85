#!/bin/sh
# SPDX-License-Identifier: MIT
# A daemon whose parent has ended before uhmm in the daemon has looked who the parent is, is limited.
. "$(dirname "$0")/lib"

command -v cc >/dev/null || exit 77
cd "$tmp" || exit 1

# Preloaded behind uhmm's library it is initialised before, and so the first to run in a child.
cat >first.c <<'C'
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <unistd.h>
static pid_t parent;
static void before(void) { parent = getpid(); }
static void in_child(void)
{
	while (getppid() == parent)
		sched_yield();
}
__attribute__((constructor)) static void begin(void) { pthread_atfork(before, NULL, in_child); }
C
cat >daemon.c <<'C'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(void)
{
	FILE *f;

	if (fork())
		_exit(0);
	for (int i = 0; i < 200; i++)
		memset(malloc(1 << 20), i + 1, 1 << 20);
	f = fopen("pid.new", "w");
	fprintf(f, "%d\n", (int)getpid());
	fclose(f);
	rename("pid.new", "pid");
	while (access("end", F_OK))
		usleep(10000);
	return unlink("end");
}
C
cc -shared -fPIC -o first.so first.c && cc -o daemon daemon.c || exit 77
spec=$(echo $devices | cut -d' ' -f1)
LD_PRELOAD="$tmp/first.so" "$UHMM" run --limit 64M --device "$spec" $apart -- ./daemon
until [ -e pid ]; do sleep 0.1; done
"$UHMM" stat --json "$(cat pid)" >"$tmp/stats"
touch end
while [ -e end ]; do sleep 0.1; done
grep -q '"managed":"yes"' "$tmp/stats" || fail "the daemon is not limited: $(cat "$tmp/stats")"
[ "$(number evicted_bytes)" -gt 0 ] || fail 'nothing left the daemon'
exit 0
