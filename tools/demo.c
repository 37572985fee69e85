/* SPDX-License-Identifier: MIT */
/*
 * The whole idea in one run: real bytes go to a device's private memory, a CPU touches them and they come back by
 * themselves, unchanged and still huge. Beside it the same at 4 KiB, and a bare userfaultfd at 4 KiB in turns with
 * it, so that the figures have something to be held against.
 */
#include "tools/demo.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tools/args.h"
#include "tools/cmd.h"
#include "tools/say.h"
#include "tools/size.h"

#define DEFAULT_BYTES ((uint64_t)512 << 20)
#define BASE_BYTES    ((uint64_t)64 << 20) /* as much as the 4 KiB pass moves */

struct demo {
	/* as it was asked for */
	const char *spec;
	uint64_t bytes;
	bool json;
	char **files;
	unsigned nr_files;

	/* as it was measured */
	struct rig rig;
	struct input input;
	struct trip huge, base;
	struct against_bare one_cpu, two_cpus;
};

/* --- the figures ------------------------------------------------------------------------------------------------ */

static double ratio(double a, double b)
{
	return b > 0 ? a / b : 0;
}

static double gb_s(const struct trip *t, double seconds)
{
	return ratio((double)t->bytes / 1e9, seconds);
}

static double metadata_per_block(const struct trip *t)
{
	return ratio((double)t->metadata_bytes, (double)t->bytes / (double)UHMM_BLOCK_BYTES);
}

static double to_bare(const struct against_bare *a)
{
	return ratio(a->uhmm_us_p50, a->bare_us_p50);
}

static double worst_to_bare(const struct demo *d)
{
	return to_bare(&d->one_cpu) > to_bare(&d->two_cpus) ? to_bare(&d->one_cpu) : to_bare(&d->two_cpus);
}

static bool same_bytes(const struct demo *d)
{
	return d->huge.sum_before == d->huge.sum_after && d->base.sum_before == d->base.sum_after;
}

/* --- for people ------------------------------------------------------------------------------------------------- */

static void print_folios(const struct trip *t, char *ret, size_t bytes)
{
	size_t used = 0;

	snprintf(ret, bytes, "none");
	for (int order = UHMM_ORDER_MAX; order >= 0 && used < bytes; order--)
		if (t->folios[order])
			used += (size_t)snprintf(ret + used, bytes - used, "%s%llu of order %d", used ? ", " : "",
						 (unsigned long long)t->folios[order], order);
}

static void line(const char *label, const char *fmt, double huge, double base)
{
	char a[32], b[32];

	snprintf(a, sizeof(a), fmt, huge);
	snprintf(b, sizeof(b), fmt, base);
	printf("  %-36s %24s %24s\n", label, a, b);
}

static double thps(uint64_t bytes)
{
	return (double)(bytes / UHMM_BLOCK_BYTES);
}

static void print_table(const struct trip *h, const struct trip *b)
{
	char hs[SIZE_CHARS], bs[SIZE_CHARS], hf[128], bf[128];

	print_folios(h, hf, sizeof(hf));
	print_folios(b, bf, sizeof(bf));
	printf("  %-36s %24s %24s\n", "", "2 MiB pages", "4 KiB pages");
	printf("  %-36s %24s %24s\n", "bytes", size_print(h->bytes, hs), size_print(b->bytes, bs));
	printf("  %-36s %24s %24s\n", "folios on the device", hf, bf);
	line("THPs before", "%.0f", thps(h->thp_bytes_before), thps(b->thp_bytes_before));
	line("THPs after", "%.0f", thps(h->thp_bytes_after), thps(b->thp_bytes_after));
	line("faults", "%.0f", (double)h->faults, (double)b->faults);
	line("to the device, GB/s", "%.2f", gb_s(h, h->to_device_s), gb_s(b, b->to_device_s));
	line("home by CPU touches, GB/s", "%.2f", gb_s(h, h->home_s), gb_s(b, b->home_s));
	line("fault latency p50, us", "%.1f", h->fault_us_p50, b->fault_us_p50);
	line("fault latency p99, us", "%.1f", h->fault_us_p99, b->fault_us_p99);
	line("time per 2 MiB home p50, us", "%.0f", h->block_us_p50, b->block_us_p50);
	line("metadata per 2 MiB on device, bytes", "%.0f", metadata_per_block(h), metadata_per_block(b));
	if (h->stayed_pages || b->stayed_pages)
		line("base pages that stayed", "%.0f", (double)h->stayed_pages, (double)b->stayed_pages);
	printf("  %-36s         %016llx         %016llx\n", "checksum before", (unsigned long long)h->sum_before,
	       (unsigned long long)b->sum_before);
	printf("  %-36s         %016llx         %016llx\n", "checksum after", (unsigned long long)h->sum_after,
	       (unsigned long long)b->sum_after);
}

