/* SPDX-License-Identifier: MIT */
/*
 * Most errors of CUDA are of one call. Some are of the context: a kernel that wrote where nothing is, memory that is defective, a
 * bus that has dropped the card. From then on each call in that context answers the same, and what was in its memory is gone: the
 * log says so once, and copies fail with -ENODEV. They are asked for all the same: it is for CUDA to know what is lost.
 */
#include <errno.h>

#include "base/err.h"
#include "base/log.h"
#include "drivers/cuda/cuda.h"

static bool loses_context(cu_result r)
{
	switch (r) {
	case CU_DEINITIALIZED:
	case CU_INVALID_CONTEXT:
	case CU_ECC_UNCORRECTABLE:
	case CU_NVLINK_UNCORRECTABLE:
	case CU_CONTAINED:
	case CU_ILLEGAL_ADDRESS:
	case CU_LAUNCH_TIMEOUT:
	case CU_CONTEXT_IS_DESTROYED:
	case CU_ASSERT:
	case CU_HARDWARE_STACK_ERROR:
	case CU_ILLEGAL_INSTRUCTION:
	case CU_MISALIGNED_ADDRESS:
	case CU_INVALID_ADDRESS_SPACE:
	case CU_INVALID_PC:
	case CU_LAUNCH_FAILED:
	case CU_MPS_CLIENT_TERMINATED:
		return true;
	default:
		return false;
	}
}

int cuda_errno(cu_result r)
{
	if (!r)
		return 0;
	if (r == CU_OUT_OF_MEMORY)
		return -ENOMEM;
	return r == CU_NO_DEVICE || r == CU_DEVICE_UNAVAILABLE || loses_context(r) ? -ENODEV : -EIO;
}

int cuda_tell(struct cuda *c, const char *call, cu_result r)
{
	unsigned n = (unsigned)r % 1024;
	uint64_t bit = UINT64_C(1) << (n % 64);

	if (!(atomic_fetch_or_explicit(&c->said[n / 64], bit, memory_order_relaxed) & bit))
		log_say(UHMM_LOG_ERROR, "%s on %s failed with %s (%d, %s)%s", call, c->chosen.name, cu_error_name(c->cu, r), r,
			cu_error_text(c->cu, r),
			loses_context(r) ? ": its context is lost, and with it what was there" : "; further ones are not told");
	return cuda_errno(r);
}
