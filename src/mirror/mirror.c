/* SPDX-License-Identifier: MIT */
#include "mirror/mirror.h"

#include <string.h>

#include "os/map.h"

/* A device's own migration does not take its rights away: it goes on using the page where it is now. */
static void changed(void *ctx, uint64_t start, uint64_t end, unsigned owner)
{
	struct mirror *mi = ctx;

	for (unsigned i = 1, nr = atomic_load(&mi->end); i < nr; i++) {
		struct view *v = atomic_load_explicit(&mi->view[i], memory_order_acquire);

		if (v && i != owner)
			view_clear(v, start, end);
	}
}

void mirror_init(struct mirror *mi, struct migrator *m, struct jobs *jobs)
{
	memset(mi, 0, sizeof(*mi));
	mi->m = m;
	mi->jobs = jobs;
	m->sp->changed_ctx = mi;
	m->sp->changed = changed;
}

/* Nothing is watched any more, so nobody calls changed(). */
void mirror_fini(struct mirror *mi)
{
	mi->m->sp->changed = NULL;
	for (unsigned i = 1; i < mi->end; i++) {
		struct view *v = mi->view[i];

		if (!v)
			continue;
		view_fini(v);
		map_own_free(v, sizeof(*v));
	}
}

/* A fault thread may be looking at the view: it stays, empty, for the next device of that index. */
void mirror_forget(struct mirror *mi, unsigned index)
{
	struct view *v = atomic_load(&mi->view[index]);

	if (v)
		view_clear(v, 0, UINT64_C(1) << TABLE_ADDRESS_BITS);
	atomic_store(&mi->companion[index], 0);
}
