/* SPDX-License-Identifier: MIT */
#ifndef FAULT_FAULT_H
#define FAULT_FAULT_H

/*
 * CPU faults and address-space events: the threads that read the userfaultfd, and what they do with each message.
 *
 *   reader_loop()  reader.c   a message arrives; line.c: who is woken for it
 *   fault_handle() fault.c    a touch of a page that is not there: bring it home, or fill it
 *   event_apply()  events.c   the program has changed its address space: the table follows
 *   child_born()   birth.c    the program has forked: children.h
 */

#include "fault/children.h"
#include "fault/doze.h"
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
	bool runs;

	/* its own thread's */
	struct doze doze;
	uint64_t next_look_ns;    /* while it dozes */

	/* atomic, relaxed: for the other readers */
	atomic_bool dozing;
	atomic_bool waits;        /* else it serves (mover.serving), or is about to read a message */
	_Atomic uint64_t reads;   /* messages so far */
};

struct faults {
	/* constant after faults_init() */
	struct migrator *m;
	unsigned nr_readers;      /* with the pump */
	struct reader reader[MAX_READERS + 1];
	int stop;                 /* eventfd: readable when the readers shall end */
	int handed[2];            /* pipe: fault messages that the pump has read */
	struct reader *pump;
	struct children children;

	/* atomic: line.c */
	_Atomic unsigned nr_awake;  /* who does not doze, without the pump: never 0 */
	_Atomic unsigned nr_dozing; /* who does, with the pump */
	atomic_bool pump_is_early;  /* a reader has lined up behind it */

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

/* What an epoll entry says; beyond these it is the address of a child, of which the pump reads. */
enum source { FROM_UFFD, FROM_HANDED, FROM_STOP, FROM_TICK, NR_SOURCES };

/* @flags: of epoll. Return: 0 or -errno. */
int reader_watch(struct reader *rd, int fd, enum source from, unsigned flags);

/* ---- line.c: who is woken when a message comes. Context: @rd's own thread ---- */

static inline bool reader_dozes(const struct reader *rd)
{
	return atomic_load_explicit(&rd->dozing, memory_order_relaxed);
}

/* Return: 0 or -errno. */
int line_up(struct reader *rd);

/* Will another one, not the pump, read a message as soon as it has a CPU? To be asked before one is read. */
bool line_another_comes(const struct reader *rd);

/* @rd has been woken. It may begin to doze with that. */
void line_was_woken(struct reader *rd, bool needed);

/* It dozes. Shall it read a message, if one waits? If there was one: line_was_missed(). */
bool line_is_missed(struct reader *rd);
void line_was_missed(struct reader *rd);

bool line_has_dozers(const struct faults *f);

/* Context: fault thread. */
void fault_handle(struct reader *rd, const struct uffd_message *msg);

/* Makes the table of @rd's mover follow. Context: fault thread, inside the gate on the side of events. */
void event_apply(struct reader *rd, const struct uffd_message *msg);

#endif
