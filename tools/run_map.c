/* SPDX-License-Identifier: MIT */
/*
 * The map of a process that `uhmm top PID` shows: its large private mappings one after another, a cell for each N blocks, which says
 * where most of them live. Made in a thread that has nothing else to do, once a second; it walks what the kernel and the
 * library's table say (14-26 us for each GiB of THPs, up to 6 ms of base pages) and touches nothing.
 *
 * No malloc: all lies in the shared mapping of struct run_share.
 */
#include "tools/run_map.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define BLOCK (UINT64_C(2) << 20)

struct pass {
	struct run_share *share;
	uint64_t cell_bytes, in_cell; /* bytes of a cell, and how many of the one at hand are behind */
	unsigned nr;
	uint64_t home, away[RUN_DEVICES]; /* bytes of the one at hand */
	char cell[RUN_MAP_CELLS];
};

static void end_cell(struct pass *x)
{
	uint64_t most = x->home;
	char c = x->home ? RUN_MAP_HOME : RUN_MAP_HOLE;

	for (unsigned i = 0; i < x->share->nr_devices; i++)
		if (x->away[i] > most) {
			most = x->away[i];
			c = (char)(i < 9 ? '1' + i : 'a' + (i - 9));
		}
	if (x->in_cell && x->nr < RUN_MAP_CELLS)
		x->cell[x->nr] = c;
	x->nr += x->in_cell > 0;
	x->in_cell = x->home = 0;
	memset(x->away, 0, sizeof(x->away));
}

static int piece(void *ctx, const struct uhmm_piece *p)
{
	struct pass *x = ctx;

	for (uint64_t at = p->start, n; at < p->end && x->nr < RUN_MAP_CELLS; at += n) {
		n = x->cell_bytes - x->in_cell;
		n = n < p->end - at ? n : p->end - at;
		x->in_cell += n;
		if (p->where == UHMM_WHERE_SYSTEM || p->where == UHMM_WHERE_MOVING || p->where == UHMM_WHERE_SWAP)
			x->home += n;
		for (unsigned i = 0; p->dev && i < x->share->nr_devices; i++)
			x->away[i] += p->dev == x->share->device[i] ? n : 0;
		if (x->in_cell == x->cell_bytes)
			end_cell(x);
	}
	return x->nr >= RUN_MAP_CELLS;
}

static const char *hex(const char *at, uint64_t *ret)
{
	for (*ret = 0;; at++) {
		if (*at >= '0' && *at <= '9')
			*ret = *ret << 4 | (uint64_t)(*at - '0');
		else if (*at >= 'a' && *at <= 'f')
			*ret = *ret << 4 | (uint64_t)(*at - 'a' + 10);
		else
			return at;
	}
}

/* One line of /proc/PID/maps: is it private memory of 2 MiB and more, without a file? */
static void line(struct pass *x, const char *at)
{
	uint64_t start, end, skip, inode = 0;

	at = hex(at, &start);
	at = hex(at + (*at == '-'), &end);
	if (strncmp(at, " rw-p ", 6) || end - start < BLOCK)
		return;
	at = hex(at + 6, &skip); /* offset, then MAJOR:MINOR */
	at = hex(at + (*at == ' '), &skip);
	at = hex(at + (*at == ':'), &skip);
	(void)hex(at + (*at == ' '), &inode);
	if (!inode)
		(void)uhmm_walk(x->share->space, (void *)(uintptr_t)start, end - start, piece, x);
	end_cell(x);
}

static void each_line(struct pass *x, int fd)
{
	static char text[4096 + 1]; /* this library's own data: never away */
	size_t len = 0;
	ssize_t n;

	while ((n = read(fd, text + len, sizeof(text) - 1 - len)) > 0) {
		char *at = text, *stop;

		len += (size_t)n;
		text[len] = '\0';
		while ((stop = strchr(at, '\n'))) {
			*stop = '\0';
			line(x, at);
			at = stop + 1;
		}
		len -= (size_t)(at - text);
		memmove(text, at, len);
		if (len == sizeof(text) - 1)
			len = 0; /* no such line */
	}
}

void run_map_make(struct run_share *s)
{
	static struct pass x;
	uint64_t cell = s->map_cell_bytes ? s->map_cell_bytes : BLOCK;

	do {
		int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			return;
		memset(&x, 0, sizeof(x));
		x.share = s;
		x.cell_bytes = cell;
		each_line(&x, fd);
		close(fd);
		s->map_cell_bytes = cell;
		cell *= 2;
	} while (x.nr >= RUN_MAP_CELLS);
	for (unsigned i = 0; i < x.nr; i++)
		atomic_store_explicit(&s->slot->map[i], x.cell[i], memory_order_relaxed);
	run_put(&s->slot->map_cell_bytes, x.cell_bytes);
	run_put(&s->slot->map_cells, x.nr);
}
