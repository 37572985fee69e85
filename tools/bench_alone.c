/* SPDX-License-Identifier: MIT */
#include "tools/bench_alone.h"

#include <errno.h>
#include <string.h>

#include "tools/say.h"

static bool is_kind(const struct bench *b, const char *driver) { return b->spec && !strncmp(b->spec, driver, strlen(driver)); }

uint64_t alone_host_bytes(const struct bench *b)
{
	return is_kind(b, "cuda:") ? 3 * b->max_bytes : b->max_bytes; /* one of three is pinned, and one managed */
}

int alone_init(struct alone *a, const struct bench *b)
{
	uint64_t bytes = b->max_bytes;
	int r = 0;

	if (is_kind(b, "opencl:"))
		r = opencl_alone_open(&a->opencl, b->spec, bytes);
	else if (is_kind(b, "cuda:"))
		r = cuda_alone_open(&a->cuda, b->rig.dev, bytes);
	if (r || (!a->opencl && !a->cuda))
		return r;
	if (a->cuda && cuda_alone_lacks_managed(a->cuda))
		say("CUDA by itself, for comparison: without managed memory: %s", cuda_alone_lacks_managed(a->cuda));
	if (a->cuda)
		bytes = cuda_alone_bytes(a->cuda);
	r = region_init(&a->region, bytes, REGION_HUGE);
	for (int way = 0; way < NR_ALONE && !r; way++)
		r = series_init(&a->series[way], bytes / UHMM_BLOCK_BYTES * (b->rounds + 1));
	if (!r)
		region_fill(&a->region);
	return r;
}

void alone_fini(struct alone *a)
{
	opencl_alone_close(a->opencl);
	cuda_alone_close(a->cuda);
	region_fini(&a->region);
	for (int way = 0; way < NR_ALONE; way++)
		series_fini(&a->series[way]);
}

/* ---- a round ---- */

/* All of it has moved, by units that are in the series already. */
static int add(struct alone *a, enum alone_way way, double seconds)
{
	struct series *s = &a->series[way];

	if (seconds < 0)
		return -EIO;
	s->seconds += seconds;
	s->bytes += (double)a->region.bytes;
	return 0;
}

static int round_opencl(struct alone *a)
{
	int r = add(a, OWN_WRITE, opencl_alone_write(a->opencl, a->region.mem, UHMM_BLOCK_BYTES, &a->series[OWN_WRITE].us));

	return r ? r : add(a, OWN_READ, opencl_alone_read(a->opencl, a->region.mem, UHMM_BLOCK_BYTES, &a->series[OWN_READ].us));
}

/* The bytes pass both memories of the host, one after the other: each copy that moved something else would be seen. */
static int round_copies(struct alone *a)
{
	static const struct { enum alone_way way; enum cuda_way to; bool pinned; } steps[] = {
		{ OWN_WRITE, CUDA_TO_DEVICE, false },
		{ PINNED_READ, CUDA_HOME, true },
		{ PINNED_WRITE, CUDA_TO_DEVICE, true },
		{ OWN_READ, CUDA_HOME, false },
	};
	int r = 0;

	for (size_t i = 0; !r && i < sizeof(steps) / sizeof(*steps); i++)
		r = add(a, steps[i].way,
			cuda_alone_copy(a->cuda, steps[i].to, steps[i].pinned ? cuda_alone_pinned(a->cuda) : a->region.mem,
					UHMM_BLOCK_BYTES, &a->series[steps[i].way].us));
	return r;
}

/* A prefetch is one call, as it is of all that is asked for with uhmm. */
static int round_prefetch(struct alone *a, enum alone_way way)
{
	double seconds = cuda_alone_prefetch(a->cuda, way == MANAGED_PREFETCH ? CUDA_TO_DEVICE : CUDA_HOME);

	if (seconds < 0)
		return -EIO;
	series_call(&a->series[way], a->region.bytes, seconds);
	return 0;
}

