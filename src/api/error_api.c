/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "uhmm/uhmm.h"

void uhmm_log_set(uhmm_log_fn *fn, void *ctx, enum uhmm_log_level level)
{
	log_set(fn, ctx, level);
}

const char *uhmm_strerror(int r)
{
	const char *text;

	if (!r)
		return "done";
	if (r == UHMM_E_PARTIAL)
		return "some pages stayed where they were";
	text = r < 0 ? strerrordesc_np(-r) : NULL;
	return text ? text : "unknown outcome";
}

static const char *const skip_names[UHMM_NR_SKIPS] = {
	[UHMM_SKIP_ABSENT] = "absent",
	[UHMM_SKIP_UNMAPPED] = "unmapped",
	[UHMM_SKIP_SHARED] = "shared",
	[UHMM_SKIP_FILE] = "file",
	[UHMM_SKIP_PROT] = "protection",
	[UHMM_SKIP_LOCKED] = "locked",
	[UHMM_SKIP_FORKED] = "forked",
	[UHMM_SKIP_PINNED] = "pinned",
	[UHMM_SKIP_RACED] = "raced",
	[UHMM_SKIP_NO_ROOM] = "no room",
	[UHMM_SKIP_DEVICE] = "device error",
	[UHMM_SKIP_OTHER_DEVICE] = "other device",
	[UHMM_SKIP_OWN] = "own",
	[UHMM_SKIP_REFUSED] = "refused",
	[UHMM_SKIP_THREAD] = "thread",
};

const char *uhmm_skip_name(enum uhmm_skip reason)
{
	return (unsigned)reason < UHMM_NR_SKIPS ? skip_names[reason] : "?";
}

#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

const char *uhmm_version(void)
{
	return TEXT(UHMM_VERSION_MAJOR) "." TEXT(UHMM_VERSION_MINOR) "." TEXT(UHMM_VERSION_PATCH);
}