static void print_source(const struct demo *d)
{
	char moved[SIZE_CHARS], real[SIZE_CHARS];

	printf("%s made of %s", size_print(d->huge.bytes, moved), d->input.name);
	if (d->input.nr_files > 1)
		printf(" and %u more", d->input.nr_files - 1);
	printf(" (%s of it), to %s and home\n\n", size_print(d->input.bytes, real), d->rig.info.spec);
}

static void print_against_bare(const char *where, const struct against_bare *a)
{
	printf("  %-22s  %32.1f %7.1f %11.2f\n", where, a->bare_us_p50, a->uhmm_us_p50, to_bare(a));
}

static void print_text(const struct demo *d)
{
	const struct trip *h = &d->huge, *b = &d->base;

	print_source(d);
	print_table(h, b);
	printf("\n2 MiB against 4 KiB: %.1f times the throughput there, %.1f times home; "
	       "the median 2 MiB come home in 1/%.1f of the time\n",
	       ratio(gb_s(h, h->to_device_s), gb_s(b, b->to_device_s)), ratio(gb_s(h, h->home_s), gb_s(b, b->home_s)),
	       ratio(b->block_us_p50, h->block_us_p50));
	printf("\na touch of 4 KiB, p50 us:  bare userfaultfd + UFFDIO_COPY    uhmm   uhmm/bare\n");
	print_against_bare("server on the same CPU", &d->one_cpu);
	print_against_bare("server on another CPU", &d->two_cpus);
	if (same_bytes(d))
		printf("\nchecksums equal: every byte came home\n");
}

/* --- for programs ----------------------------------------------------------------------------------------------- */

static json_t *trip_json(const struct trip *t)
{
	json_t *folios = json_object(), *o;
	char order[8], before[24], after[24];

	for (int i = 0; i < UHMM_NR_ORDERS; i++) {
		if (!t->folios[i])
			continue;
		snprintf(order, sizeof(order), "%d", i);
		json_object_set_new(folios, order, json_integer((json_int_t)t->folios[i]));
	}
	snprintf(before, sizeof(before), "%016llx", (unsigned long long)t->sum_before);
	snprintf(after, sizeof(after), "%016llx", (unsigned long long)t->sum_after);
	o = json_pack("{s:I, s:o, s:I, s:I, s:I, s:I, s:I}", "bytes", (json_int_t)t->bytes, "folios_by_order", folios,
		      "stayed_pages", (json_int_t)t->stayed_pages, "touches", (json_int_t)t->touches,
		      "faults", (json_int_t)t->faults,
		      "thps_before", (json_int_t)(t->thp_bytes_before / UHMM_BLOCK_BYTES),
		      "thps_after", (json_int_t)(t->thp_bytes_after / UHMM_BLOCK_BYTES));
	json_object_update_new(o, json_pack("{s:f, s:f, s:f, s:f, s:f, s:I, s:f, s:s, s:s}",
			       "to_device_gb_s", gb_s(t, t->to_device_s), "home_gb_s", gb_s(t, t->home_s),
			       "fault_us_p50", t->fault_us_p50, "fault_us_p99", t->fault_us_p99,
			       "us_per_2mib_p50", t->block_us_p50, "metadata_bytes", (json_int_t)t->metadata_bytes,
			       "metadata_bytes_per_2mib", metadata_per_block(t), "checksum_before", before,
			       "checksum_after", after));
	return o;
}

static json_t *against_json(const struct against_bare *a)
{
	return json_pack("{s:f, s:f, s:f, s:f, s:f}", "bare_uffdio_copy_us_p50", a->bare_us_p50, "bare_uffdio_copy_us_p99",
			 a->bare_us_p99, "uhmm_us_p50", a->uhmm_us_p50, "uhmm_us_p99", a->uhmm_us_p99, "ratio", to_bare(a));
}

