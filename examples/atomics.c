/* SPDX-License-Identifier: MIT */
/*
 * A device and a CPU count the bytes of one array into the same bins at the same time. The device counts what was sent to it;
 * the CPU counts the other half where it is. Both add to the bins by what is atomic for them: the CPU by an instruction, the
 * device by taking the page for itself (uhmm_device_exclusive), until a CPU's touch takes it back. The same source for every
 * device:
 *
 *     atomics                        emu:
 *     atomics opencl:size=256M       the memory of an OpenCL device
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>

#include <uhmm/uhmm.h>

#define BYTES ((size_t)16 << 20) /* for each of the two */
#define TILE  ((size_t)64 << 10)
#define BINS  256

struct job {
	struct uhmm_device *dev;
	const unsigned char *bytes;
	_Atomic uint64_t *bins; /* one page */
	unsigned retries;       /* the device began an addition, and the page was taken back before its end */
	int error;
};

/* RESIDENT: only while the device has the page. What is refused was taken away since, so none of it has happened. */
static int device_add(struct job *j, const uint64_t counts[BINS])
{
	uint64_t bins[BINS];
	int r;

	for (;; j->retries++) {
		r = uhmm_device_exclusive(j->dev, (void *)(uintptr_t)j->bins, sizeof(bins));
		if (!r)
			r = uhmm_device_read(j->dev, (const void *)(uintptr_t)j->bins, sizeof(bins), bins, UHMM_ACCESS_RESIDENT, NULL);
		for (unsigned i = 0; !r && i < BINS; i++)
			bins[i] += counts[i];
		if (!r)
			r = uhmm_device_write(j->dev, (void *)(uintptr_t)j->bins, sizeof(bins), bins, UHMM_ACCESS_RESIDENT, NULL);
		if (r != -ENOENT && r != -EBUSY)
			return r;
	}
}

static void *device_counts(void *arg)
{
	struct job *j = arg;
	unsigned char tile[TILE];

	for (size_t at = 0; !j->error && at < BYTES; at += TILE) {
		uint64_t counts[BINS] = { 0 };

		j->error = uhmm_device_read(j->dev, j->bytes + at, TILE, tile, 0, NULL);
		for (size_t i = 0; i < TILE; i++)
			counts[tile[i]]++;
		if (!j->error)
			j->error = device_add(j, counts);
	}
	return NULL;
}

static void cpu_counts(const unsigned char *bytes, _Atomic uint64_t *bins)
{
	for (size_t at = 0; at < BYTES; at += TILE) {
		uint64_t counts[BINS] = { 0 };

		for (size_t i = 0; i < TILE; i++)
			counts[bytes[at + i]]++;
		for (unsigned i = 0; i < BINS; i++)
			atomic_fetch_add(&bins[i], counts[i]); /* the first of them takes the page back */
	}
}

static int run(struct uhmm_space *space, struct uhmm_device *dev, unsigned char *bytes, _Atomic uint64_t *bins)
{
	struct job j = { .dev = dev, .bytes = bytes, .bins = bins };
	uint64_t want[BINS] = { 0 }, sum = 0;
	unsigned wrong = 0;
	pthread_t t;
	int r;

	for (size_t i = 0; i < 2 * BYTES; i++) {
		bytes[i] = (unsigned char)(i * i >> 11);
		want[bytes[i]]++;
	}
	r = uhmm_to_device(space, bytes, BYTES, dev, 0, NULL);
	if (r)
		return r;
	if (pthread_create(&t, NULL, device_counts, &j))
		return -EAGAIN;
	cpu_counts(bytes + BYTES, bins);
	pthread_join(t, NULL);
	for (unsigned i = 0; i < BINS; i++) {
		sum += bins[i];
		wrong += bins[i] != want[i];
	}
	printf("%llu bytes counted, %u bins wrong, %u additions of the device begun again\n", (unsigned long long)sum, wrong, j.retries);
	return j.error ? j.error : wrong ? -EIO : 0;
}

static void hear(void *ctx, enum uhmm_log_level level, const char *message)
{
	(void)ctx, (void)level;
	fprintf(stderr, "atomics: %s\n", message);
}

static void *map(size_t bytes)
{
	void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mem == MAP_FAILED ? NULL : mem;
}

int main(int argc, char **argv)
{
	unsigned char *bytes = map(2 * BYTES);
	_Atomic uint64_t *bins = map(BINS * sizeof(*bins));
	struct uhmm_space *space;
	struct uhmm_device *dev;
	int r;

	if (!bytes || !bins)
		return 1;
	madvise(bytes, 2 * BYTES, MADV_HUGEPAGE);
	uhmm_log_set(hear, NULL, UHMM_LOG_ERROR);
	r = uhmm_open(NULL, &space);
	if (r)
		return r == -EPERM || r == -ENOSYS || r == -EOPNOTSUPP ? 77 : 1;
	r = uhmm_device_open(space, argc > 1 ? argv[1] : "emu:size=256M", &dev);
	if (r) {
		uhmm_close(space);
		return r == -ENODEV ? 77 : 1; /* this machine has no such device */
	}
	r = run(space, dev, bytes, bins);
	if (r)
		fprintf(stderr, "atomics: %s\n", uhmm_strerror(r));
	return uhmm_close(space) || r;
}
