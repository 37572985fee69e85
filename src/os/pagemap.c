/* SPDX-License-Identifier: MIT */
#include "os/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/pages.h"
#include "os/fail.h"
#include "os/uapi.h"

/* What is told of each page. FILE makes the kernel look at the page behind each entry, which doubles the time for base pages:
 * it is asked for only where one answer is wanted. */
#define CATEGORIES (UAPI_PAGE_IS_PRESENT | UAPI_PAGE_IS_SWAPPED | UAPI_PAGE_IS_PFNZERO | UAPI_PAGE_IS_HUGE)

#define REGIONS 128 /* read at once; on the stack */

int pagemap_open(int *ret_fd)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

void pagemap_close(int fd)
{
	if (fd >= 0)
		close(fd);
}

static uint32_t bits_of(uint64_t categories)
{
	return (categories & UAPI_PAGE_IS_PRESENT ? PM_PRESENT : 0) | (categories & UAPI_PAGE_IS_SWAPPED ? PM_SWAPPED : 0) |
	       (categories & UAPI_PAGE_IS_PFNZERO ? PM_ZERO : 0) | (categories & UAPI_PAGE_IS_HUGE ? PM_HUGE : 0) |
	       (categories & UAPI_PAGE_IS_FILE ? PM_FILE : 0);
}

/* Pages with nothing of interest are not reported: the gaps between regions are holes. */
static void add_run(struct pm_run *runs, unsigned *nr, uint64_t start, uint64_t end, uint32_t bits)
{
	if (start >= end)
		return;
	if (*nr && runs[*nr - 1].end == start && runs[*nr - 1].bits == bits)
		runs[*nr - 1].end = end;
	else
		runs[(*nr)++] = (struct pm_run){ start, end, bits };
}

static int scan(int fd, uint64_t start, uint64_t end, uint64_t also, struct pm_run *runs, unsigned max, unsigned *ret_nr,
		uint64_t *ret_end)
{
	struct uapi_page_region regions[REGIONS];
	uint64_t at = start;
	unsigned nr = 0;

	/* each region may add a hole before it, and one may follow at the end */
	while (at < end && max - nr >= 3) {
		unsigned room = (max - nr - 1) / 2;
		struct uapi_pm_scan_arg arg = {
			.size = sizeof(arg), .start = at, .end = end, .vec = (uintptr_t)regions,
			.vec_len = room < REGIONS ? room : REGIONS, .category_anyof_mask = CATEGORIES,
			.return_mask = CATEGORIES | also,
		};
		int err = os_fail(OS_PAGEMAP);
		int n;

		if (err)
			return -err;
		n = ioctl(fd, UAPI_PAGEMAP_SCAN, &arg);
		if (n < 0)
			return -errno;
		for (int i = 0; i < n; i++) {
			add_run(runs, &nr, at, regions[i].start, 0);
			add_run(runs, &nr, regions[i].start, regions[i].end, bits_of(regions[i].categories));
			at = regions[i].end;
		}
		add_run(runs, &nr, at, arg.walk_end, 0);
		at = arg.walk_end;
	}
	*ret_nr = nr;
	*ret_end = at;
	return 0;
}

int pagemap_scan(int fd, uint64_t start, uint64_t end, struct pm_run *runs, unsigned max, unsigned *ret_nr,
		 uint64_t *ret_end)
{
	return scan(fd, start, end, 0, runs, max, ret_nr, ret_end);
}

int pagemap_uniform(int fd, uint64_t start, uint64_t end)
{
	struct pm_run runs[3];
	uint64_t stop;
	unsigned nr;
	int r = scan(fd, start, end, UAPI_PAGE_IS_FILE, runs, 3, &nr, &stop);

	if (r)
		return r;
	return nr == 1 && stop == end ? (int)runs[0].bits : -1;
}

bool pagemap_exclusive(int fd, uint64_t addr)
{
	uint64_t word;

	if (pread(fd, &word, sizeof(word), (off_t)(addr >> PAGE_SHIFT) * 8) != sizeof(word))
		return false;
	return word >> 56 & 1;
}

int pagemap_exclusives(int fd, uint64_t addr, unsigned nr, bool *ret)
{
	uint64_t words[PAGES_PER_BLOCK];
	ssize_t n = pread(fd, words, nr * sizeof(*words), (off_t)(addr >> PAGE_SHIFT) * 8);

	if (n < 0)
		return -errno;
	for (unsigned i = 0; i < nr; i++)
		ret[i] = (i + 1) * sizeof(*words) <= (size_t)n && words[i] >> 56 & 1;
	return 0;
}
