/* SPDX-License-Identifier: MIT */
/*
 * What a runtime does that keeps its own page table for a device and schedules its own copies: it looks where the pages are, takes what
 * can move in the same walk, copies, tells its page table before a CPU can see the result, and hears when something goes back.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>

#include <uhmm/uhmm.h>

#define BYTES ((size_t)4 << 20)
#define PAGES (BYTES / 4096)

/* The driver's page table: an offset on the device for each page, or none. */
static struct {
	pthread_mutex_t lock;
	char *mem;
	uint64_t offset[PAGES];
	bool mapped[PAGES];
} table = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* The range changes: the device must not use it any more. May run in a fault thread, so it only takes the table's lock. */
static void unmap(void *ctx, void *start, void *end)
{
	(void)ctx;
	pthread_mutex_lock(&table.lock);
	for (size_t i = (size_t)((char *)start - table.mem) / 4096; i < (size_t)((char *)end - table.mem) / 4096; i++)
		table.mapped[i] = false;
	pthread_mutex_unlock(&table.lock);
}

static size_t count_mapped(void)
{
	size_t n = 0;

	pthread_mutex_lock(&table.lock);
	for (size_t i = 0; i < PAGES; i++)
		n += table.mapped[i];
	pthread_mutex_unlock(&table.lock);
	return n;
}

/* Moves what can be moved. */
static int move(struct uhmm_space *space, struct uhmm_device *dev)
{
	static struct uhmm_mpfn src[PAGES], dst[PAGES];
	struct uhmm_migrate_args args = { .sz = sizeof(args), .start = table.mem, .len_bytes = BYTES, .dev = dev, .src = src, .dst = dst,
					  .select = UHMM_SELECT_SYSTEM | UHMM_SELECT_COMPOUND | UHMM_SELECT_FAULT };
	struct uhmm_migrate *m;
	int r = uhmm_migrate_setup(space, &args, &m);

	if (r)
		return r;
	/* a runtime with a copy engine of its own would use uhmm_folio_alloc() and uhmm_migrate_host() here */
	r = uhmm_migrate_alloc(m);
	if (r >= 0)
		r = uhmm_migrate_copy(m);
	if (!r && uhmm_migrate_pages(m) < 0)
		r = -EINVAL;
	return r ? (uhmm_migrate_finalize(m, NULL), r) : uhmm_migrate_finalize(m, NULL);
}

/* Fills the table with what the device has; says again what it does until nothing changes meanwhile. */
static int map(struct uhmm_space *space, struct uhmm_device *dev, struct uhmm_notifier *n)
{
	static struct uhmm_range_page pages[PAGES];
	struct uhmm_range range = { .sz = sizeof(range), .start = table.mem, .len_bytes = BYTES, .dev = dev, .notifier = n, .pages = pages };
	bool stale;
	int r;

	do {
		range.seq = uhmm_notifier_read_begin(n);
		r = uhmm_range_fault(space, &range);
		if (r && r != -EBUSY)
			return r;
		pthread_mutex_lock(&table.lock);
		stale = r || uhmm_notifier_read_retry(n, range.seq);
		for (size_t i = 0; !stale && i < PAGES; i++) {
			table.mapped[i] = pages[i].bits & UHMM_RANGE_DEVICE;
			if (table.mapped[i])
				table.offset[i] = uhmm_range_page_offset(pages[i]);
		}
		pthread_mutex_unlock(&table.lock);
	} while (stale);
	return 0;
}

int main(void)
{
	struct uhmm_space *space;
	struct uhmm_device *dev;
	struct uhmm_notifier *n;
	int r;

	table.mem = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (table.mem == MAP_FAILED)
		return 1;
	r = uhmm_open(NULL, &space);
	if (r) {
		fprintf(stderr, "uhmm_open: %s\n", uhmm_strerror(r));
		return r == -EPERM || r == -ENOSYS || r == -EOPNOTSUPP ? 77 : 1;
	}
	r = uhmm_device_open(space, "emu:size=64M", &dev);
	if (!r)
		r = uhmm_notifier_add(space, table.mem, BYTES, dev, unmap, NULL, &n);
	if (r)
		goto out;
	table.mem[0] = 'x'; /* the rest was never touched: the same walk takes it */
	r = move(space, dev);
	if (r >= 0)
		r = map(space, dev, n);
	printf("the device has %zu pages of %zu\n", count_mapped(), PAGES);
	table.mem[0]++; /* a CPU touches it: it comes home, and the table hears of it first */
	printf("after a touch it has %zu, and the byte is %c\n", count_mapped(), table.mem[0]);
	uhmm_notifier_remove(n);
out:
	if (r < 0)
		fprintf(stderr, "runtime: %s\n", uhmm_strerror(r));
	return uhmm_close(space) || r < 0;
}
