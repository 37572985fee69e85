/* SPDX-License-Identifier: MIT */
#include "os/libs.h"

#include <link.h>

#include "base/pages.h"

struct list {
	struct lib_data *at;
	unsigned nr, max;
};

static char here; /* in the data of this library */

static int visit(struct dl_phdr_info *info, size_t bytes, void *ctx)
{
	struct list *l = ctx;
	bool program = !info->dlpi_name || !*info->dlpi_name;

	(void)bytes;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uint64_t start = info->dlpi_addr + p->p_vaddr, end = start + p->p_memsz;
		bool own = (uintptr_t)&here >= start && (uintptr_t)&here < end;

		if (p->p_type != PT_LOAD || !(p->p_flags & PF_W) || (program && !own))
			continue;
		if (l->nr < l->max)
			l->at[l->nr] = (struct lib_data){ page_down(start), page_up(end), own };
		l->nr++;
	}
	return 0;
}

unsigned libs_data(struct lib_data *ret, unsigned max)
{
	struct list l = { ret, 0, max };

	(void)dl_iterate_phdr(visit, &l);
	return l.nr;
}
