/* SPDX-License-Identifier: MIT */
/* Who holds something about a range is told before it stops being true; and never believes what has stopped being true. */
#include "rig.h"

#include <pthread.h>
#include <stdatomic.h>

#define SEED  83
#define BYTES (2 * BLOCK)

static char *mem;
static struct uhmm_device *other;
static struct uhmm_notifier *note;
static struct { _Atomic unsigned nr; void *_Atomic start, *_Atomic end; } heard;

static void hear(void *ctx, void *start, void *end)
{
	heard.start = start;
	heard.end = end;
	heard.nr++;
}

static int put_memory(void **state)
{
	mem = map_anon(BYTES, true, true);
	fill_pattern(mem, BYTES, SEED);
	(void)count_where(mem, BYTES, UHMM_WHERE_DEVICE); /* waits until what was unmapped here before has been heard of */
	heard.nr = 0;
	return uhmm_notifier_add(space, mem, BYTES, dev, hear, NULL, &note);
}

static int take_memory(void **state)
{
	int r = uhmm_notifier_remove(note);

	unmap_anon(mem, BYTES);
	return r;
}

static struct uhmm_range_page pages[PAGES(BYTES)];

static int look(void *at, size_t bytes, uint32_t flags, uint64_t seq)
{
	struct uhmm_range range = { .sz = sizeof(range), .start = at, .len_bytes = bytes, .dev = dev, .notifier = note, .seq = seq,
				    .default_flags = flags, .pages = pages };

	return uhmm_range_fault(space, &range);
}

/* @step is told of, once or more, within [first, end) of the memory. */
#define told(step, first, last)                                                                   \
	do {                                                                                      \
		uint64_t seq = uhmm_notifier_read_begin(note);                                    \
		eventually(!uhmm_notifier_read_retry(note, seq)); /* yes, while any event is being applied */ \
		heard.nr = 0;                                                                     \
		step;                                                                             \
		assert_true(uhmm_notifier_read_retry(note, seq));                                 \
		eventually(heard.nr > 0); /* an event is applied a moment after its causer has gone on */ \
		assert_true((char *)heard.start >= mem + (first) && (char *)heard.end <= mem + (last)); \
		assert_int_equal(look(mem, PAGE, 0, seq), -EBUSY);                                \
	} while (0)

static void each_change_is_told(void **state)
{
	told(assert_int_equal(uhmm_to_device(space, mem, BLOCK, other, 0, NULL), 0), 0, BLOCK);
	told(mem[5]++, 0, BLOCK);
	mem[5]--;
	go(mem, BLOCK);
	told(come(mem, BLOCK), 0, BLOCK);
	go(mem, BYTES);
	told(assert_int_equal(madvise(mem + 3 * PAGE, 2 * PAGE, MADV_DONTNEED), 0), 3 * PAGE, 5 * PAGE);
	told(assert_int_equal(munmap(mem + BLOCK, PAGE), 0), BLOCK, BLOCK + PAGE);
	assert_zeros(mem + 3 * PAGE, 2 * PAGE);
}

static void mremap_is_told_at_both_ends(void **state)
{
	char *far = map_anon(BLOCK, true, true);

	assert_int_equal(munmap(mem + BLOCK, BLOCK), 0);
	go(mem, BLOCK);
	told(assert_ptr_equal(mremap(mem, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, far), far), 0, BLOCK);
	told(assert_ptr_equal(mremap(far, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, mem + BLOCK), mem + BLOCK), BLOCK, BYTES);
	assert_pattern(mem + BLOCK, BLOCK, SEED);
	unmap_anon(far, BLOCK);
}

static void what_the_device_does_itself_is_no_news(void **state)
{
	uint64_t seq = uhmm_notifier_read_begin(note);
	char bytes[64];

	go(mem, BYTES);
	assert_int_equal(uhmm_device_read(dev, mem, sizeof(bytes), bytes, 0, NULL), 0);
	assert_int_equal(uhmm_device_write(dev, mem + PAGE, sizeof(bytes), bytes, 0, NULL), 0);
	eventually(!uhmm_notifier_read_retry(note, seq)); /* yes, while any event is being applied */
	assert_int_equal(heard.nr, 0);
}

static void changes_elsewhere_are_none(void **state)
{
	char *elsewhere = map_anon(BLOCK, true, true);
	uint64_t seq = uhmm_notifier_read_begin(note);

	fill_pattern(elsewhere, BLOCK, SEED);
	go(elsewhere, BLOCK);
	come(elsewhere, BLOCK);
	unmap_anon(elsewhere, BLOCK);
	eventually(!uhmm_notifier_read_retry(note, seq)); /* yes, while any event is being applied */
	assert_int_equal(heard.nr, 0);
}

