/* SPDX-License-Identifier: MIT */
#ifndef FAULT_CHILDREN_H
#define FAULT_CHILDREN_H

/*
 * Children of fork(2), which have all of the program's memory, but not what is on a device. The kernel announces each one with a
 * userfaultfd for the child's memory. From here that memory is a space like the program's own: a table that says where each
 * page is, events that change it, a way home - except that pages are copied into it, because MOVE works in one process only,
 * and that its folios are lent by their device (device.h): the program goes on using them.
 *
 *   birth.c     the table of the child, as the program's was at the fork: no byte is copied for that
 *   children.c  what the child touches is copied into it; then, unless it calls exec or ends, all the rest
 *   pace.c      no faster than the child can let it leave again, where there is a limit for both
 *
 * The pump (reader.c) reads the children's messages, applies the events, and hands the touches to the thread uhmm-child,
 * which copies, and so may wait for an event to be read.
 *
 * A child needs this process until it has been given everything. fork() returns in the program after that, or after the child's
 * exec (api/fork.c): so a program that forks and ends leaves no child that reads zeros. If it is killed before, it does.
 */

#include "fault/pace.h"
#include "migrate/migrate.h"
#include "os/thread.h"

struct faults;
struct reader;

/* A child that has touched nothing on a device so far may be about to call exec: until then nothing is copied. */
#define CHILD_GRACE_NS UINT64_C(10000000)

struct child {
	struct child *next;
	struct space sp;          /* the child's: its userfaultfd, table, gate and claims; nothing else of it is used */
	struct migrator m;        /* its devices are loans; it has no staging */
	uint64_t born_ns;         /* 0: nothing is lent to it */
	bool touched;             /* has faulted on a device's page */
	uint64_t cursor;          /* blocks below have been given to it, unless mremap has carried something there */
	bool held;                /* there is no room for more */
	uint64_t refused_start, refused_end; /* touches that wait for room lie here; end 0: there is none */
};

struct children {
	/* constant after children_init() */
	struct faults *faults;
	struct thread thread;
	struct mover mover;
	int news;                 /* eventfd: a child is born, or the thread shall end */
	int asked[2];             /* pipe of struct child_fault, from the pump */
	int tick;                 /* eventfd: the pump is asked for a sign that it has done what it was doing */
	atomic_bool stop;

	_Atomic uint32_t ticks;   /* the signs; the thread sleeps on it */
	struct child *_Atomic newborn; /* not yet taken over by the thread */
	_Atomic uint32_t nr_alive;
	_Atomic uint32_t settled; /* grows when a child has been given everything or is gone; others sleep on it */

	/* by index; written inside the gate, by who reads the fork event, while nobody has a loan of that device */
	struct device loan[MAX_DEVICES];

	struct meta staged;       /* of birth.c */

	struct pace_giver pace;
	atomic_bool last_was_short; /* the last child called exec, or ended, before CHILD_GRACE_NS */

	/* of the thread alone */
	struct child *list;
};

struct child_fault {
	struct child *child;
	uint64_t addr;
};

/* Where fork events are not to be had nothing is started. Return: 0 or -errno. */
int children_init(struct children *ch, struct faults *f);
/* Waits for the last child. */
void children_fini(struct children *ch);

/* Waits until every child that has been born is settled. Context: a thread of the program; no lock that the thread takes. */
void children_await(struct children *ch);

/* Device @index is about to be closed; nobody has a loan of it, or will have. Another one may take its place. */
void children_forget_device(struct children *ch, unsigned index);

/*
 * The process whose memory @rd's mover works on has forked; @fd is the child's userfaultfd, the callee's from now on. On
 * return the child's table is complete. Context: fault thread, inside the gate on the side of events.
 */
void child_born(struct reader *rd, int fd);

/* What child_born() needs. */
void births_init(struct children *ch);

/*
 * One message of the child: an event is applied, a touch handed over, or (@hand_over not set) the toucher sent to ask again.
 * Return: there was one. Context: fault thread.
 */
bool child_read(struct reader *rd, struct child *c, bool hand_over);

/* The pump has been asked for a sign. Context: the pump. */
void children_tick(struct children *ch);

#endif
