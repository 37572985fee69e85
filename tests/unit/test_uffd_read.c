/* SPDX-License-Identifier: MIT */
/* What a userfaultfd says, and who waits until it has been read. The other half of uffd.c is in test_uffd.c. */
#include "unit.h"

#include <poll.h>

#include "base/err.h"
#include "os/uffd.h"

static struct uffd u;

static char *watched(uint64_t bytes)
{
	char *mem = map_blocks(bytes, false);

	assert_int_equal(uffd_register(&u, addr_of(mem), addr_of(mem) + bytes), 0);
	return mem;
}

static void drop_watched(char *mem, uint64_t bytes)
{
	assert_int_equal(uffd_unregister(&u, addr_of(mem), addr_of(mem) + bytes), 0);
	unmap_blocks(mem, bytes);
}

static void until_readable(void)
{
	struct pollfd p = { .fd = u.fd, .events = POLLIN };

	while (poll(&p, 1, -1) != 1)
		assert_int_equal(errno, EINTR);
}

/* Something another thread does to memory; done is set when it has returned. */
struct deed {
	void (*act)(struct deed *);
	char *mem, *to;
	uint64_t len;
	_Atomic char value;
	_Atomic bool done;
};

static void *run_deed(void *arg)
{
	struct deed *d = arg;

	d->act(d);
	atomic_store(&d->done, true);
	return NULL;
}

static void load(struct deed *d) { d->value = *(volatile char *)d->mem; }
static void store(struct deed *d) { *(volatile char *)d->mem = 5; }
static void discard(struct deed *d) { madvise(d->mem, d->len, MADV_DONTNEED); }
static void unmap(struct deed *d) { munmap(d->mem, d->len); }
static void remap(struct deed *d) { mremap(d->mem, d->len, d->len, MREMAP_MAYMOVE | MREMAP_FIXED, d->to); }

static void nothing_to_read_is_0(void **state)
{
	struct uffd_message m;

	(void)state;
	assert_int_equal(uffd_read(&u, &m), 0);
	assert_int_equal(uffd_read(&(struct uffd){ .fd = -1 }, &m), -EBADF);
}

static void fault_at(void (*act)(struct deed *), bool write)
{
	struct deed d = { .act = act, .mem = watched(BLOCK_BYTES) + 3 * PAGE_BYTES + 100 };
	uint64_t page = page_down(addr_of(d.mem));
	struct uffd_message m;
	char bytes[PAGE_BYTES];
	pthread_t t = spawn(run_deed, &d);
	uint64_t n;

	memset(bytes, 9, sizeof(bytes));
	until_readable();
	assert_int_equal(uffd_read(&u, &m), 1);
	assert_int_equal(m.kind, UFFD_FAULT);
	assert_int_equal(m.write, write);
	assert_int_equal(m.start, page);
	assert_int_equal(m.end, page + PAGE_BYTES);
	assert_int_equal(uffd_read(&u, &m), 0);
	assert_false(d.done);
	assert_int_equal(uffd_copy(&u, page, bytes, PAGE_BYTES, 0, &n), 0);
	pthread_join(t, NULL);
	assert_int_equal(write ? *d.mem : d.value, write ? 5 : 9);
	drop_watched((char *)(uintptr_t)block_down(page), BLOCK_BYTES);
}

static void a_load_is_a_fault_until_the_page_is_there(void **state)
{
	(void)state;
	fault_at(load, false);
}

static void a_store_is_a_fault_for_writing(void **state)
{
	(void)state;
	fault_at(store, true);
}

static void who_was_not_woken_is_woken_by_wake(void **state)
{
	struct deed d = { .act = load, .mem = watched(BLOCK_BYTES) };
	char *src = map_blocks(BLOCK_BYTES, false);
	pthread_t t = spawn(run_deed, &d);
	struct uffd_message m;
	uint64_t n;

	(void)state;
	*src = 8;
	until_readable();
	assert_int_equal(uffd_read(&u, &m), 1);
	assert_int_equal(uffd_move(&u, addr_of(d.mem), addr_of(src), PAGE_BYTES, UFFD_DONTWAKE, &n), 0);
	for (unsigned i = 0; i < 100; i++)
		sched_yield();
	assert_false(d.done);
	uffd_wake(&u, addr_of(d.mem), BLOCK_BYTES);
	pthread_join(t, NULL);
	assert_int_equal(d.value, 8);
	unmap_blocks(src, BLOCK_BYTES);
	drop_watched(d.mem, BLOCK_BYTES);
}

/* Does the deed, reads everything that it raises. Return: how many messages. */
static unsigned all_messages(struct deed *d, struct uffd_message *ret, unsigned max)
{
	struct pollfd p = { .fd = u.fd, .events = POLLIN };
	pthread_t t = spawn(run_deed, d);
	unsigned nr = 0;

	while (!atomic_load(&d->done)) {
		poll(&p, 1, 1);
		while (nr < max && uffd_read(&u, &ret[nr]) == 1)
			nr++;
	}
	pthread_join(t, NULL);
	assert_int_equal(uffd_read(&u, &ret[nr]), 0);
	return nr;
}

