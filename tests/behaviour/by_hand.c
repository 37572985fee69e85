/* SPDX-License-Identifier: MIT */
/* Migration by hand: setup, pages, finalize, and what the program does in between. */
#include "by_hand.h"

static void by_the_library_s_own_means(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		RESULT(res);
		char *mem = filled(2 * BLOCK, huge);

		begin(mem, 2 * BLOCK, SYSTEM);
		assert_int_equal(args.cpages, PAGES(2 * BLOCK));
		assert_int_equal(count_where(mem, 2 * BLOCK, UHMM_WHERE_MOVING), PAGES(2 * BLOCK));
		assert_int_equal(uhmm_migrate_alloc(m), 0);
		assert_int_equal(uhmm_migrate_copy(m), 0);
		assert_int_equal(uhmm_migrate_pages(m), PAGES(2 * BLOCK));
		assert_int_equal(uhmm_migrate_finalize(m, &res), 0);
		assert_int_equal(res.moved_bytes, 2 * BLOCK);
		assert_int_equal(res.moved_folios[huge && has_thp() ? 9 : 0], huge && has_thp() ? 2 : PAGES(2 * BLOCK));
		assert_true(all_on_device(mem, 2 * BLOCK));

		begin(mem, 2 * BLOCK, HOME);
		assert_int_equal(args.cpages, PAGES(2 * BLOCK));
		end_all(PAGES(2 * BLOCK));
		assert_true(all_home(mem, 2 * BLOCK));
		assert_int_equal(used_bytes(), 0);
		if (huge && has_thp())
			assert_int_equal(anon_huge_bytes(mem, 2 * BLOCK), 2 * BLOCK);
		expect(mem, 0, 2 * BLOCK);
		put_down(mem, 2 * BLOCK);
	}
}

/* What a runtime does that copies by itself: here the "device" copies with uhmm_device_read() and _write(), after the fact. */
static void entries_of_a_thp(void **state)
{
	char *mem = filled(BLOCK, true);

	if (!has_thp())
		skip();
	begin(mem, BLOCK, SYSTEM);
	assert_int_equal(src[0].bits, UHMM_MPFN_VALID | UHMM_MPFN_MIGRATE | UHMM_MPFN_WRITE | UHMM_MPFN_COMPOUND | 9 << UHMM_MPFN_ORDER_SHIFT);
	for (unsigned i = 1; i < 512; i++)
		assert_int_equal(src[i].bits, 0);
	assert_int_equal(check_pattern(uhmm_migrate_host(m, 0), BLOCK, SEED), -1);
	assert_ptr_equal(uhmm_migrate_host(m, 5), (char *)uhmm_migrate_host(m, 0) + 5 * PAGE);
	assert_null(uhmm_migrate_host(m, 512));
	/* nothing is decided: all goes back, as it was */
	assert_int_equal(uhmm_migrate_finalize(m, NULL), UHMM_E_PARTIAL);
	assert_int_equal(src[0].bits & UHMM_MPFN_MIGRATE, 0);
	assert_int_equal(count_where(mem, BLOCK, UHMM_WHERE_SYSTEM), 512);
	assert_int_equal(anon_huge_bytes(mem, BLOCK), BLOCK);
	expect(mem, 0, BLOCK);
	put_down(mem, BLOCK);
}

static void without_compound_a_thp_goes_in_pages(void **state)
{
	char *mem = filled(BLOCK, true);

	begin(mem, BLOCK, UHMM_SELECT_SYSTEM);
	for (unsigned i = 0; i < 512; i++)
		assert_int_equal(src[i].bits, UHMM_MPFN_VALID | UHMM_MPFN_MIGRATE | UHMM_MPFN_WRITE);
	end_all(512);
	assert_int_equal(info(dev).folios[0], 512);
	begin(mem, BLOCK, HOME);
	for (unsigned i = 0; i < 512; i++) {
		assert_int_equal(src[i].bits & 0xfff, UHMM_MPFN_VALID | UHMM_MPFN_MIGRATE | UHMM_MPFN_WRITE | UHMM_MPFN_DEVICE_PRIVATE);
		assert_true(uhmm_mpfn_offset(src[i]) < 64 * MIB);
	}
	end_all(512);
	expect(mem, 0, BLOCK);
	put_down(mem, BLOCK);
}