/* Nothing of it was ever on a device: a look makes it watched, and nothing stops that while the notifier lives. */
static void memory_that_never_left_is_watched_once_looked_at(void **state)
{
	char *far = map_anon(BLOCK, true, true);

	assert_int_equal(look(mem, BYTES, UHMM_RANGE_REQ_WRITE, uhmm_notifier_read_begin(note)), 0);
	for (size_t i = 0; i < PAGES(BYTES); i++)
		assert_int_equal(pages[i].bits & 0x1f, UHMM_RANGE_VALID | UHMM_RANGE_WRITE | UHMM_RANGE_WATCHED);
	fill_pattern(far, BLOCK, SEED);
	go(far, BLOCK);
	come(far, BLOCK);
	come(mem, BYTES); /* would end the watch */
	unmap_anon(far, BLOCK);
	told(assert_int_equal(munmap(mem, PAGE), 0), 0, PAGE);
	told(assert_int_equal(madvise(mem + PAGE, PAGE, MADV_DONTNEED), 0), PAGE, 2 * PAGE);
}

static void after_removal_nothing_is_heard(void **state)
{
	struct uhmm_notifier *n;

	assert_int_equal(uhmm_notifier_add(space, mem, BYTES, NULL, hear, NULL, &n), 0);
	go(mem, BLOCK);
	eventually(heard.nr == 1);
	assert_int_equal(uhmm_close(space), -EBUSY);
	assert_int_equal(uhmm_notifier_remove(n), 0);
	go(mem + BLOCK, BLOCK);
	assert_int_equal(heard.nr, 1);
	support_log_start(UHMM_LOG_WARN);
	refused(-EINVAL, uhmm_notifier_remove(n));
	assert_int_equal(uhmm_notifier_remove(NULL), 0);
	assert_true(uhmm_notifier_read_retry(n, 0));
	refused(-EINVAL, uhmm_notifier_add(space, mem + 1, PAGE, NULL, hear, NULL, &n));
	refused(-EINVAL, uhmm_notifier_add(space, mem, 0, NULL, hear, NULL, &n));
	refused(-EINVAL, uhmm_notifier_add(space, mem, PAGE, NULL, NULL, NULL, &n));
	refused(-EINVAL, uhmm_notifier_add(space, mem, PAGE, NULL, hear, NULL, NULL));
	refused(-EINVAL, uhmm_notifier_add(NULL, mem, PAGE, NULL, hear, NULL, &n));
	refused(-ENODEV, uhmm_notifier_add(space, mem, PAGE, (struct uhmm_device *)(void *)mem, hear, NULL, &n));
	uhmm_log_set(NULL, NULL, 0);
}

/*
 * The oracle. Writers replace pages - munmap and mmap, mmap over, MADV_DONTNEED - and number what they put there. When such a call has
 * returned, the number that was there is closed. A reader that is told to believe what it has read never believes a closed
 * number: it loads what is closed first, and asks whether to believe afterwards.
 */
#define NR_PLACES 4
#define PLACE     (8 * PAGE)
#define NR_ROUNDS 400

static struct place {
	_Atomic uint64_t closed;
	pthread_mutex_t lock; /* the driver's: the callback takes it, and who asks whether to believe holds it */
	bool cached;
	uint64_t number, seq;
} places[NR_PLACES];
static atomic_bool over;
static _Atomic unsigned nr_believed, nr_stale, nr_wrong, nr_used_again;

static char *at_place(size_t i) { return mem + BLOCK - NR_PLACES / 2 * PLACE + i * PLACE; }

static void take_out(void *ctx, void *start, void *end)
{
	for (size_t i = 0; i < NR_PLACES; i++) {
		char *at = at_place(i);

		if (at >= (char *)end || at + PLACE <= (char *)start)
			continue;
		pthread_mutex_lock(&places[i].lock);
		places[i].cached = false;
		pthread_mutex_unlock(&places[i].lock);
	}
}

static void *replace(void *arg)
{
	size_t i = (uintptr_t)arg;
	char *at = at_place(i);

	for (uint64_t number = 1; number <= NR_ROUNDS || !nr_believed; number++) {
		const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

		*(volatile uint64_t *)(void *)at = number;
		if (number % 16 < 4)
			(void)uhmm_to_device(space, at, PAGE, number % 2 ? dev : other, 0, NULL);
		sched_yield();
		switch (number % 3) {
		case 0:
			nr_wrong += munmap(at, PLACE) || mmap(at, PLACE, PROT_READ | PROT_WRITE, flags, -1, 0) != at;
			break;
		case 1:
			nr_wrong += mmap(at, PLACE, PROT_READ | PROT_WRITE, flags, -1, 0) != at;
			break;
		default:
			nr_wrong += madvise(at, PLACE, MADV_DONTNEED) != 0;
		}
		atomic_store(&places[i].closed, number);
	}
	return NULL;
}

