/* SPDX-License-Identifier: MIT */
#include "tools/run_report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/size.h"

struct text {
	char *at;
	size_t bytes, len;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->len < t->bytes ? t->at + t->len : NULL, t->len < t->bytes ? t->bytes - t->len : 0, fmt, ap);
	va_end(ap);
	t->len += n > 0 ? (size_t)n : 0;
}

static void add_string(struct text *t, const char *s)
{
	add(t, "\"");
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			add(t, "\\%c", *s);
		else if ((unsigned char)*s < ' ')
			add(t, "\\u%04x", *s);
		else
			add(t, "%c", *s);
	}
	add(t, "\"");
}

int run_report_json(const struct run_file *f, const struct run_slot *s, char *ret, size_t bytes)
{
	static const char *const managed[] = { "not_needed", "yes", "failed" };
	const struct { const char *key; const _Atomic uint64_t *value; } field[] = {
		{ "limit_bytes", &s->limit }, { "resident_bytes", &s->resident }, { "resident_max_bytes", &s->resident_max },
		{ "pool_bytes", &s->pool }, { "metadata_bytes", &s->metadata },
		{ "evicted_bytes", &s->evicted }, { "zero_bytes", &s->zero }, { "onward_bytes", &s->onward },
		{ "home_bytes", &s->came_home }, { "ahead_bytes", &s->ahead }, { "returned_bytes", &s->returned },
		{ "faults", &s->faults }, { "fault_ns_p50", &s->fault_ns_p50 }, { "fault_ns_p99", &s->fault_ns_p99 },
		{ "fault_ns_max", &s->fault_ns_max }, { "lost_pages", &s->lost },
		{ "waits", &s->waits }, { "wait_ns", &s->wait_ns }, { "over", &s->over }, { "stuck", &s->stuck },
		{ "full", &s->full }, { "busy_device", &s->busy_device }, { "busy_ns", &s->busy_ns }, { "laps", &s->laps },
	};
	struct text t = { ret, bytes, 0 };

	add(&t, "{\"pid\":%lld,\"managed\":\"%s\",\"run_limit_bytes\":%llu,\"seconds\":%.3f", (long long)atomic_load(&s->pid),
	    managed[run_get(&s->managed) % 3], (unsigned long long)f->limit,
	    (double)(run_get(&s->now_ns) - run_get(&s->began_ns)) / 1e9);
	for (size_t i = 0; i < sizeof(field) / sizeof(field[0]); i++)
		add(&t, ",\"%s\":%llu", field[i].key, (unsigned long long)run_get(field[i].value));
	add(&t, ",\"devices\":[");
	for (unsigned i = 0; i < f->nr_devices; i++) {
		add(&t, "%s{\"spec\":", i ? "," : "");
		add_string(&t, f->spec[i]);
		add(&t, ",\"used_bytes\":%llu,\"size_bytes\":%llu}", (unsigned long long)run_get(&s->used[i]),
		    (unsigned long long)run_get(&s->size[i]));
	}
	add(&t, "]}");
	return (int)t.len;
}

/* Return: 0 or -1 with errno. */
static int write_all(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

static void say_not_written(const char *path)
{
	char line[600];
	int n = snprintf(line, sizeof(line), "uhmm: the figures cannot be written to %.400s: %s\n", path, strerrordesc_np(errno));

	(void)write_all(STDERR_FILENO, line, (size_t)n);
}

static void say_summary(const struct run_slot *s)
{
	char line[600], max[SIZE_CHARS], out[SIZE_CHARS], onward[SIZE_CHARS], zero[SIZE_CHARS], home[SIZE_CHARS];
	int n = snprintf(line, sizeof(line),
			 "uhmm: process %d held at most %s; %s went to devices, %s moved on, %s were zeros, %s came back in %llu faults "
			 "(p50 %llu us, p99 %llu us); %llu touches waited for room, %.3f s in all; %llu went over the limit\n",
			 (int)getpid(), size_print(run_get(&s->resident_max), max), size_print(run_get(&s->evicted), out),
			 size_print(run_get(&s->onward), onward), size_print(run_get(&s->zero), zero), size_print(run_get(&s->came_home), home),
			 (unsigned long long)run_get(&s->faults), (unsigned long long)run_get(&s->fault_ns_p50) / 1000,
			 (unsigned long long)run_get(&s->fault_ns_p99) / 1000, (unsigned long long)run_get(&s->waits),
			 (double)run_get(&s->wait_ns) / 1e9, (unsigned long long)run_get(&s->over));

	(void)write_all(STDERR_FILENO, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

void run_report_end(const struct run_file *f, const struct run_slot *s)
{
	char text[8192];
	int fd, n, r;

	if (f->flags & RUN_VERBOSE && run_get(&s->managed) == 1)
		say_summary(s);
	if (!*f->stats_path || f->pid != getpid())
		return;
	n = run_report_json(f, s, text, sizeof(text) - 1);
	if (n < 0 || (size_t)n >= sizeof(text) - 1)
		return;
	text[n] = '\n';
	fd = open(f->stats_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	r = fd < 0 ? -1 : write_all(fd, text, (size_t)n + 1);
	if (fd >= 0 && close(fd))
		r = -1;
	if (r)
		say_not_written(f->stats_path);
}