static void memory_never_touched(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		char *mem = map_anon(BLOCK, true, huge);

		begin(mem, BLOCK, SYSTEM & ~UHMM_SELECT_FAULT); /* is not there */
		assert_int_equal(args.cpages, 0);
		assert_int_equal(uhmm_migrate_why(m, 7), UHMM_SKIP_ABSENT);
		end_all(0);

		mem[5 * PAGE] = 1; /* half present: one walk takes both */
		begin(mem, BLOCK, SYSTEM);
		assert_int_equal(args.cpages, 512);
		assert_true(src[huge && has_thp() ? 0 : 5].bits & UHMM_MPFN_VALID);
		if (!huge)
			assert_int_equal(src[6].bits, UHMM_MPFN_MIGRATE | UHMM_MPFN_WRITE);
		end_all(512);
		assert_true(all_on_device(mem, BLOCK));
		assert_int_equal(mem[5 * PAGE], 1);
		mem[5 * PAGE] = 0;
		assert_zeros(mem, BLOCK);
		put_down(mem, BLOCK);

		mem = map_anon(BLOCK, true, huge);
		begin(mem, BLOCK, SYSTEM);
		assert_int_equal(args.cpages, 512);
		assert_int_equal(src[0].bits & UHMM_MPFN_VALID, 0);
		if (huge && has_thp())
			assert_int_equal(src[0].bits & UHMM_MPFN_COMPOUND, UHMM_MPFN_COMPOUND);
		assert_null(uhmm_migrate_host(m, 0));
		end_all(512);
		assert_zeros(mem, BLOCK);
		put_down(mem, BLOCK);
	}
}

static void only_pages_of_that_device_are_selected(void **state)
{
	struct uhmm_device *other = open_device("emu:size=64M");
	char *mem = filled(BLOCK, false);

	go(mem, PAGE);
	assert_int_equal(uhmm_to_device(space, mem + PAGE, PAGE, other, 0, NULL), 0);
	begin(mem, 3 * PAGE, HOME);
	assert_int_equal(args.cpages, 1);
	assert_int_equal(uhmm_migrate_why(m, 0), UHMM_NR_SKIPS);
	assert_int_equal(uhmm_migrate_why(m, 1), UHMM_SKIP_OTHER_DEVICE);
	assert_int_equal(uhmm_migrate_why(m, 2), UHMM_SKIP_ABSENT);
	end_all(1);
	begin(mem, 3 * PAGE, SYSTEM);
	assert_int_equal(args.cpages, 2);
	assert_int_equal(uhmm_migrate_why(m, 1), UHMM_SKIP_OTHER_DEVICE);
	end_all(2);
	expect(mem, 0, BLOCK);
	put_down(mem, BLOCK);
	assert_int_equal(uhmm_device_close(other), 0);
}

/* ---- losses ---- */

static void what_has_no_destination_stays(void **state)
{
	char *mem = filled(BLOCK, false);

	begin(mem, 10 * PAGE, SYSTEM);
	for (unsigned i = 0; i < 10; i += 2)
		assert_int_equal(uhmm_folio_alloc(dev, 0, &dst[i]), 0);
	assert_int_equal(uhmm_migrate_copy(m), 0);
	assert_int_equal(uhmm_migrate_pages(m), 5);
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(!!(src[i].bits & UHMM_MPFN_MIGRATE), i % 2 == 0);
		assert_int_equal(uhmm_migrate_why(m, i), i % 2 ? UHMM_SKIP_NO_ROOM : UHMM_NR_SKIPS);
	}
	assert_int_equal(uhmm_migrate_finalize(m, NULL), UHMM_E_PARTIAL);
	assert_int_equal(count_where(mem, 10 * PAGE, UHMM_WHERE_DEVICE), 5);
	expect(mem, 0, BLOCK);
	put_down(mem, BLOCK);
}

