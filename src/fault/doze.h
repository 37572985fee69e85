/* SPDX-License-Identifier: MIT */
#ifndef FAULT_DOZE_H
#define FAULT_DOZE_H

/*
 * When a reader need not be woken. Who serves a short touch wakes the toucher, and on a busy CPU goes on only when the toucher
 * waits for the next page: until then the kernel finds him not waiting for messages, and wakes the next reader for nothing. With
 * all threads on one CPU that is as often as there are touches, and costs a third of each.
 *
 * So a reader that was woken in vain so many times in a row dozes: it does not wait for messages, but looks by itself every
 * DOZE_MS whether the others can do without it. If all of them have been busy at the moment, or none has read anything since it
 * looked last, it reads what there is, and is awake again. Each time that it has been needed after all it is more patient the next time,
 * so a program that needs it now and then is seldom held up.
 */

#include <stdbool.h>
#include <stdint.h>

#define DOZE_MS 1

/* Of one reader. No locks: its own thread's. */
struct doze {
	unsigned in_vain;   /* it was woken so many times in a row */
	unsigned patience;  /* so many are too many */
	uint64_t reads;     /* messages that readers had read at the last look */
	unsigned quiet;     /* looks in a row that found nothing read since, */
	unsigned lively;    /* or something */
};

void doze_init(struct doze *d);

/* It was woken. Return: it shall doze from now on. */
bool doze_woken(struct doze *d, bool needed);

/* It begins to. @reads: messages that all readers have read so far. */
void doze_begin(struct doze *d, uint64_t reads);

enum doze_look {
	DOZE_ON,
	DOZE_READ,  /* a message that waits now is for it: doze_needed() if there is one */
	DOZE_ENOUGH /* nothing happens: it shall wait as ever */
};
/* Every DOZE_MS. @busy: all who are awake have a message in hand. */
enum doze_look doze_look(struct doze *d, uint64_t reads, bool busy);

void doze_needed(struct doze *d);

#endif
