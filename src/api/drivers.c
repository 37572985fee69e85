/* SPDX-License-Identifier: MIT */
/* The built-in drivers. Not a list in the registry's room: a lower floor does not know the drivers. */
#include "api/api.h"
#include "base/err.h"
#include "device/registry.h"

extern const struct uhmm_driver uhmm_driver_cuda, uhmm_driver_emu, uhmm_driver_faulty, uhmm_driver_file, uhmm_driver_lz4,
	uhmm_driver_opencl, uhmm_driver_slow, uhmm_driver_trace, uhmm_driver_zstd;

static const struct uhmm_driver *const built_in[] = {
	&uhmm_driver_emu, &uhmm_driver_zstd, &uhmm_driver_lz4, &uhmm_driver_file, &uhmm_driver_opencl, &uhmm_driver_cuda,
	&uhmm_driver_faulty, &uhmm_driver_slow, &uhmm_driver_trace,
};

static void add_all(void)
{
	for (unsigned i = 0; i < ARRAY_LEN(built_in); i++)
		(void)registry_add(built_in[i]);
}

void drivers_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, add_all);
}

int uhmm_driver_add(const struct uhmm_driver *driver)
{
	drivers_init();
	return registry_add(driver);
}

const struct uhmm_driver *uhmm_driver_get(unsigned n)
{
	drivers_init();
	return registry_get(n);
}

const struct uhmm_driver *uhmm_driver_find(const char *spec, const char **ret_options, char *ret_why, size_t why_bytes)
{
	if (!spec || !ret_options) {
		err_why(ret_why, why_bytes, 0, "the spec and the place for the options must not be NULL");
		return NULL;
	}
	drivers_init();
	return registry_find(spec, ret_options, ret_why, why_bytes);
}
