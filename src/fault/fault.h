/* SPDX-License-Identifier: MIT */
#ifndef FAULT_FAULT_H
#define FAULT_FAULT_H

/*
 * CPU faults and address-space events: the threads that read the userfaultfd, and what they do with each message.
 *
 *   reader_loop()  reader.c   a message arrives
 *   fault_handle() fault.c    a touch of a page that is not there: bring it home, or fill it
 *   event_apply()  events.c   the program has changed its address space: the table follows
 *   child_born()   birth.c    the program has forked: children.h
 */

#include "fault/children.h"
#include "migrate/migrate.h"
#include "os/thread.h"

#define MAX_READERS 64
#define NR_SPARES   4  /* so many generations can be born at the same time where the program has used up its descriptors */

struct faults;

struct reader {
	struct faults *faults;
	struct thread thread;
	struct mover mover;
	int epoll;
	bool pump;                /* reads when all others are busy, and hands faults over */
};

struct faults {
	/* constant after faults_init() */
	struct migrator *m;
	unsigned nr_readers;      /* without the pump */
	struct reader reader[MAX_READERS + 1];
	int stop;                 /* eventfd: readable when the readers shall end */
	int handed[2];            /* pipe: fault messages that the pump has read */
	struct reader *pump;
	struct children children;

	/* atomic: descriptors that are good for nothing, or -1: one is given up when a fork event cannot be read without */
	_Atomic int spare[NR_SPARES];
	_Atomic pid_t tid;        /* of a thread that has them; 0 while none runs */
};

/* Starts the threads. Return: 0 or -errno. */
int faults_init(struct faults *f, struct migrator *m, unsigned nr_readers);
/* Nothing may be away any more. */
void faults_fini(struct faults *f);

/* Has spare descriptors again, if there are any. Context: any thread; does nothing in one with another table of descriptors. */
void faults_refill_spares(struct faults *f);

/* Closes one. Return: there was one. Context: likewise. */
bool faults_give_up_spare(struct faults *f);

/* As uffd_read(), of the program's or a child's. A fork event that finds no descriptor takes a spare one's place. */
int faults_read(struct faults *f, const struct uffd *u, struct uffd_message *ret);

/* Context: fault thread. */
void fault_handle(struct reader *rd, const struct uffd_message *msg);

/* Makes the table of @rd's mover follow. Context: fault thread, inside the gate on the side of events. */
void event_apply(struct reader *rd, const struct uffd_message *msg);

#endif