static int round_managed(struct alone *a)
{
	int r = round_prefetch(a, MANAGED_PREFETCH);

	if (!r)
		r = round_prefetch(a, MANAGED_BACK);
	return r ? r : add(a, MANAGED_FAULT, cuda_alone_touch(a->cuda, UHMM_BLOCK_BYTES, &a->series[MANAGED_FAULT].us));
}

int alone_round(struct alone *a)
{
	int r;

	if (a->opencl)
		return round_opencl(a);
	if (!a->cuda)
		return 0;
	r = round_copies(a);
	return r || cuda_alone_lacks_managed(a->cuda) ? r : round_managed(a);
}

void alone_forget(struct alone *a)
{
	for (int way = 0; way < NR_ALONE; way++)
		series_forget(&a->series[way]);
}

bool alone_intact(struct alone *a)
{
	struct region pinned = { .bytes = a->region.bytes };

	if (a->cuda)
		pinned.mem = cuda_alone_pinned(a->cuda);
	return (!a->region.mem || bench_intact(&a->region)) && (!pinned.mem || bench_intact(&pinned));
}

/* ---- rows ---- */

static double ratio(double a, double b) { return b > 0 ? a / b : 0; }

static size_t compare(const struct alone *a, const struct reached *r, const double own[NR_ALONE], struct figure *ret)
{
	const struct figure figures[] = {
		{ "to_device_fraction", ratio(r->to_device, own[OWN_WRITE]),
		  "\n2 MiB to the device:  %.2f of what the runtime reaches by itself (wanted: at least 0.70)" },
		{ "fault_fraction", ratio(r->fault, own[OWN_READ]), "2 MiB home by fault:  %.2f (wanted: at least 0.70)" },
		{ "prefetch_fraction", ratio(r->prefetch, own[OWN_WRITE]), "2 MiB by prefetch:    %.2f" },
		{ "prefetch_back_fraction", ratio(r->prefetch_back, own[OWN_READ]), "      and back:       %.2f" },
		{ "to_device_of_pinned", ratio(r->to_device, own[PINNED_WRITE]),
		  "\n2 MiB to the device:  %.2f of what pinned memory reaches, which is what the bus can do" },
		{ "fault_of_pinned", ratio(r->fault, own[PINNED_READ]), "2 MiB home by fault:  %.2f" },
		{ "fault_of_managed", ratio(r->fault, own[MANAGED_FAULT]), "\n2 MiB home by fault:  %.2f of what CUDA's managed memory reaches" },
		{ "prefetch_of_managed", ratio(r->prefetch, own[MANAGED_PREFETCH]), "2 MiB by prefetch:    %.2f" },
		{ "prefetch_back_of_managed", ratio(r->prefetch_back, own[MANAGED_BACK]), "      and back:       %.2f" },
	};
	size_t nr = a->opencl ? 4 : !a->cuda ? 0 : cuda_alone_lacks_managed(a->cuda) ? 6 : sizeof(figures) / sizeof(*figures);

	memcpy(ret, figures, nr * sizeof(*figures));
	return nr;
}

void alone_rows(struct alone *a, struct bench *b, const struct reached *r, struct figure ret[ALONE_MAX_FIGURES])
{
	static const char *const names[NR_ALONE] = { "own_write", "own_read", "pinned_write", "pinned_read", "managed_prefetch",
						     "managed_back", "managed_fault" };
	double own[NR_ALONE] = { 0 };

	for (int way = 0; way < NR_ALONE; way++) {
		struct row row = { .dir = names[way], .order = UHMM_ORDER_MAX, .threads = 1, .size_bytes = UHMM_BLOCK_BYTES };

		row.pages = way <= OWN_READ ? "huge" : way <= PINNED_READ ? "pinned" : "managed";
		if (a->series[way].us.nr)
			own[way] = bench_row(b, row, &a->series[way])->gib_s;
	}
	ret[compare(a, r, own, ret)] = (struct figure){ 0 };
}
