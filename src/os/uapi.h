/* SPDX-License-Identifier: MIT */
#ifndef OS_UAPI_H
#define OS_UAPI_H

/*
 * Kernel interfaces that distributions' headers are too old for (Debian 12 carries those of Linux 6.1). Numbers and
 * layouts are the kernel's ABI; the names carry no prefix of linux/ so that newer headers do not collide.
 */

#include <linux/userfaultfd.h>
#include <stdint.h>
#include <sys/ioctl.h>

#define UAPI_USER_MODE_ONLY   1u /* flag of userfaultfd(2) */
#define UAPI_DEV_USERFAULTFD  _IO(0xAA, 0x00)

#define UAPI_FEATURE_POISON   (UINT64_C(1) << 14)
#define UAPI_FEATURE_MOVE     (UINT64_C(1) << 16)

/* UFFDIO_MOVE, Linux 6.8 */
struct uapi_uffdio_move {
	uint64_t dst, src, len, mode;
	int64_t move;
};
#define UAPI_UFFDIO_MOVE      _IOWR(0xAA, 0x05, struct uapi_uffdio_move)
#define UAPI_MOVE_DONTWAKE    (UINT64_C(1) << 0)
#define UAPI_MOVE_ALLOW_HOLES (UINT64_C(1) << 1)

/* UFFDIO_POISON, Linux 6.6 */
struct uapi_uffdio_poison {
	uint64_t start, len, mode;
	int64_t updated;
};
#define UAPI_UFFDIO_POISON    _IOWR(0xAA, 0x08, struct uapi_uffdio_poison)

/* PAGEMAP_SCAN, Linux 6.7 */
struct uapi_page_region {
	uint64_t start, end, categories;
};
struct uapi_pm_scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define UAPI_PAGEMAP_SCAN     _IOWR('f', 16, struct uapi_pm_scan_arg)
#define UAPI_PAGE_IS_FILE     (1u << 2)
#define UAPI_PAGE_IS_PRESENT  (1u << 3)
#define UAPI_PAGE_IS_SWAPPED  (1u << 4)
#define UAPI_PAGE_IS_PFNZERO  (1u << 5)
#define UAPI_PAGE_IS_HUGE     (1u << 6)

/* PROCMAP_QUERY, Linux 6.11 */
struct uapi_procmap_query {
	uint64_t size, query_flags, query_addr;
	uint64_t vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
	uint32_t dev_major, dev_minor;
	uint32_t vma_name_size, build_id_size;
	uint64_t vma_name_addr, build_id_addr;
};
#define UAPI_PROCMAP_QUERY    _IOWR('f', 17, struct uapi_procmap_query)
#define UAPI_VMA_READABLE     0x01u
#define UAPI_VMA_WRITABLE     0x02u
#define UAPI_VMA_EXECUTABLE   0x04u
#define UAPI_VMA_SHARED       0x08u
#define UAPI_COVERING_OR_NEXT 0x10u

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#endif
