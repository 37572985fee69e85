/* SPDX-License-Identifier: MIT */
#include "base/runtime.h"

#include "drivers/opencl/opencl.h"

static struct cl tables[RUNTIME_MAX];

static struct runtime_kind kind = {
	.name = "OpenCL",
	.driver = "opencl:",
	.file = CL_LOADER,
	.is = "the loader of OpenCL drivers",
	.package = "Debian has it in " CL_LOADER_PACKAGE,
	.needed = "OpenCL 1.2 is needed",
	.symbols = cl_symbols,
	.tables = tables,
	.table_bytes = sizeof(*tables),
};

int opencl_runtime(struct opencl *o, char *ret_why, size_t why_bytes)
{
	int r = runtime_get(&kind, o->library, o->apart, &o->runtime, ret_why, why_bytes);

	if (!r)
		o->cl = o->runtime->table;
	return r;
}
