/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_RUN_FILE_H
#define TOOLS_RUN_FILE_H

/*
 * What the processes of one `uhmm run` share: a small file in memory, made by the command, mapped by every process under it, read
 * by `uhmm stat` and `uhmm top`. The command writes what was asked for; each process has a slot in which it tells what it holds
 * and does, and looks into the others' to learn how much of the limit is left for it.
 *
 * A process finds it by the variable UHMM_RUN. It goes when the last process that has a slot ends.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define RUN_ENV         "UHMM_RUN"
#define RUN_PREFIX      "uhmm-run."
#define RUN_MAGIC       UINT64_C(0x756e75722d6d6875) /* "uhm-runu" */
#define RUN_SPEC_BYTES  256
#define RUN_DEVICES     16
#define RUN_SLOTS       256

#define RUN_VERBOSE     (1u << 0)
#define RUN_EMU_APART   (1u << 1)
#define RUN_NOT_HUGE    (1u << 2)
#define RUN_USER_MODE   (1u << 3)

#define RUN_MAP_CELLS   1024
#define RUN_MAP_HOME    '#' /* most of what the cell has is in RAM; 1-9, a-g: on that device */
#define RUN_MAP_HOLE    '.'

#define RUN_STALL_NS    UINT64_C(1000000000) /* a device that has not answered for so long is named */

/* All atomic, relaxed, written by its process alone. */
struct run_slot {
	_Atomic int64_t pid;          /* 0: free. Taken with a compare-and-exchange */
	/* start of the process in clock ticks (/proc/PID/stat): tells a pid that came again. 0: free, or somebody is just taking it */
	_Atomic uint64_t born;
	_Atomic uint64_t managed;     /* 1: a policy is at work; 0: it has not been needed so far; 2: it could not be had */
	_Atomic uint64_t now_ns;      /* of the monotonic clock, when the figures were written */
	_Atomic uint64_t began_ns;    /* when the policy began */
	_Atomic uint64_t limit, resident, resident_max;
	_Atomic uint64_t parent, shared; /* of a child of fork: its parent, and the bytes that both hold; the parent's, who tells of them */
	_Atomic uint64_t evicted, zero, came_home, onward, ahead, returned; /* bytes */
	_Atomic uint64_t faults, fault_ns_p50, fault_ns_p99, fault_ns_max, lost;
	_Atomic uint64_t waits, wait_ns, over, stuck, full, laps;
	_Atomic uint64_t pool, metadata;
	_Atomic uint64_t kept; /* what of resident is uhmm's own: pool, metadata, what devices keep in RAM */
	_Atomic uint64_t busy_device, busy_ns;
	_Atomic uint64_t used[RUN_DEVICES], size[RUN_DEVICES];
	_Atomic uint64_t map_cells, map_cell_bytes;
	_Atomic char map[RUN_MAP_CELLS]; /* run_map.c */
};

struct run_file {
	/* constant once the command has written it */
	uint64_t magic, bytes;
	uint64_t limit;
	uint32_t flags, nr_devices;
	int64_t pid;                  /* the command's, and so the program's */
	char spec[RUN_DEVICES][RUN_SPEC_BYTES];
	char stats_path[4096];        /* "" or where the first process writes its figures at the end */

	struct run_slot slot[RUN_SLOTS];
};

/* Makes the file and maps it; its path is in @ret_path, of @bytes. Return: NULL, with errno. */
struct run_file *run_file_make(char *ret_path, size_t bytes);

/* Maps an existing one. Return: NULL when it cannot be had or is none. */
struct run_file *run_file_open(const char *path, bool writable);
void run_file_close(struct run_file *f);

/* The run that process @pid is part of, and its slot. Return: NULL when there is none that may be read. */
struct run_file *run_file_find(pid_t pid, struct run_slot **ret_slot);

/* Calls @visit for each run whose file may be read. */
void run_file_each(void (*visit)(void *ctx, struct run_file *f, const char *path), void *ctx);

/* Takes away the files of runs that have ended without doing so. */
void run_file_sweep(void);

/* Does the process that has the slot still live? */
bool run_slot_lives(struct run_slot *s);

/* A slot for this process: the one it has already (after exec), or a free one; or NULL. */
struct run_slot *run_slot_take(struct run_file *f);
/* Gives it back. Return: nobody has a slot any more. */
bool run_slot_drop(struct run_file *f, struct run_slot *s);

/* Frees the slot if its process has ended without a word. */
void run_slot_clear(struct run_slot *s);

/* The directories in which run files may lie; NULL after the last. */
const char *run_file_dir(unsigned n);

/* A figure: read by others while it is written; each is right for itself. */
static inline uint64_t run_get(const _Atomic uint64_t *at) { return atomic_load_explicit(at, memory_order_relaxed); }
static inline void run_put(_Atomic uint64_t *at, uint64_t value) { atomic_store_explicit(at, value, memory_order_relaxed); }

#endif