/* Under the driver's lock. @closed was loaded before the question. */
static void believe(struct place *p, uint64_t number, uint64_t seq, uint64_t closed)
{
	if (uhmm_notifier_read_retry(note, seq)) {
		nr_stale++;
		return;
	}
	nr_wrong += number && number <= closed;
	nr_believed++;
	p->number = number;
	p->seq = seq;
	p->cached = true;
}

static void read_place(size_t i)
{
	struct place *p = &places[i];
	struct uhmm_range_page page = { 0 };
	struct uhmm_range range = { .sz = sizeof(range), .start = at_place(i), .len_bytes = PAGE, .dev = dev, .notifier = note,
				    .default_flags = UHMM_RANGE_REQ_FAULT, .pages = &page };
	uint64_t number, closed;
	int r;

	range.seq = uhmm_notifier_read_begin(note);
	r = uhmm_range_fault(space, &range);
	nr_wrong += r && r != -EBUSY && r != -EFAULT;
	if (r || !(page.bits & UHMM_RANGE_WATCHED))
		return;
	r = uhmm_device_read(dev, at_place(i), sizeof(number), &number, 0, NULL);
	nr_wrong += r && r != -EBUSY && r != -EFAULT;
	if (r)
		return;
	pthread_mutex_lock(&p->lock);
	closed = atomic_load(&p->closed);
	believe(p, number, range.seq, closed);
	pthread_mutex_unlock(&p->lock);
}

/* What was believed before, and has not been taken out: it must still be so. */
static void use_again(struct place *p)
{
	pthread_mutex_lock(&p->lock);
	if (p->cached) {
		uint64_t closed = atomic_load(&p->closed);

		if (!uhmm_notifier_read_retry(note, p->seq)) {
			nr_wrong += p->number && p->number <= closed;
			nr_used_again++;
		}
	}
	pthread_mutex_unlock(&p->lock);
}

static void *read_all(void *arg)
{
	for (size_t k = 0; !over; k++) {
		read_place(k % NR_PLACES);
		for (unsigned n = 0; n < 3; n++)
			use_again(&places[(k + n) % NR_PLACES]);
	}
	return NULL;
}

static void *move_all(void *arg)
{
	for (unsigned k = 0; !over; k++) {
		int r = k % 3 == 2 ? uhmm_to_system(space, mem, BYTES, 0, NULL) :
				     uhmm_to_device(space, mem, BYTES, k % 3 ? other : dev, 0, NULL);

		nr_wrong += r < 0;
		for (unsigned n = 0; n < 20; n++)
			sched_yield();
	}
	return NULL;
}

static void nothing_stale_is_ever_believed(void **state)
{
	pthread_t writers[NR_PLACES], readers[2], mover;

	assert_int_equal(uhmm_notifier_remove(note), 0);
	/* nobody's: both devices' migrations are news */
	assert_int_equal(uhmm_notifier_add(space, mem, BYTES, NULL, take_out, NULL, &note), 0);
	for (size_t i = 0; i < NR_PLACES; i++)
		pthread_mutex_init(&places[i].lock, NULL);
	over = false;
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&readers[i], NULL, read_all, NULL), 0);
	assert_int_equal(pthread_create(&mover, NULL, move_all, NULL), 0);
	for (size_t i = 0; i < NR_PLACES; i++)
		assert_int_equal(pthread_create(&writers[i], NULL, replace, (void *)i), 0);
	for (size_t i = 0; i < NR_PLACES; i++)
		pthread_join(writers[i], NULL);
	over = true;
	for (size_t i = 0; i < 2; i++)
		pthread_join(readers[i], NULL);
	pthread_join(mover, NULL);
	print_message("believed %u times, again %u times; %u times not\n", nr_believed, nr_used_again, nr_stale);
	assert_int_equal(nr_wrong, 0);
	/* and what stayed is as it was */
	assert_int_equal(check_pattern_at(mem, BLOCK / 2, SEED, 0), -1);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, put_memory, take_memory)
	const struct CMUnitTest tests[] = {
		CASE(each_change_is_told),
		CASE(mremap_is_told_at_both_ends),
		CASE(what_the_device_does_itself_is_no_news),
		CASE(changes_elsewhere_are_none),
		CASE(memory_that_never_left_is_watched_once_looked_at),
		CASE(after_removal_nothing_is_heard),
		CASE(nothing_stale_is_ever_believed),
	};

	rig_open("emu:size=64M");
	other = open_device("emu:size=64M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