static void print_json(const struct demo *d)
{
	const struct trip *h = &d->huge, *b = &d->base;
	json_t *o = json_pack("{s:s, s:I, s:s, s:o, s:o, s:b}", "input", d->input.name,
			      "input_bytes", (json_int_t)d->input.bytes, "device", d->rig.info.spec,
			      "huge", trip_json(h), "base", trip_json(b), "checksums_equal", (int)same_bytes(d));

	json_object_update_new(o, json_pack("{s:o, s:o, s:f, s:f, s:f, s:f}",
			       "server_on_same_cpu", against_json(&d->one_cpu),
			       "server_on_other_cpu", against_json(&d->two_cpus),
			       "base_fault_to_bare_ratio", worst_to_bare(d),
			       "to_device_throughput_ratio", ratio(gb_s(h, h->to_device_s), gb_s(b, b->to_device_s)),
			       "fault_throughput_ratio", ratio(gb_s(h, h->home_s), gb_s(b, b->home_s)),
			       "fault_latency_ratio", ratio(b->block_us_p50, h->block_us_p50)));
	json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(o);
}

/* --- the run ---------------------------------------------------------------------------------------------------- */

/* The same at 4 KiB: the first part of the bytes, copied to memory without THPs. */
static int run_base(struct demo *d, const struct region *huge)
{
	uint64_t bytes = huge->bytes < BASE_BYTES ? huge->bytes : BASE_BYTES;
	struct region base;
	int r = region_init(&base, bytes, REGION_BASE);

	if (!r) {
		memcpy(base.mem, huge->mem, bytes);
		r = trip_run(&d->rig, &base, &d->base);
	}
	region_fini(&base);
	return r;
}

static int run(struct demo *d, struct region *r)
{
	int status;

	if (!rig_fits(2 * d->bytes + 2 * BASE_BYTES) || region_init(r, d->bytes, REGION_HUGE) ||
	    input_fill(r, d->files, d->nr_files, &d->input))
		return EXIT_FAILED;
	status = rig_open(&d->rig, d->spec, d->bytes, 2 * BASE_BYTES);
	if (status != EXIT_DONE)
		return status;
	if (trip_run(&d->rig, r, &d->huge) || run_base(d, r) ||
	    demo_against_bare(&d->rig, &d->one_cpu, &d->two_cpus))
		status = EXIT_FAILED;
	else if (d->json)
		print_json(d);
	else
		print_text(d);
	if (status == EXIT_DONE && !same_bytes(d)) {
		say("the checksums differ: bytes came home changed; please report this with the output of \"uhmm doctor\"");
		status = EXIT_FAILED;
	}
	return rig_close(&d->rig) == EXIT_DONE ? status : EXIT_FAILED;
}

static const struct argp_option options[] = {
	{ "device", 'd', "SPEC", 0, "The device to use (default: an emu: that fits, with its memory populated)", 0 },
	{ "size", 's', "SIZE", 0, "How many bytes to move, rounded up to 2 MiB (default 512M)", 0 },
	{ "json", 'j', NULL, 0, "Print one JSON object instead of a table", 0 },
	ARGS_COMMON
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct demo *d = state->input;

	switch (key) {
	case 'd':
		d->spec = arg;
		return 0;
	case 's':
		d->bytes = args_size("--size", arg);
		return 0;
	case 'j':
		d->json = true;
		return 0;
	case ARGP_KEY_ARGS:
		d->files = state->argv + state->next;
		d->nr_files = (unsigned)(state->argc - state->next);
		return 0;
	default:
		return args_common(key, arg, state);
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.help_filter = args_help_filter,
	.args_doc = "[FILE...]",
	.doc = "Move real data to a device and back, check every byte, and show what it took.\n\n"
	       "The FILEs (or a large file of this system) are read into memory, over and over up to --size, moved to the "
	       "device, and brought home by nothing but CPU touches.\v"
	       "Exit status: 0 when every byte came home, else 1; 2 for wrong usage.",
};

int demo_main(int argc, char **argv)
{
	struct demo d = { .bytes = DEFAULT_BYTES };
	struct region r = { 0 };
	int status;

	args_parse(&argp, argc, argv, &d);
	d.bytes = size_round_up(d.bytes, UHMM_BLOCK_BYTES);
	status = run(&d, &r);
	region_fini(&r);
	return status;
}
