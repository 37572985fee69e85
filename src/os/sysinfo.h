/* SPDX-License-Identifier: MIT */
#ifndef OS_SYSINFO_H
#define OS_SYSINFO_H

#include <stdbool.h>
#include <stdint.h>

enum sysinfo_thp { THP_NEVER, THP_MADVISE, THP_ALWAYS };

/* The system's setting for transparent huge pages; THP_NEVER where there are none. */
enum sysinfo_thp sysinfo_thp(void);

uint64_t sysinfo_ram_bytes(void);

/* Has the mapping at @addr been advised to be huge? Walks /proc/self/smaps up to it: slow. */
bool sysinfo_advised_huge(uint64_t addr);

/* Does MADV_DONTNEED of a whole block free its page table too (CONFIG_PT_RECLAIM, Linux 6.14 on x86-64)? Found by trying,
 * in memory of our own. */
bool sysinfo_has_pt_reclaim(void);

#endif