static void a_discard_is_a_remove_event(void **state)
{
	struct deed d = { .act = discard, .mem = watched(BLOCK_BYTES), .len = 5 * PAGE_BYTES };
	struct uffd_message m[8];

	(void)state;
	assert_int_equal(all_messages(&d, m, 7), 1);
	assert_int_equal(m[0].kind, UFFD_REMOVE);
	assert_int_equal(m[0].start, addr_of(d.mem));
	assert_int_equal(m[0].end, addr_of(d.mem) + 5 * PAGE_BYTES);
	drop_watched(d.mem, BLOCK_BYTES);
}

static void an_unmap_is_an_unmap_event(void **state)
{
	struct deed d = { .act = unmap, .mem = watched(BLOCK_BYTES), .len = BLOCK_BYTES };
	struct uffd_message m[8];

	(void)state;
	assert_int_equal(all_messages(&d, m, 7), 1);
	assert_int_equal(m[0].kind, UFFD_UNMAP);
	assert_int_equal(m[0].start, addr_of(d.mem));
	assert_int_equal(m[0].end, addr_of(d.mem) + BLOCK_BYTES);
	unmap_blocks(d.mem, BLOCK_BYTES);
}

static void an_mremap_is_a_remap_event_and_then_an_unmap(void **state)
{
	struct deed d = { .act = remap, .mem = watched(BLOCK_BYTES), .to = map_blocks(BLOCK_BYTES, false), .len = BLOCK_BYTES };
	struct uffd_message m[8];
	unsigned nr;

	(void)state;
	nr = all_messages(&d, m, 7);
	assert_in_range(nr, 1, 2);
	assert_int_equal(m[0].kind, UFFD_REMAP);
	assert_int_equal(m[0].start, addr_of(d.mem));
	assert_int_equal(m[0].end, addr_of(d.mem) + BLOCK_BYTES);
	assert_int_equal(m[0].to, addr_of(d.to));
	if (nr == 2)
		assert_int_equal(m[1].kind, UFFD_UNMAP);
	unmap_blocks(d.mem, BLOCK_BYTES);
	drop_watched(d.to, BLOCK_BYTES);
}

static void while_an_event_waits_nothing_moves(void **state)
{
	struct deed d = { .act = discard, .mem = watched(BLOCK_BYTES), .len = PAGE_BYTES };
	char *src = map_blocks(BLOCK_BYTES, false);
	pthread_t t = spawn(run_deed, &d);
	struct uffd_message m;
	uint64_t n;

	(void)state;
	*src = 1;
	until_readable();
	assert_int_equal(uffd_move(&u, addr_of(d.mem), addr_of(src), PAGE_BYTES, 0, &n), UFFD_E_AGAIN);
	assert_int_equal(uffd_copy(&u, addr_of(d.mem), src, PAGE_BYTES, 0, &n), UFFD_E_AGAIN);
	assert_int_equal(uffd_zeropage(&u, addr_of(d.mem), PAGE_BYTES, 0), UFFD_E_AGAIN);
	assert_false(d.done);
	assert_int_equal(uffd_read(&u, &m), 1);
	pthread_join(t, NULL);
	assert_int_equal(uffd_move(&u, addr_of(d.mem), addr_of(src), PAGE_BYTES, 0, &n), 0);
	unmap_blocks(src, BLOCK_BYTES);
	drop_watched(d.mem, BLOCK_BYTES);
}

static void one_without_events_raises_none(void **state)
{
	char *mem = map_blocks(BLOCK_BYTES, false);
	struct uffd_message m;
	struct uffd x;

	(void)state;
	assert_int_equal(uffd_try_open(&x, UFFD_FULL, UFFD_NO_EVENTS), 0);
	assert_int_equal(uffd_register(&x, addr_of(mem), addr_of(mem) + BLOCK_BYTES), 0);
	assert_int_equal(madvise(mem, BLOCK_BYTES, MADV_DONTNEED), 0); /* would wait for ever */
	unmap_blocks(mem, BLOCK_BYTES);
	assert_int_equal(uffd_read(&x, &m), 0);
	uffd_close(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_to_read_is_0),
		cmocka_unit_test(a_load_is_a_fault_until_the_page_is_there),
		cmocka_unit_test(a_store_is_a_fault_for_writing),
		cmocka_unit_test(who_was_not_woken_is_woken_by_wake),
		cmocka_unit_test(a_discard_is_a_remove_event),
		cmocka_unit_test(an_unmap_is_an_unmap_event),
		cmocka_unit_test(an_mremap_is_a_remap_event_and_then_an_unmap),
		cmocka_unit_test(while_an_event_waits_nothing_moves),
		cmocka_unit_test(one_without_events_raises_none),
	};
	int r;

	if (uffd_try_open(&u, UFFD_FULL, 0))
		return skip_all("no full userfaultfd with MOVE and events here");
	r = cmocka_run_group_tests(tests, NULL, NULL);
	uffd_close(&u);
	return r;
}
