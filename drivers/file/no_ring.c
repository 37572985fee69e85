/* SPDX-License-Identifier: MIT */
/* Built instead of ring.c where there is no liburing: no ring can be had, and all copies are plain. */
#include <errno.h>

#include "drivers/file/file.h"

struct ring {
	int none;
};

int ring_open(struct ring *ring)
{
	(void)ring;
	return -ENOSYS;
}

void ring_close(struct ring *ring) { (void)ring; }

void ring_start(struct ring *ring, int fd, struct io *ios, unsigned nr, bool out)
{
	(void)ring;
	(void)fd;
	(void)ios;
	(void)nr;
	(void)out;
}

int ring_finish(struct ring *ring)
{
	(void)ring;
	return -ENOSYS;
}
