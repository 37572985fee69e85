/* SPDX-License-Identifier: MIT */
#include "base/dl.h"

#include <dlfcn.h>
#include <string.h>

const char *dl_load(void *ret_table, void **ret_library, const char *file, bool apart, const struct dl_symbol *symbols)
{
	void *library = apart ? dlmopen(LM_ID_NEWLM, file, RTLD_NOW | RTLD_LOCAL) : dlopen(file, RTLD_NOW | RTLD_LOCAL);

	if (!library)
		return file;
	for (const struct dl_symbol *s = symbols; s->name; s++) {
		void *found = dlsym(library, s->name);

		if (!found)
			return s->name;
		memcpy((char *)ret_table + s->offset, &found, sizeof(found));
	}
	if (ret_library)
		*ret_library = library;
	return NULL;
}
