/* SPDX-License-Identifier: MIT */
#include "tools/region.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "tools/say.h"
#include "tools/size.h"
#include "uhmm/space.h"

static int no_memory(uint64_t bytes, const char *call)
{
	char text[SIZE_CHARS];
	int err = errno;

	say("%s of %s failed: %s; try a smaller --size", call, size_print(bytes, text), strerror(err));
	return -err;
}

int region_init(struct region *r, uint64_t bytes, enum region_pages pages)
{
	int advice = pages == REGION_HUGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;

	memset(r, 0, sizeof(*r));
	r->bytes = bytes;
	r->pages = pages;
	/* a page that stays inaccessible before, whatever the alignment costs, and at least one behind */
	r->reserved_bytes = bytes + 2 * UHMM_BLOCK_BYTES;
	r->reserved = mmap(NULL, r->reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (r->reserved == MAP_FAILED) {
		r->reserved = NULL;
		return no_memory(bytes, "mmap");
	}
	r->mem = (unsigned char *)size_round_up((uintptr_t)r->reserved + UHMM_PAGE_BYTES, UHMM_BLOCK_BYTES);
	if (mprotect(r->mem, bytes, PROT_READ | PROT_WRITE)) {
		int err = no_memory(bytes, "mprotect");

		region_fini(r);
		return err;
	}
	/* a kernel without THP refuses the advice and has base pages only: what the caller then sees is the truth */
	madvise(r->mem, bytes, advice);
	return 0;
}

void region_fini(struct region *r)
{
	if (r->reserved)
		munmap(r->reserved, r->reserved_bytes);
	memset(r, 0, sizeof(*r));
}

uint64_t region_thp_bytes(const struct region *r)
{
	uint64_t from = (uintptr_t)r->mem, to = from + r->bytes, start, end, kib, sum = 0;
	FILE *f = fopen("/proc/self/smaps", "re");
	bool inside = false;
	char line[512];

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) == 2)
			inside = start < to && end > from;
		else if (inside && sscanf(line, "AnonHugePages: %" SCNu64, &kib) == 1)
			sum += kib * 1024;
	}
	fclose(f);
	return sum;
}

void region_fill(struct region *r)
{
	uint64_t *word = (uint64_t *)r->mem;

	for (uint64_t i = 0; i < r->bytes / sizeof(*word); i++)
		word[i] = region_word(i);
}

bool region_is_intact(const struct region *r)
{
	const uint64_t *word = (const uint64_t *)r->mem;
	uint64_t wrong = 0;

	for (uint64_t i = 0; i < r->bytes / sizeof(*word); i++)
		wrong |= word[i] ^ region_word(i);
	return !wrong;
}

static inline uint64_t mix(uint64_t sum, uint64_t word)
{
	sum = (sum ^ word) * UINT64_C(0x9fb21c651e98df25);
	return sum << 29 | sum >> 35;
}

/* Four chains, so that the multiplications of neighbours overlap; each is bijective in its sum and in its word. */
uint64_t region_sum(const void *mem, uint64_t bytes)
{
	uint64_t a = 1, b = 2, c = 3, d = 4;

	for (const uint64_t *w = mem, *end = w + bytes / sizeof(*w); w < end; w += 4) {
		a = mix(a, w[0]);
		b = mix(b, w[1]);
		c = mix(c, w[2]);
		d = mix(d, w[3]);
	}
	return mix(mix(mix(mix(bytes, a), b), c), d);
}
