/* SPDX-License-Identifier: MIT */
#ifndef UHMM_H
#define UHMM_H

/*
 * uhmm: heterogeneous memory management in user space.
 *
 *	struct uhmm_space *space;
 *	struct uhmm_device *dev;
 *
 *	uhmm_open(NULL, &space);
 *	uhmm_device_open(space, "emu:size=1G", &dev);
 *	uhmm_to_device(space, mem, bytes, dev, 0, NULL);   // private memory of a device now holds it
 *	mem[12345]++;                                      // and it comes back, huge, when a CPU touches it
 *	uhmm_close(space);
 */

#include "uhmm/device.h"
#include "uhmm/error.h"
#include "uhmm/migrate.h"
#include "uhmm/mirror.h"
#include "uhmm/policy.h"
#include "uhmm/range.h"
#include "uhmm/space.h"
#include "uhmm/stats.h"
#include "uhmm/walk.h"
#include "uhmm/work.h"

#define UHMM_VERSION_MAJOR 0
#define UHMM_VERSION_MINOR 1
#define UHMM_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif

/** uhmm_version() - the version of the library that is running, "0.1.0". Context: any thread. Since: 0.1 */
UHMM_API const char *uhmm_version(void);

#ifdef __cplusplus
}
#endif

#endif
