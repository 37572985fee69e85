/* SPDX-License-Identifier: MIT */
/* Libraries that are opened when they are needed: who never opens such a device needs none of them, at build time neither. */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "drivers/packed/packed.h"

int library_open(const char *file, const char *package, const struct library_symbol *symbols, char *ret_why, size_t why_bytes)
{
	void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);

	if (!library)
		return err_why(ret_why, why_bytes, -ENODEV, "%s cannot be opened (Debian has it in %s)", file, package);
	for (const struct library_symbol *s = symbols; s->name; s++) {
		void *found = dlsym(library, s->name);

		if (!found)
			return err_why(ret_why, why_bytes, -ENODEV, "%s has no %s: it is too old, or was built without it", file,
				       s->name);
		memcpy(s->slot, &found, sizeof(found));
	}
	return 0;
}
