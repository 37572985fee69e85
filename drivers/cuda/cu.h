/* SPDX-License-Identifier: MIT */
#ifndef DRIVERS_CUDA_CU_H
#define DRIVERS_CUDA_CU_H

/*
 * The part of CUDA's driver API that is used here: types, numbers and functions as libcuda.so.1 has them since CUDA 11.2, and how
 * they are had at run time. No toolkit is needed to build.
 *
 * A function that has changed since its first version keeps its old name in the library, and the newer ones have a suffix: a
 * program that is built with CUDA's header calls cuMemGetInfo_v2() when it says cuMemGetInfo(). Here the suffix is written out.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/dl.h"

#define CU_LIBRARY     "libcuda.so.1"
#define CU_MIN_VERSION 11020 /* 1000 * major + 10 * minor */

struct cu_context;
struct cu_stream;
struct cu_event;

typedef int cu_result;
typedef int cu_device;           /* its number among those that can be seen */
typedef unsigned long long cu_ptr; /* an address on the device */
typedef unsigned long long cu_handle;

/* answers; cu_error_name() has all of them */
#define CU_SUCCESS                0
#define CU_INVALID_VALUE          1
#define CU_OUT_OF_MEMORY          2
#define CU_DEINITIALIZED          4
#define CU_DEVICE_UNAVAILABLE     46
#define CU_NO_DEVICE              100
#define CU_INVALID_CONTEXT        201
#define CU_ECC_UNCORRECTABLE      214
#define CU_NVLINK_UNCORRECTABLE   220
#define CU_CONTAINED              226
#define CU_ILLEGAL_ADDRESS        700
#define CU_LAUNCH_TIMEOUT         702
#define CU_CONTEXT_IS_DESTROYED   709
#define CU_ASSERT                 710
#define CU_HARDWARE_STACK_ERROR   714
#define CU_ILLEGAL_INSTRUCTION    715
#define CU_MISALIGNED_ADDRESS     716
#define CU_INVALID_ADDRESS_SPACE  717
#define CU_INVALID_PC             718
#define CU_LAUNCH_FAILED          719
#define CU_MPS_CLIENT_TERMINATED  810

/* what a device can be asked: int */
#define CU_ATTR_COMPUTE_MODE  20  /* CU_COMPUTE_* */
#define CU_ATTR_COPY_ENGINES  40  /* copies that run beside kernels, and one another */
#define CU_ATTR_MAJOR         75  /* of the compute capability */
#define CU_ATTR_MINOR         76
#define CU_ATTR_MAPS_MEMORY   102 /* 1: cuMemMap() and its like */

#define CU_COMPUTE_PROHIBITED 2

/* how things are made */
#define CU_STREAM_NON_BLOCKING     1u /* has nothing to do with the default stream */
#define CU_EVENT_DISABLE_TIMING    2u
#define CU_ALLOCATION_PINNED       1  /* of cu_prop: on the device, and it stays there */
#define CU_LOCATION_DEVICE         1
#define CU_ACCESS_READ_WRITE       3
#define CU_GRANULARITY_MINIMUM     0

struct cu_location {
	int type; /* CU_LOCATION_* */
	int id;   /* a device's number */
};

struct cu_prop {
	int type;           /* CU_ALLOCATION_* */
	int handle_types;   /* 0: it is for this process only */
	struct cu_location location;
	void *other_systems;
	struct {
		unsigned char compression, rdma;
		unsigned short usage;
		unsigned char reserved[4];
	} flags;
};

struct cu_access {
	struct cu_location location;
	int flags; /* CU_ACCESS_* */
};

