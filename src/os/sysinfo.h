/* SPDX-License-Identifier: MIT */
#ifndef OS_SYSINFO_H
#define OS_SYSINFO_H

#include <stdbool.h>
#include <stdint.h>

enum sysinfo_thp { THP_NEVER, THP_MADVISE, THP_ALWAYS };

/* The system's setting for transparent huge pages; THP_NEVER where there are none. */
enum sysinfo_thp sysinfo_thp(void);

uint64_t sysinfo_ram_bytes(void);

/* What the mapping at @addr has been advised. Walks /proc/self/smaps up to it: slow. */
enum sysinfo_advice { ADVICE_NONE, ADVICE_HUGE, ADVICE_NO_HUGE };
enum sysinfo_advice sysinfo_advice(uint64_t addr);

static inline bool sysinfo_advised_huge(uint64_t addr) { return sysinfo_advice(addr) == ADVICE_HUGE; }

/* The orders between 0 and 9 that the system's settings allow new pages to have (mTHP), a bit for each. */
struct sysinfo_mthp {
	uint32_t always;  /* in any mapping that has not been advised against */
	uint32_t advised; /* in one that has been advised to be huge */
};
struct sysinfo_mthp sysinfo_mthp(void);

/* Where the settings are. A test may put others in their place. */
extern const char *sysinfo_thp_dir;

/* Does MADV_DONTNEED of a whole block free its page table too (CONFIG_PT_RECLAIM, Linux 6.14 on x86-64)? Found by trying,
 * in memory of our own. */
bool sysinfo_has_pt_reclaim(void);

#endif
