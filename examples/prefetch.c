/* SPDX-License-Identifier: MIT */
/*
 * Ask early: while a thread of the library moves one buffer, the program could work on another. uhmm_query() tells at
 * each step where the pages live.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

#include <uhmm/uhmm.h>

#define BYTES ((size_t)16 << 20)

static const char *const where_names[UHMM_NR_WHERES] = {
	[UHMM_WHERE_UNMAPPED] = "not mapped",
	[UHMM_WHERE_HOLE]     = "never touched",
	[UHMM_WHERE_SYSTEM]   = "in system memory",
	[UHMM_WHERE_SWAP]     = "swapped out",
	[UHMM_WHERE_MOVING]   = "on its way",
	[UHMM_WHERE_DEVICE]   = "on the device",
	[UHMM_WHERE_LOST]     = "lost by the device",
};

static int print_where(struct uhmm_space *space, char *mem, const char *when)
{
	struct uhmm_extent exts[16];
	size_t nr;
	char *at = mem;

	printf("%s:\n", when);
	while (at < mem + BYTES) {
		int r = uhmm_query(space, at, (size_t)(mem + BYTES - at), exts, 16, &nr);

		if (r)
			return r;
		for (size_t i = 0; i < nr; i++)
			printf("  %6llu KiB %s, pages of order %u\n",
			       (unsigned long long)(exts[i].end - exts[i].start) / 1024, where_names[exts[i].where],
			       exts[i].order);
		at = (char *)exts[nr - 1].end;
	}
	return 0;
}

static int there_and_back(struct uhmm_space *space, struct uhmm_device *dev, char *mem)
{
	int r;

	r = uhmm_prefetch(space, mem, BYTES, dev);
	if (!r)
		r = uhmm_prefetch_wait(space); /* a real program would do something useful first */
	if (!r)
		r = print_where(space, mem, "after a prefetch to the device");
	if (!r)
		r = uhmm_prefetch(space, mem, BYTES / 2, NULL);
	if (!r)
		r = uhmm_prefetch_wait(space);
	if (!r)
		r = print_where(space, mem, "after a prefetch of the first half back to the system");
	return r;
}

int main(void)
{
	struct uhmm_space *space;
	struct uhmm_device *dev;
	char *mem;
	int r;

	mem = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		return 1;
	for (size_t i = 0; i < BYTES / 2; i++) /* the second half stays untouched: it goes as a hole, without a copy */
		mem[i] = (char)(i % 251);

	r = uhmm_open(NULL, &space);
	if (r) {
		fprintf(stderr, "uhmm_open: %s\n", uhmm_strerror(r));
		return r == -EPERM || r == -ENOSYS || r == -EOPNOTSUPP ? 77 : 1;
	}
	r = uhmm_device_open(space, "emu:size=64M", &dev);
	if (!r)
		r = print_where(space, mem, "at first");
	if (!r)
		r = there_and_back(space, dev, mem);
	if (r)
		fprintf(stderr, "%s\n", uhmm_strerror(r));
	for (size_t i = 0; i < BYTES && !r; i++)
		r = mem[i] != (i < BYTES / 2 ? (char)(i % 251) : 0);
	return uhmm_close(space) || r;
}