/* One list serves the struct and the search for symbols: name here, name there, arguments. All return a cu_result. */
#define CU_FUNCTIONS(F) \
	F(init, "cuInit", (unsigned flags)) \
	F(version, "cuDriverGetVersion", (int *ret)) \
	F(error_name, "cuGetErrorName", (cu_result r, const char **ret)) \
	F(error_string, "cuGetErrorString", (cu_result r, const char **ret)) \
	F(device_count, "cuDeviceGetCount", (int *ret)) \
	F(device_get, "cuDeviceGet", (cu_device *ret, int number)) \
	F(device_name, "cuDeviceGetName", (char *ret, int bytes, cu_device d)) \
	F(device_attribute, "cuDeviceGetAttribute", (int *ret, int what, cu_device d)) \
	F(device_memory, "cuDeviceTotalMem_v2", (size_t *ret, cu_device d)) \
	F(context_create, "cuCtxCreate_v2", (struct cu_context **ret, unsigned flags, cu_device d)) \
	F(context_destroy, "cuCtxDestroy_v2", (struct cu_context *c)) \
	F(context_push, "cuCtxPushCurrent_v2", (struct cu_context *c)) \
	F(context_pop, "cuCtxPopCurrent_v2", (struct cu_context **ret)) \
	F(memory_info, "cuMemGetInfo_v2", (size_t *ret_free, size_t *ret_total)) \
	F(granularity, "cuMemGetAllocationGranularity", (size_t *ret, const struct cu_prop *prop, int which)) \
	F(address_reserve, "cuMemAddressReserve", \
	  (cu_ptr *ret, size_t bytes, size_t alignment, cu_ptr hint, unsigned long long flags)) \
	F(address_free, "cuMemAddressFree", (cu_ptr at, size_t bytes)) \
	F(memory_create, "cuMemCreate", (cu_handle *ret, size_t bytes, const struct cu_prop *prop, unsigned long long flags)) \
	F(memory_release, "cuMemRelease", (cu_handle h)) \
	F(map, "cuMemMap", (cu_ptr at, size_t bytes, size_t offset, cu_handle h, unsigned long long flags)) \
	F(unmap, "cuMemUnmap", (cu_ptr at, size_t bytes)) \
	F(set_access, "cuMemSetAccess", (cu_ptr at, size_t bytes, const struct cu_access *who, size_t nr)) \
	F(host_alloc, "cuMemHostAlloc", (void **ret, size_t bytes, unsigned flags)) \
	F(host_free, "cuMemFreeHost", (void *mem)) \
	F(stream_create, "cuStreamCreate", (struct cu_stream **ret, unsigned flags)) \
	F(stream_destroy, "cuStreamDestroy_v2", (struct cu_stream *s)) \
	F(stream_wait, "cuStreamSynchronize", (struct cu_stream *s)) \
	F(event_create, "cuEventCreate", (struct cu_event **ret, unsigned flags)) \
	F(event_destroy, "cuEventDestroy_v2", (struct cu_event *e)) \
	F(event_record, "cuEventRecord", (struct cu_event *e, struct cu_stream *s)) \
	F(event_wait, "cuEventSynchronize", (struct cu_event *e)) \
	F(copy_in, "cuMemcpyHtoDAsync_v2", (cu_ptr to, const void *from, size_t bytes, struct cu_stream *s)) \
	F(copy_out, "cuMemcpyDtoHAsync_v2", (void *to, cu_ptr from, size_t bytes, struct cu_stream *s)) \
	F(fill, "cuMemsetD32Async", (cu_ptr at, unsigned word, size_t words, struct cu_stream *s))

struct cu {
#define CU_MEMBER(name, there, arguments) cu_result (*name) arguments;
	CU_FUNCTIONS(CU_MEMBER)
#undef CU_MEMBER
};

static const struct dl_symbol cu_symbols[] = {
#define CU_SYMBOL(name, there, arguments) { there, offsetof(struct cu, name) },
	CU_FUNCTIONS(CU_SYMBOL)
#undef CU_SYMBOL
	{ NULL, 0 },
};

/* "CUDA_ERROR_OUT_OF_MEMORY". */
static inline const char *cu_error_name(const struct cu *cu, cu_result r)
{
	const char *name = NULL;

	return !cu->error_name(r, &name) && name ? name : "a CUDA error without a name";
}

/* "out of memory". */
static inline const char *cu_error_text(const struct cu *cu, cu_result r)
{
	const char *text = NULL;

	return !cu->error_string(r, &text) && text ? text : "CUDA does not say what that is";
}

#endif
