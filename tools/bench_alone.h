/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_BENCH_ALONE_H
#define TOOLS_BENCH_ALONE_H

/*
 * What the runtime behind a device reaches by itself, beside "bench device": the same bytes go and come by 2 MiB a command, each
 * waited for, as a program would do it that keeps its memory on the device by hand. Its host memory is huge, as uhmm's is
 * (own_write, own_read); with CUDA also pinned memory (pinned_write, pinned_read), which is what the bus can do, and managed memory,
 * which moves by itself as uhmm's does (managed_prefetch, managed_back, managed_fault).
 */

#include "tools/bench.h"
#include "tools/cuda_alone.h"
#include "tools/opencl.h"

enum alone_way { OWN_WRITE, OWN_READ, PINNED_WRITE, PINNED_READ, MANAGED_PREFETCH, MANAGED_BACK, MANAGED_FAULT, NR_ALONE };

#define ALONE_MAX_FIGURES 12

struct alone {
	struct opencl_alone *opencl; /* NULL: it is not OpenCL */
	struct cuda_alone *cuda;     /* NULL: it is not CUDA */
	struct region region;
	struct series series[NR_ALONE];
};

/* What uhmm reaches with 2 MiB, in GiB/s. */
struct reached {
	double to_device, fault, prefetch, prefetch_back;
};

/* Host memory that it takes. */
uint64_t alone_host_bytes(const struct bench *b);

/* Nothing, on a device that has no such runtime. Return: 0, or a negative errno after saying why. */
int alone_init(struct alone *a, const struct bench *b);

/* Accepts a zeroed one. */
void alone_fini(struct alone *a);

/* Return: 0, or a negative errno after saying why. */
int alone_round(struct alone *a);
void alone_forget(struct alone *a);
bool alone_intact(struct alone *a);

/* Prints its rows, and compares: a name that is NULL ends the figures. */
void alone_rows(struct alone *a, struct bench *b, const struct reached *r, struct figure ret[ALONE_MAX_FIGURES]);

#endif
