/* SPDX-License-Identifier: MIT */
#include "fault/doze.h"

#define PATIENCE_MIN 16
#define PATIENCE_MAX (1u << 16) /* a wake-up in vain costs some microseconds: so many, a quarter of a second */
#define QUIET        8          /* looks: nobody touches anything any more */
#define LIVELY       1000       /* looks: a second in which nobody was missed */

void doze_init(struct doze *d)
{
	*d = (struct doze){ .patience = PATIENCE_MIN };
}

bool doze_woken(struct doze *d, bool needed)
{
	d->in_vain = needed ? 0 : d->in_vain + 1;
	return d->in_vain >= d->patience;
}

void doze_begin(struct doze *d, uint64_t reads)
{
	d->in_vain = d->quiet = d->lively = 0;
	d->reads = reads;
}

enum doze_look doze_look(struct doze *d, uint64_t reads, bool busy)
{
	bool same = reads == d->reads;

	d->reads = reads;
	d->quiet = same ? d->quiet + 1 : 0;
	d->lively = same ? d->lively : d->lively + 1;
	if (d->lively == LIVELY)
		d->patience = PATIENCE_MIN;
	if (d->quiet == QUIET)
		return DOZE_ENOUGH;
	return same || busy ? DOZE_READ : DOZE_ON;
}

void doze_needed(struct doze *d)
{
	if (d->patience < PATIENCE_MAX)
		d->patience *= 2;
}
