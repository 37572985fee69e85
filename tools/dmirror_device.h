/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_DMIRROR_DEVICE_H
#define TOOLS_DMIRROR_DEVICE_H

/* The two devices under /dev/hmm_dmirror0 and 1, and the commands of Linux's HMM test device that they understand. */

#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/types.h>

#define DMIRROR_NODES 2

struct dmirror_command {
	uint64_t addr, ptr, npages; /* in */
	uint64_t cpages, faults;    /* out */
};

#define DMIRROR_COMMAND(n) _IOWR('H', n, struct dmirror_command)

enum {
	CMD_READ, CMD_WRITE, CMD_TO_DEVICE, CMD_TO_SYSTEM, CMD_SNAPSHOT, CMD_EXCLUSIVE, CMD_CHECK_EXCLUSIVE, CMD_RELEASE,
	CMD_FLAGS, CMD_READ_UNLOCKED,
	NR_DMIRROR_COMMANDS,
};

/* Opens the device of a node, and the space with the first. Return: 0 or -errno, said. Context: one thread at a time. */
int dmirror_open(unsigned n);

/* Runs command @n of a node that process @opener opened. Return: 0, @user is filled in; or -errno, it is as it was. */
int dmirror_run(unsigned node, pid_t opener, unsigned n, struct dmirror_command *user);

/* Closing a node evicts its device. What cannot be given back stays there, and still comes home when it is touched. */
void dmirror_evict(unsigned n);

/* In a child of fork: its memory is its own, and what it opens is opened anew. */
void dmirror_forget(void);

#endif
