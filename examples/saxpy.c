/* SPDX-License-Identifier: MIT */
/*
 * y = a * x + y, where the program's own arrays go to a device, are worked on there at the program's own addresses, and come
 * home when a CPU reads them. The same source for every device:
 *
 *     saxpy                      emu:
 *     saxpy opencl:size=256M     the memory of an OpenCL device
 *     saxpy zstd:                and so on: man uhmm-devices
 *
 * The work itself is done by threads that stand for the device's: all they have of the program is its addresses, and
 * uhmm_device_read() and uhmm_device_write().
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>

#include <uhmm/uhmm.h>

#define NR      ((size_t)4 << 20) /* floats in each array: 16 MiB */
#define BYTES   (NR * sizeof(float))
#define TILE    ((size_t)16 << 10) /* floats that a thread works on at a time */
#define THREADS 2

struct kernel {
	struct uhmm_device *dev;
	float a;
	const float *x;
	float *y;
	_Atomic size_t next; /* the first float that nobody has taken */
	_Atomic int error;
};

/* What one thread of the device does. */
static void *saxpy(void *arg)
{
	struct kernel *k = arg;
	float x[TILE], y[TILE];
	size_t at;
	int r = 0;

	while (!r && (at = atomic_fetch_add(&k->next, TILE)) < NR) {
		r = uhmm_device_read(k->dev, k->x + at, sizeof(x), x, 0, NULL);
		if (!r)
			r = uhmm_device_read(k->dev, k->y + at, sizeof(y), y, 0, NULL);
		for (size_t i = 0; i < TILE; i++)
			y[i] += k->a * x[i];
		if (!r)
			r = uhmm_device_write(k->dev, k->y + at, sizeof(y), y, 0, NULL);
	}
	if (r)
		k->error = r;
	return NULL;
}

static int launch(struct kernel *k)
{
	pthread_t t[THREADS];
	int nr = 0;

	while (nr < THREADS && !pthread_create(&t[nr], NULL, saxpy, k))
		nr++;
	if (!nr)
		return -EAGAIN;
	while (nr)
		pthread_join(t[--nr], NULL);
	return k->error;
}

static unsigned long long used_mib(struct uhmm_device *dev)
{
	struct uhmm_device_info info = { .sz = sizeof(info) };

	return uhmm_device_query(dev, &info) ? 0 : (unsigned long long)info.used_bytes >> 20;
}

static int run(struct uhmm_space *space, struct uhmm_device *dev, float *x, float *y)
{
	struct kernel k = { .dev = dev, .a = 2, .x = x, .y = y };
	size_t wrong = 0;
	int r;

	for (size_t i = 0; i < NR; i++) {
		x[i] = (float)(i % 1000);
		y[i] = 1;
	}
	r = uhmm_to_device(space, x, BYTES, dev, 0, NULL);
	if (r >= 0)
		r = uhmm_to_device(space, y, BYTES, dev, 0, NULL);
	if (r >= 0)
		r = launch(&k);
	if (r)
		return r;
	printf("the device has %llu MiB\n", used_mib(dev));
	for (size_t i = 0; i < NR; i++) /* y comes home, a folio for each touch; x stays */
		wrong += y[i] != 2 * (float)(i % 1000) + 1;
	printf("%zu of %zu are wrong; the device has %llu MiB\n", wrong, NR, used_mib(dev));
	return wrong ? -EIO : 0;
}

static void hear(void *ctx, enum uhmm_log_level level, const char *message)
{
	(void)ctx, (void)level;
	fprintf(stderr, "saxpy: %s\n", message);
}

int main(int argc, char **argv)
{
	float *mem = mmap(NULL, 2 * BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uhmm_space *space;
	struct uhmm_device *dev;
	int r;

	if (mem == MAP_FAILED)
		return 1;
	madvise(mem, 2 * BYTES, MADV_HUGEPAGE);
	uhmm_log_set(hear, NULL, UHMM_LOG_ERROR);
	r = uhmm_open(NULL, &space);
	if (r)
		return r == -EPERM || r == -ENOSYS || r == -EOPNOTSUPP ? 77 : 1;
	r = uhmm_device_open(space, argc > 1 ? argv[1] : "emu:size=256M", &dev);
	if (r) {
		uhmm_close(space);
		return r == -ENODEV ? 77 : 1; /* this machine has no such device */
	}
	r = run(space, dev, mem, mem + NR);
	if (r)
		fprintf(stderr, "saxpy: %s\n", uhmm_strerror(r));
	return uhmm_close(space) || r;
}