static void a_full_device_takes_what_it_can(void **state)
{
	struct uhmm_device *small = open_device("emu:size=4M"), *was = dev;
	char *mem = filled(4 * BLOCK, true);
	size_t went;

	dev = small;
	begin(mem, 4 * BLOCK, SYSTEM);
	assert_int_equal(uhmm_migrate_alloc(m), UHMM_E_PARTIAL);
	assert_int_equal(uhmm_migrate_copy(m), 0);
	went = (size_t)uhmm_migrate_pages(m);
	assert_int_equal(went, PAGES(2 * BLOCK));
	assert_int_equal(uhmm_migrate_finalize(m, NULL), UHMM_E_PARTIAL);
	assert_int_equal(count_where(mem, 4 * BLOCK, UHMM_WHERE_DEVICE), went);
	expect(mem, 0, 4 * BLOCK);
	unmap_anon(mem, 4 * BLOCK);
	dev = was;
	assert_int_equal(uhmm_device_close(small), 0);
}

static void copies_that_fail_are_the_caller_s_to_answer_for(void **state)
{
	struct uhmm_device *bad = open_device("emu:size=64M,fail_copy_in=1"), *was = dev;
	char *mem = filled(BLOCK, true);

	dev = bad;
	begin(mem, BLOCK, SYSTEM);
	assert_int_equal(uhmm_migrate_alloc(m), 0);
	assert_int_equal(uhmm_migrate_copy(m), -EIO);
	assert_int_equal(uhmm_migrate_finalize(m, NULL), UHMM_E_PARTIAL); /* nothing was decided: dst is still ours */
	expect(mem, 0, BLOCK);
	for (unsigned i = 0; i < 512; i++)
		if (dst[i].bits)
			assert_int_equal(uhmm_folio_free(dev, dst[i]), 0);
	assert_int_equal(used_bytes(), 0);
	unmap_anon(mem, BLOCK);
	dev = was;
	assert_int_equal(uhmm_device_close(bad), 0);
}

static void a_compound_is_split_for_small_destinations(void **state)
{
	char *mem = filled(BLOCK, true);

	begin(mem, BLOCK, SYSTEM);
	for (unsigned i = 0; i < 512; i++)
		if (i % 3)
			assert_int_equal(uhmm_folio_alloc(dev, 0, &dst[i]), 0);
	assert_int_equal(uhmm_migrate_copy(m), 0);
	assert_int_equal(uhmm_migrate_pages(m), 341);
	for (unsigned i = 0; i < 512; i++)
		assert_int_equal(src[i].bits & (UHMM_MPFN_MIGRATE | UHMM_MPFN_COMPOUND), i % 3 ? UHMM_MPFN_MIGRATE : 0);
	assert_int_equal(uhmm_migrate_finalize(m, NULL), UHMM_E_PARTIAL);
	assert_int_equal(count_where(mem, BLOCK, UHMM_WHERE_DEVICE), 341);
	expect(mem, 0, BLOCK);

	settle(mem, BLOCK);
	go(mem, BLOCK);
	begin(mem, BLOCK, HOME);
	for (unsigned i = 0; i < 512; i++)
		if (i % 2)
			dst[i] = uhmm_mpfn_host(0);
	assert_int_equal(uhmm_migrate_copy(m), 0);
	assert_int_equal(uhmm_migrate_pages(m), 256);
	assert_int_equal(uhmm_migrate_finalize(m, NULL), UHMM_E_PARTIAL);
	assert_int_equal(count_where(mem, BLOCK, UHMM_WHERE_DEVICE), 256);
	expect(mem, 0, BLOCK);
	put_down(mem, BLOCK);
}

