/* SPDX-License-Identifier: MIT */
/*
 * staging=auto: which of the two ways of copy.c is the faster, each direction by itself.
 *
 * It cannot be known. Direct, CUDA copies to and from pinned memory of its own, with one thread, and how well it does that has
 * changed with its versions; the ring does the same with uhmm's copy for this CPU, but with more commands. And where the GPU
 * reads pageable memory by itself (a GPU that shares the host's page tables) direct needs no staging at all. So both are tried
 * when the device is opened: a few MiB each way, in copies as uhmm makes them, twice. The better of two counts: the first one pays
 * for what is set up.
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "drivers/cuda/cuda.h"

#define NR_TRIED 2u /* copies of a block, begun one after the other and then waited for */

/* Return: 0, or -errno. */
static int try_once(struct cuda *c, enum way way, char *host, unsigned nr, uint64_t *ret_ns)
{
	uint64_t fences[NR_TRIED] = { 0 }, began = clock_ns();
	int r = 0;

	for (unsigned i = 0; !r && i < nr; i++) {
		struct uhmm_seg seg = { i * BLOCK_BYTES, host + i * BLOCK_BYTES, BLOCK_BYTES };

		r = (way == IN ? cuda_copy_in : cuda_copy_out)(c, &seg, 1, &fences[i]);
	}
	for (unsigned i = 0; i < nr; i++) {
		int waited = fences[i] ? cuda_fence_wait(c, fences[i]) : 0;

		r = r ? r : waited;
	}
	*ret_ns = clock_ns() - began;
	return r;
}

static int measure(struct cuda *c, enum way way, char *host, unsigned nr)
{
	uint64_t best[2] = { UINT64_MAX, UINT64_MAX }, ns; /* direct, by the ring */

	for (unsigned round = 0; round < 4; round++) {
		int r;

		c->ring[way] = round & 1;
		r = try_once(c, way, host, nr, &ns);
		if (r)
			return r;
		best[round & 1] = min_u64(best[round & 1], ns);
	}
	c->ring[way] = best[1] <= best[0];
	log_say(UHMM_LOG_INFO, "%s: %u MiB %s take %llu us through pinned memory, and %llu us directly", c->chosen.name,
		nr << (BLOCK_SHIFT - 20), way == IN ? "in" : "out", (unsigned long long)best[1] / 1000,
		(unsigned long long)best[0] / 1000);
	return 0;
}

int cuda_staging_choose(struct cuda *c, char *ret_why, size_t why_bytes)
{
	unsigned nr = (unsigned)min_u64(NR_TRIED, c->size >> BLOCK_SHIFT);
	char *host = uhmm_host_alloc(NR_TRIED * BLOCK_BYTES);
	int r;

	if (!host)
		return -ENOMEM;
	memset(host, 0, NR_TRIED * BLOCK_BYTES);
	r = measure(c, IN, host, nr);
	if (!r)
		r = measure(c, OUT, host, nr);
	uhmm_host_free(host, NR_TRIED * BLOCK_BYTES);
	if (r)
		return err_why(ret_why, why_bytes, r, "%s fails the first copies", c->chosen.name);
	if (!c->ring[IN] && !c->ring[OUT] && !cuda_enter(c)) {
		cuda_ring_close(c);
		cuda_leave(c);
	}
	return 0;
}
