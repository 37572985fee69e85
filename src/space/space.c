/* SPDX-License-Identifier: MIT */
#include "space/space.h"

#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "os/pagemap.h"

int space_init(struct space *sp, enum uffd_open_mode mode)
{
	int r;

	memset(sp, 0, sizeof(*sp));
	sp->uffd.fd = sp->procmap.fd = sp->pagemap_fd = -1;
	sp->pid = getpid();
	gate_init(&sp->gate);
	lock_init(&sp->arm_lock, LOCK_SPACE);
	forward_init(&sp->forwards);

	r = uffd_open(&sp->uffd, mode);
	if (r)
		return r;
	r = procmap_open(&sp->procmap);
	if (!r)
		r = pagemap_open(&sp->pagemap_fd);
	if (r)
		log_say(UHMM_LOG_ERROR, "/proc/self cannot be read (%s); is /proc mounted?", strerrordesc_np(-r));
	else
		r = table_init(&sp->table);
	if (r)
		space_fini(sp);
	return r;
}

void space_fini(struct space *sp)
{
	table_fini(&sp->table);
	pagemap_close(sp->pagemap_fd);
	procmap_close(&sp->procmap);
	uffd_close(&sp->uffd);
	forward_fini(&sp->forwards);
	lock_fini(&sp->arm_lock);
}
