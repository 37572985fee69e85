/* SPDX-License-Identifier: MIT */
#include "space/space.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "os/map.h"
#include "os/pagemap.h"
#include "os/tasks.h"

static int init_canary(struct space *sp)
{
	char *page = map_own(PAGE_BYTES, 0);
	int r;

	if (!page)
		return -ENOMEM;
	*(volatile char *)page = 1;
	sp->canary = (uintptr_t)page;
	r = uffd_register(&sp->uffd, sp->canary, sp->canary + PAGE_BYTES);
	return r > 0 ? -ENOMEM : r;
}

int space_init(struct space *sp, enum uffd_open_mode mode)
{
	int r;

	memset(sp, 0, sizeof(*sp));
	sp->uffd.fd = sp->procmap.fd = sp->pagemap_fd = sp->tasks_fd = -1;
	sp->pid = getpid();
	gate_init(&sp->gate);
	lock_init(&sp->arm_lock, LOCK_SPACE);
	lock_init(&sp->tasks_lock, LOCK_LEAF);

	r = uffd_open(&sp->uffd, mode);
	if (r)
		return r;
	r = procmap_open(&sp->procmap);
	if (!r)
		r = pagemap_open(&sp->pagemap_fd);
	if (!r)
		r = tasks_open(&sp->tasks_fd);
	if (r)
		log_say(UHMM_LOG_ERROR, "/proc/self cannot be read (%s); is /proc mounted?", strerrordesc_np(-r));
	else
		r = table_init(&sp->table);
	if (!r)
		r = stamps_init(&sp->faulted);
	if (!r)
		r = init_canary(sp);
	if (r)
		space_fini(sp);
	return r;
}

void space_stop(struct space *sp)
{
	if (sp->canary && uffd_release(&sp->uffd, sp->canary, sp->canary + PAGE_BYTES))
		map_own_free((void *)(uintptr_t)sp->canary, PAGE_BYTES);
	sp->canary = 0;
	uffd_close(&sp->uffd);
}

void space_fini(struct space *sp)
{
	space_stop(sp);
	stamps_fini(&sp->faulted);
	table_fini(&sp->table);
	tasks_close(sp->tasks_fd);
	pagemap_close(sp->pagemap_fd);
	procmap_close(&sp->procmap);
	lock_fini(&sp->tasks_lock);
	lock_fini(&sp->arm_lock);
}