static void destinations_that_do_not_fit_are_refused(void **state)
{
	struct uhmm_mpfn folio, other, big;
	char *mem = filled(BLOCK, false);

	assert_int_equal(uhmm_folio_alloc(dev, 0, &folio), 0);
	assert_int_equal(uhmm_folio_alloc(dev, 0, &other), 0);
	assert_int_equal(uhmm_folio_alloc(dev, 9, &big), 0);
	go(mem + 100 * PAGE, PAGE);
	begin(mem, 6 * PAGE, SYSTEM);
	dst[0] = folio;
	dst[1] = folio; /* twice */
	dst[2] = big;   /* large */
	dst[3].bits = folio.bits + 1000 * PAGE; /* nobody's, or somebody's */
	dst[4] = uhmm_mpfn_host(0);
	dst[5] = other;
	assert_int_equal(uhmm_migrate_copy(m), -EINVAL);
	assert_int_equal(uhmm_migrate_pages(m), 2);
	for (unsigned i = 1; i < 5; i++)
		assert_int_equal(uhmm_migrate_why(m, i), UHMM_SKIP_REFUSED);
	/* nothing was copied into the two, so what they hold is not the pattern: only where it went is looked at */
	assert_int_equal(uhmm_migrate_finalize(m, NULL), UHMM_E_PARTIAL);
	assert_int_equal(count_where(mem, 6 * PAGE, UHMM_WHERE_DEVICE), 2);
	assert_int_equal(uhmm_folio_free(dev, folio), -EINVAL);
	assert_int_equal(uhmm_folio_free(dev, big), 0);
	expect(mem, PAGE, 5 * PAGE);
	expect(mem, 6 * PAGE, BLOCK);
	put_down(mem, BLOCK);
}

static void what_is_unmapped_meanwhile_is_dropped(void **state)
{
	for (unsigned k = 0; k < 8; k++) {
		bool huge = k & 1, home = k & 2, late = k & 4;
		char *mem = filled(BLOCK, huge);

		if (home)
			go(mem, BLOCK);
		begin(mem, BLOCK, home ? HOME : SYSTEM);
		assert_int_equal(uhmm_migrate_alloc(m), 0);
		assert_int_equal(uhmm_migrate_copy(m), 0);
		if (late)
			assert_int_equal(uhmm_migrate_pages(m), 512);
		assert_int_equal(munmap(mem + 8 * PAGE, 8 * PAGE), 0);
		assert_int_equal(madvise(mem + 100 * PAGE, 100 * PAGE, MADV_DONTNEED), 0);
		(void)used_bytes();
		if (!late)
			assert_true(uhmm_migrate_pages(m) <= 512);
		assert_int_equal(uhmm_migrate_finalize(m, NULL), UHMM_E_PARTIAL);
		for (unsigned i = 0; i < 512; i++)
			assert_int_equal(!!(src[i].bits & UHMM_MPFN_MIGRATE), !(i >= 8 && i < 16) && !(i >= 100 && i < 200));
		assert_int_equal(count_where(mem, BLOCK, UHMM_WHERE_DEVICE), home ? 0 : 512 - 108);
		if (!home)
			assert_int_equal(used_bytes(), (512 - 108) * PAGE);
		expect(mem, 0, 8 * PAGE);
		expect(mem, 16 * PAGE, 100 * PAGE);
		expect(mem, 200 * PAGE, BLOCK);
		assert_zeros(mem + 100 * PAGE, 100 * PAGE);
		put_down(mem, BLOCK);
	}
}

