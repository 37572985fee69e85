/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_RUN_SHARE_H
#define TOOLS_RUN_SHARE_H

/* This process's part in a run: its slot, what it tells there, and how much of the limit it may take. */

#include "tools/run_file.h"
#include "uhmm/uhmm.h"

struct run_share {
	struct run_file *file;
	struct run_slot *slot;
	struct uhmm_space *space;
	struct uhmm_device *device[RUN_DEVICES];
	unsigned nr_devices;
	uint64_t next_check_ns;    /* of who of the others still lives */
	uint64_t next_tell_ns;
	int statm;
	pid_t parent;              /* of a child of fork, while it lives; else 0 */
	bool forked;               /* has had a parent */
	uint64_t shared_bytes;     /* of what this process holds, had its parent too when it was made: the parent tells of it */
	uint64_t map_cell_bytes;
};

/* For this process, once; NULL when there is no slot. @parent: in a child of fork; else 0. */
struct run_share *run_share_make(struct run_file *file, pid_t parent);

/* In a child of fork: all of it is the parent's. */
void run_share_forget(void);

/* By the thread that is going to look, which may have descriptors of its own, before it does. Return: 0, or -1 with errno. */
int run_share_watch(struct run_share *s);

/* Before there is a policy: how much private memory this process has that is not its parent's too; told to the others as well. */
uint64_t run_share_tell(struct run_share *s);

uhmm_policy_round_fn run_share_round;

/* The process ends. */
void run_share_end(const char *path);

#endif
