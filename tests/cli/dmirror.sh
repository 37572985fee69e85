#!/bin/sh
# SPDX-License-Identifier: MIT
# A program that talks to Linux's HMM test device finds one, and its memory goes there and comes back.
. "$(dirname "$0")/lib"

wrong 2 'needs a program' dmirror
wrong 127 'cannot be run' dmirror -- "$tmp/there-is-none"
wrong 126 'cannot be run' dmirror -- "$tmp"
run 3 dmirror -- sh -c 'exit 3'
"$UHMM" doctor >"$tmp/out" 2>&1
[ $? = 0 ] || exit 77
command -v cc >/dev/null || exit 77

cat >"$tmp/client.c" <<'C'
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

struct cmd { uint64_t addr, ptr, npages, cpages, faults; };
static unsigned char buf[16 * 4096];

static int call(int fd, unsigned n, void *at, unsigned pages, struct cmd *c)
{
	*c = (struct cmd){ (uintptr_t)at, (uintptr_t)buf, pages };
	return ioctl(fd, _IOWR('H', n, struct cmd), c) ? -errno : 0;
}

#define WANT(x) do { if (!(x)) { printf("line %d: %s\n", __LINE__, #x); return 1; } } while (0)

int main(void)
{
	int fd = open("/dev/hmm_dmirror0", O_RDWR), other = open("/dev/hmm_dmirror1", O_RDWR);
	unsigned char *m = mmap(0, 16 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct cmd c;

	WANT(fd >= 0 && other >= 0 && open("/dev/hmm_dmirror2", O_RDWR) < 0 && errno == ENOENT);
	for (int i = 0; i < 16 * 4096; i++)
		m[i] = (unsigned char)(i * 7 + i / 4096);
	WANT(!call(fd, 2, m, 16, &c) && c.cpages == 16);
	WANT(!call(fd, 4, m, 16, &c) && buf[0] == 0x22 && buf[15] == 0x22); /* local, writable */
	WANT(!call(other, 4, m, 16, &c) && buf[0] == 0);
	WANT(call(other, 2, m, 16, &c) == -ENOENT);
	WANT(!call(fd, 0, m, 16, &c) && c.cpages == 16 && c.faults == 1);
	WANT(buf[5000] == (unsigned char)(5000 * 7 + 1) && m[5000] == buf[5000]);
	memset(buf, 9, sizeof(buf));
	WANT(!call(fd, 1, m, 16, &c) && m[0] == 9 && m[16 * 4096 - 1] == 9);
	WANT(!call(fd, 5, m, 16, &c) && call(fd, 6, m, 16, &c) == -EPERM);
	for (int i = 0; i < 16; i++)
		m[i * 4096]++;
	WANT(!call(fd, 6, m, 16, &c) && m[4096] == 10);
	WANT(!call(fd, 8, NULL, 1, &c)); /* the next allocation fails: that page stays */
	WANT(call(fd, 2, m, 1, &c) == -ENOENT && !call(fd, 2, m, 1, &c));
	WANT(!call(fd, 7, NULL, 0, &c) && !call(fd, 4, m, 1, &c) && buf[0] == 2);
	WANT(call(fd, 0, m + 1, 1, &c) == -EINVAL && call(fd, 0, m, 0, &c) == -EINVAL && call(fd, 40, m, 1, &c) == -EINVAL);
	WANT(!mprotect(m, 4096, PROT_NONE) && call(fd, 0, m, 1, &c) == -EFAULT && call(fd, 2, m, 1, &c) == -EINVAL);
	WANT(!mprotect(m, 4096, PROT_READ) && call(fd, 1, m, 1, &c) == -EPERM && !call(fd, 2, m, 1, &c) && m[0] == 10);
	WANT(!close(fd) && call(fd, 0, m, 1, &c) == -EBADF);
	puts("all is well");
	return 0;
}
C
cc -w "$tmp/client.c" -o "$tmp/client" || exit 77
run 0 dmirror -- "$tmp/client"
out '^all is well$'