static void what_is_moved_meanwhile_ends_where_it_is(void **state)
{
	for (unsigned k = 0; k < 8; k++) {
		bool huge = k & 1, home = k & 2;
		size_t part = k & 4 ? 16 * PAGE : BLOCK;
		char *mem = filled(BLOCK, huge), *far = map_anon(BLOCK, true, huge);

		if (home)
			go(mem, BLOCK);
		begin(mem, BLOCK, home ? HOME : SYSTEM);
		assert_int_equal(uhmm_migrate_alloc(m), 0);
		assert_int_equal(uhmm_migrate_copy(m), 0);
		assert_ptr_equal(mremap(mem, part, part, MREMAP_MAYMOVE | MREMAP_FIXED, far), far);
		assert_true(uhmm_migrate_pages(m) > 0);
		(void)uhmm_migrate_finalize(m, NULL);
		expect(mem, part, BLOCK);
		assert_int_equal(check_pattern(far, part, SEED), -1);
		unmap_anon(far, BLOCK);
		put_down(mem, BLOCK);
	}
}

/* Folios of orders between: what is taken of them, and what of that goes, are cut out of them. */
static void folios_between_go_page_by_page(void **state)
{
	for (unsigned order = 1; order < 9; order++) {
		char *mem = filled(BLOCK, true);
		struct uhmm_range_page page = { 0 };
		struct uhmm_range range = { .sz = sizeof(range), .start = mem + 40 * PAGE, .len_bytes = PAGE, .dev = dev, .pages = &page };

		assert_int_equal(uhmm_to_device(space, mem, BLOCK, dev, UHMM_MOVE_ORDER(order), NULL), 0);
		assert_int_equal(uhmm_range_fault(space, &range), 0);
		begin(mem + 3 * PAGE, 11 * PAGE, HOME); /* a part */
		assert_int_equal(args.cpages, 11);
		for (unsigned i = 0; i < 11; i++)
			assert_int_equal(uhmm_mpfn_offset(src[i]) - uhmm_mpfn_offset(src[0]), i * PAGE);
		for (unsigned i = 0; i < 11; i += 2)
			dst[i] = uhmm_mpfn_host(0);
		assert_int_equal(uhmm_migrate_copy(m), 0);
		assert_int_equal(uhmm_migrate_pages(m), 6);
		assert_int_equal(uhmm_migrate_finalize(m, NULL), UHMM_E_PARTIAL);
		assert_int_equal(count_where(mem, BLOCK, UHMM_WHERE_DEVICE), 506);
		assert_int_equal(used_bytes(), 506 * PAGE);

		args.offset = uhmm_range_page_offset(page) + PAGE;
		args.len_bytes = 5 * PAGE;
		assert_int_equal(uhmm_migrate_setup_device(space, &args, &m), 0);
		assert_int_equal(args.cpages, 5);
		end_all(5);
		assert_int_equal(count_where(mem + 41 * PAGE, 5 * PAGE, UHMM_WHERE_SYSTEM), 5);
		assert_int_equal(used_bytes(), 501 * PAGE);
		expect(mem, 3 * PAGE, 14 * PAGE);
		expect(mem, 0, BLOCK);
		put_down(mem, BLOCK);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_the_library_s_own_means),
		cmocka_unit_test(entries_of_a_thp),
		cmocka_unit_test(without_compound_a_thp_goes_in_pages),
		cmocka_unit_test(memory_never_touched),
		cmocka_unit_test(only_pages_of_that_device_are_selected),
		cmocka_unit_test(what_has_no_destination_stays),
		cmocka_unit_test(a_full_device_takes_what_it_can),
		cmocka_unit_test(copies_that_fail_are_the_caller_s_to_answer_for),
		cmocka_unit_test(a_compound_is_split_for_small_destinations),
		cmocka_unit_test(destinations_that_do_not_fit_are_refused),
		cmocka_unit_test(folios_between_go_page_by_page),
		cmocka_unit_test(what_is_unmapped_meanwhile_is_dropped),
		cmocka_unit_test(what_is_moved_meanwhile_ends_where_it_is),
	};

	rig_open("emu:size=64M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
