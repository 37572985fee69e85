/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PAGE  4096
#define GUARD PAGE
#define BLOCK (2 * MIB)

static void __attribute__((noreturn, format(printf, 1, 2))) give_up(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

void support_skip(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("SKIP: ", stdout);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	exit(SUPPORT_SKIP);
}

static struct uhmm_probe probe(void)
{
	struct uhmm_probe host = { .sz = sizeof(host) };
	int r = uhmm_probe(&host);

	if (r)
		give_up("uhmm_probe: %s", uhmm_strerror(r));
	return host;
}

void skip_unless_uffd(void)
{
	struct uhmm_probe host = probe();

	if (host.uffd_errno)
		support_skip("no full userfaultfd here: %s", strerror(host.uffd_errno));
	if (!host.has_move)
		support_skip("this kernel has no UFFDIO_MOVE");
}

bool has_thp(void)
{
	return probe().has_thp;
}

void skip_unless_thp(void)
{
	if (!has_thp())
		support_skip("no 2 MiB page could be had");
}

/* Two such pages have one frame; who may not know frames sees 0 for both. */
bool has_zero_page(void)
{
	volatile char *mem = map_anon(2 * PAGE, true, false);
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t word[2];

	(void)mem[0];
	(void)mem[PAGE];
	if (fd < 0 || pread(fd, word, sizeof(word), (off_t)((uintptr_t)mem / PAGE * 8)) != sizeof(word))
		give_up("/proc/self/pagemap: %s", strerror(errno));
	close(fd);
	unmap_anon((void *)mem, 2 * PAGE);
	return word[0] << 9 == word[1] << 9;
}

struct uhmm_space *open_space_or_skip(const struct uhmm_space_opts *opts)
{
	struct uhmm_space *space;
	int r = uhmm_open(opts, &space);

	if (r == -EPERM || r == -ENOSYS || r == -EOPNOTSUPP)
		support_skip("uhmm_open: %s", uhmm_strerror(r));
	if (r)
		give_up("uhmm_open: %s", uhmm_strerror(r));
	return space;
}

const char *device_spec(void)
{
	const char *spec = getenv("UHMM_TEST_DEVICE");

	return spec && *spec ? spec : "emu:size=1G";
}

void *map_anon(size_t bytes, bool align2m, bool huge)
{
	size_t reserved = bytes + 2 * BLOCK;
	char *base = mmap(NULL, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *mem, *end;

	if (base == MAP_FAILED)
		give_up("map_anon: mmap of %zu bytes: %s", reserved, strerror(errno));
	mem = (char *)(((uintptr_t)base + GUARD + BLOCK - 1) & ~((uintptr_t)BLOCK - 1));
	if (!align2m)
		mem += GUARD;
	end = mem + bytes;
	if (mem - GUARD > base)
		munmap(base, (size_t)(mem - GUARD - base));
	munmap(end + GUARD, (size_t)(base + reserved - end - GUARD));
	if (mprotect(mem, bytes, PROT_READ | PROT_WRITE) || madvise(mem, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
		give_up("map_anon: %s", strerror(errno));
	return mem;
}

void unmap_anon(void *mem, size_t bytes)
{
	char *base;

	if (!mem)
		return;
	base = (char *)mem - GUARD;
	munmap(base, bytes + 2 * GUARD);
	/* for good: another thread may have taken the place in between, and may have it */
	(void)mmap(base, bytes + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
}

int lock_memory(const void *mem, size_t bytes)
{
	return (int)syscall(SYS_mlock, mem, bytes);
}

int unlock_memory(const void *mem, size_t bytes)
{
	return (int)syscall(SYS_munlock, mem, bytes);
}

size_t anon_huge_bytes(const void *addr, size_t len)
{
	uintptr_t from = (uintptr_t)addr, to = from + len;
	FILE *smaps = fopen("/proc/self/smaps", "re");
	size_t sum = 0, inside = 0, kib;
	uintptr_t start, end;
	char line[512];

	if (!smaps)
		give_up("/proc/self/smaps: %s", strerror(errno));
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2) {
			start = start > from ? start : from;
			end = end < to ? end : to;
			inside = end > start ? end - start : 0;
		} else if (inside && sscanf(line, "AnonHugePages: %zu kB", &kib) == 1) {
			sum += kib * KIB < inside ? kib * KIB : inside;
		}
	}
	fclose(smaps);
	return sum;
}

uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t word_at(uint64_t seed, size_t offset)
{
	uint64_t state = seed + offset / 8 * 0x9e3779b97f4a7c15u;

	return next_random(&state);
}

void fill_pattern_at(void *mem, size_t len, uint64_t seed, size_t offset)
{
	uint64_t *words = mem, tail = word_at(seed, offset + len / 8 * 8);

	for (size_t i = 0; i < len / 8; i++)
		words[i] = word_at(seed, offset + i * 8);
	memcpy(words + len / 8, &tail, len % 8);
}

int64_t check_pattern_at(const void *mem, size_t len, uint64_t seed, size_t offset)
{
	const uint64_t *words = mem;
	uint64_t tail = word_at(seed, offset + len / 8 * 8);

	for (size_t i = 0; i < len / 8; i++)
		if (words[i] != word_at(seed, offset + i * 8))
			return (int64_t)(i * 8);
	return memcmp(words + len / 8, &tail, len % 8) ? (int64_t)(len / 8 * 8) : -1;
}

int64_t check_zero(const void *mem, size_t len)
{
	const uint64_t *words = mem;

	for (size_t i = 0; i < len / 8; i++)
		if (words[i])
			return (int64_t)(i * 8);
	return -1;
}

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_last[512];
static unsigned log_count;

/* May run in a fault thread: no stdio, no malloc. */
static void remember(void *ctx, enum uhmm_log_level level, const char *message)
{
	struct iovec parts[] = { { (void *)"# ", 2 }, { (void *)message, strlen(message) }, { (void *)"\n", 1 } };

	pthread_mutex_lock(&log_lock);
	strncpy(log_last, message, sizeof(log_last) - 1);
	log_count++;
	pthread_mutex_unlock(&log_lock);
	if (writev(STDERR_FILENO, parts, 3) < 0)
		return; /* a lost line of a test's output is no reason to fail it */
}

void support_log_start(enum uhmm_log_level level)
{
	support_log_clear();
	uhmm_log_set(remember, NULL, level);
}

const char *support_last_log(void)
{
	static _Thread_local char copy[sizeof(log_last)];

	pthread_mutex_lock(&log_lock);
	memcpy(copy, log_last, sizeof(copy));
	pthread_mutex_unlock(&log_lock);
	return copy;
}

unsigned support_log_count(void)
{
	unsigned n;

	pthread_mutex_lock(&log_lock);
	n = log_count;
	pthread_mutex_unlock(&log_lock);
	return n;
}

void support_log_clear(void)
{
	pthread_mutex_lock(&log_lock);
	log_last[0] = '\0';
	log_count = 0;
	pthread_mutex_unlock(&log_lock);
}

uint64_t seed_from_env(void)
{
	const char *text = getenv("UHMM_SEED");
	uint64_t state = now_ns() ^ (uint64_t)getpid() << 32;
	uint64_t seed = text && *text ? strtoull(text, NULL, 0) : next_random(&state);

	printf("# UHMM_SEED=%" PRIu64 "\n", seed);
	fflush(stdout);
	return seed;
}

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
