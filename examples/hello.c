/* SPDX-License-Identifier: MIT */
/* The smallest program: memory goes to a device, a CPU touches it, and it is back. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <uhmm/uhmm.h>

#define BYTES ((size_t)64 << 20)

int main(void)
{
	struct uhmm_space *space;
	struct uhmm_device *dev;
	char *mem;
	int r;

	mem = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		return 1;
	madvise(mem, BYTES, MADV_HUGEPAGE);
	memset(mem, 'x', BYTES);

	r = uhmm_open(NULL, &space);
	if (r) {
		fprintf(stderr, "uhmm_open: %s\n", uhmm_strerror(r));
		return r == -EPERM || r == -ENOSYS || r == -EOPNOTSUPP ? 77 : 1;
	}
	r = uhmm_device_open(space, "emu:size=128M", &dev);
	if (!r)
		r = uhmm_to_device(space, mem, BYTES, dev, 0, NULL);
	if (r)
		fprintf(stderr, "to the device: %s\n", uhmm_strerror(r));

	printf("the byte in the middle is '%c'\n", mem[BYTES / 2]); /* this touch brings it back */
	return uhmm_close(space) || mem[BYTES - 1] != 'x';
}
