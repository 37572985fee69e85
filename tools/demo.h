/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_DEMO_H
#define TOOLS_DEMO_H

#include <limits.h>
#include <stdint.h>

#include "tools/bare.h"
#include "tools/rig.h"

/* Where the bytes came from. */
struct input {
	char name[PATH_MAX]; /* the first file */
	unsigned nr_files;
	uint64_t bytes;      /* of real input, before it was repeated */
};

/*
 * Fill @r with the @files' contents, one after another and again from the start until it is full. Without files a
 * large one that this system has is taken. Return: 0, or a negative errno after saying why.
 */
int input_fill(struct region *r, char **files, unsigned nr_files, struct input *ret);

/* One way there and home again, as it was measured. */
struct trip {
	uint64_t bytes;
	uint64_t folios[UHMM_NR_ORDERS]; /* that moved to the device, by order */
	uint64_t stayed_pages;
	uint64_t thp_bytes_before, thp_bytes_after;
	uint64_t metadata_bytes;         /* of uhmm, while all was on the device */
	uint64_t faults;                 /* that uhmm served for the touches */
	uint64_t touches;
	double to_device_s, home_s;      /* all calls together; all touches together */
	double fault_us_p50, fault_us_p99;
	double block_us_p50;             /* the touches of 2 MiB together */
	uint64_t sum_before, sum_after;  /* checksums of every byte */
};

/* Return: 0, or a negative errno after saying why. Different checksums are no error here: the caller tells. */
int trip_run(struct rig *rig, const struct region *r, struct trip *ret);

/* A touch of 4 KiB, served by uhmm and served by a bare userfaultfd. */
struct against_bare {
	double uhmm_us_p50, uhmm_us_p99, bare_us_p50, bare_us_p99;
};

/* With the server on the toucher's CPU, and on another. Return: 0, or a negative errno after saying why. */
int demo_against_bare(struct rig *rig, struct against_bare *ret_one_cpu, struct against_bare *ret_two_cpus);

#endif
