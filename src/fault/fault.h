/* SPDX-License-Identifier: MIT */
#ifndef FAULT_FAULT_H
#define FAULT_FAULT_H

/*
 * CPU faults and address-space events: the threads that read the userfaultfd, and what they do with each message.
 *
 *   reader_loop()  reader.c   a message arrives
 *   fault_handle() fault.c    a touch of a page that is not there: bring it home, or fill it
 *   event_apply()  events.c   the program has changed its address space: the table follows
 */

#include "migrate/migrate.h"
#include "os/thread.h"

#define MAX_READERS 64

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
};

/* Starts the threads. Return: 0 or -errno. */
int faults_init(struct faults *f, struct migrator *m, unsigned nr_readers);
/* Nothing may be away any more. */
void faults_fini(struct faults *f);

/* Context: fault thread. */
void fault_handle(struct reader *rd, const struct uffd_message *msg);

/* Makes the table follow. Context: fault thread, inside the gate on the side of events. */
void event_apply(struct reader *rd, const struct uffd_message *msg);

#endif
