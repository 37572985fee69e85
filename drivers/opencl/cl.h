/* SPDX-License-Identifier: MIT */
#ifndef DRIVERS_OPENCL_CL_H
#define DRIVERS_OPENCL_CL_H

/*
 * The part of OpenCL 1.2 that is used here: types, numbers and functions as the standard has them, and how they are had at run
 * time. No OpenCL header or library is needed to build.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/dl.h"

#define CL_LOADER         "libOpenCL.so.1"
#define CL_LOADER_PACKAGE "ocl-icd-libopencl1"

struct cl_platform;
struct cl_device;
struct cl_context;
struct cl_queue;
struct cl_mem;
struct cl_event;

/* answers */
#define CL_SUCCESS                        0
#define CL_DEVICE_NOT_FOUND               (-1)
#define CL_DEVICE_NOT_AVAILABLE           (-2)
#define CL_MEM_OBJECT_ALLOCATION_FAILURE  (-4)
#define CL_OUT_OF_RESOURCES               (-5)
#define CL_OUT_OF_HOST_MEMORY             (-6)
#define CL_INVALID_BUFFER_SIZE            (-61)
#define CL_PLATFORM_NOT_FOUND_KHR         (-1001)

/* what can be asked */
#define CL_PLATFORM_NAME                  0x0902u /* text */
#define CL_DEVICE_TYPE                    0x1000u /* uint64_t, CL_DEVICE_TYPE_* */
#define CL_DEVICE_MAX_MEM_ALLOC_SIZE      0x1010u /* uint64_t, bytes */
#define CL_DEVICE_GLOBAL_MEM_SIZE         0x101Fu /* uint64_t, bytes */
#define CL_DEVICE_AVAILABLE               0x1027u /* uint32_t, 0 or 1 */
#define CL_DEVICE_NAME                    0x102Bu /* text */
#define CL_DEVICE_VERSION                 0x102Fu /* text, "OpenCL MAJOR.MINOR ..." */
#define CL_DEVICE_HOST_UNIFIED_MEMORY     0x1035u /* uint32_t, 0 or 1 */
#define CL_EVENT_COMMAND_EXECUTION_STATUS 0x11D3u /* int32_t: 0 is complete, below 0 an error */

#define CL_DEVICE_TYPE_CPU (UINT64_C(1) << 1)
#define CL_DEVICE_TYPE_ALL UINT64_C(0xFFFFFFFF)

#define CL_MEM_READ_WRITE                       (UINT64_C(1) << 0)
#define CL_MIGRATE_MEM_OBJECT_CONTENT_UNDEFINED (UINT64_C(1) << 1)

/* One list serves the struct and the search for symbols: result, name here, name there, arguments. */
#define CL_FUNCTIONS(F) \
	F(int32_t, get_platforms, "clGetPlatformIDs", (uint32_t max, struct cl_platform **ret, uint32_t *ret_nr)) \
	F(int32_t, platform_info, "clGetPlatformInfo", \
	  (struct cl_platform *p, uint32_t what, size_t bytes, void *ret, size_t *ret_bytes)) \
	F(int32_t, get_devices, "clGetDeviceIDs", \
	  (struct cl_platform *p, uint64_t type, uint32_t max, struct cl_device **ret, uint32_t *ret_nr)) \
	F(int32_t, device_info, "clGetDeviceInfo", \
	  (struct cl_device *d, uint32_t what, size_t bytes, void *ret, size_t *ret_bytes)) \
	F(struct cl_context *, create_context, "clCreateContext", \
	  (const intptr_t *properties, uint32_t nr, struct cl_device *const *devices, \
	   void (*notify)(const char *, const void *, size_t, void *), void *ctx, int32_t *ret)) \
	F(int32_t, release_context, "clReleaseContext", (struct cl_context *c)) \
	F(struct cl_queue *, create_queue, "clCreateCommandQueue", \
	  (struct cl_context *c, struct cl_device *d, uint64_t properties, int32_t *ret)) \
	F(int32_t, release_queue, "clReleaseCommandQueue", (struct cl_queue *q)) \
	F(struct cl_mem *, create_buffer, "clCreateBuffer", \
	  (struct cl_context *c, uint64_t flags, size_t bytes, void *host, int32_t *ret)) \
	F(int32_t, release_mem, "clReleaseMemObject", (struct cl_mem *m)) \
	F(int32_t, enqueue_write, "clEnqueueWriteBuffer", \
	  (struct cl_queue *q, struct cl_mem *m, uint32_t blocking, size_t offset, size_t bytes, const void *host, uint32_t nr_wait, \
	   struct cl_event *const *wait, struct cl_event **ret)) \
	F(int32_t, enqueue_read, "clEnqueueReadBuffer", \
	  (struct cl_queue *q, struct cl_mem *m, uint32_t blocking, size_t offset, size_t bytes, void *host, uint32_t nr_wait, \
	   struct cl_event *const *wait, struct cl_event **ret)) \
	F(int32_t, enqueue_fill, "clEnqueueFillBuffer", \
	  (struct cl_queue *q, struct cl_mem *m, const void *pattern, size_t pattern_bytes, size_t offset, size_t bytes, \
	   uint32_t nr_wait, struct cl_event *const *wait, struct cl_event **ret)) \
	F(int32_t, enqueue_migrate, "clEnqueueMigrateMemObjects", \
	  (struct cl_queue *q, uint32_t nr, struct cl_mem *const *mems, uint64_t flags, uint32_t nr_wait, \
	   struct cl_event *const *wait, struct cl_event **ret)) \
	F(int32_t, flush, "clFlush", (struct cl_queue *q)) \
	F(int32_t, wait_for_events, "clWaitForEvents", (uint32_t nr, struct cl_event *const *events)) \
	F(int32_t, event_info, "clGetEventInfo", (struct cl_event *e, uint32_t what, size_t bytes, void *ret, size_t *ret_bytes)) \
	F(int32_t, release_event, "clReleaseEvent", (struct cl_event *e))

struct cl {
#define CL_MEMBER(result, name, there, arguments) result (*name) arguments;
	CL_FUNCTIONS(CL_MEMBER)
#undef CL_MEMBER
};

static const struct dl_symbol cl_symbols[] = {
#define CL_SYMBOL(result, name, there, arguments) { there, offsetof(struct cl, name) },
	CL_FUNCTIONS(CL_SYMBOL)
#undef CL_SYMBOL
	{ NULL, 0 },
};

/* Opens a loader for good. @apart: in a namespace of its own. Return and context: as dl_load(). */
static inline const char *cl_load(struct cl *ret, const char *file, bool apart)
{
	return dl_load(ret, NULL, file, apart, cl_symbols);
}

/* The standard's name of an answer. */
static inline const char *cl_error_name(int32_t r)
{
	static const char *const from_0[] = {
		"CL_SUCCESS", "CL_DEVICE_NOT_FOUND", "CL_DEVICE_NOT_AVAILABLE", "CL_COMPILER_NOT_AVAILABLE",
		"CL_MEM_OBJECT_ALLOCATION_FAILURE", "CL_OUT_OF_RESOURCES", "CL_OUT_OF_HOST_MEMORY",
		"CL_PROFILING_INFO_NOT_AVAILABLE", "CL_MEM_COPY_OVERLAP", "CL_IMAGE_FORMAT_MISMATCH",
		"CL_IMAGE_FORMAT_NOT_SUPPORTED", "CL_BUILD_PROGRAM_FAILURE", "CL_MAP_FAILURE", "CL_MISALIGNED_SUB_BUFFER_OFFSET",
		"CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST", "CL_COMPILE_PROGRAM_FAILURE", "CL_LINKER_NOT_AVAILABLE",
		"CL_LINK_PROGRAM_FAILURE", "CL_DEVICE_PARTITION_FAILED", "CL_KERNEL_ARG_INFO_NOT_AVAILABLE",
	};
	static const char *const from_30[] = {
		"CL_INVALID_VALUE", "CL_INVALID_DEVICE_TYPE", "CL_INVALID_PLATFORM", "CL_INVALID_DEVICE", "CL_INVALID_CONTEXT",
		"CL_INVALID_QUEUE_PROPERTIES", "CL_INVALID_COMMAND_QUEUE", "CL_INVALID_HOST_PTR", "CL_INVALID_MEM_OBJECT",
		"CL_INVALID_IMAGE_FORMAT_DESCRIPTOR", "CL_INVALID_IMAGE_SIZE", "CL_INVALID_SAMPLER", "CL_INVALID_BINARY",
		"CL_INVALID_BUILD_OPTIONS", "CL_INVALID_PROGRAM", "CL_INVALID_PROGRAM_EXECUTABLE", "CL_INVALID_KERNEL_NAME",
		"CL_INVALID_KERNEL_DEFINITION", "CL_INVALID_KERNEL", "CL_INVALID_ARG_INDEX", "CL_INVALID_ARG_VALUE",
		"CL_INVALID_ARG_SIZE", "CL_INVALID_KERNEL_ARGS", "CL_INVALID_WORK_DIMENSION", "CL_INVALID_WORK_GROUP_SIZE",
		"CL_INVALID_WORK_ITEM_SIZE", "CL_INVALID_GLOBAL_OFFSET", "CL_INVALID_EVENT_WAIT_LIST", "CL_INVALID_EVENT",
		"CL_INVALID_OPERATION", "CL_INVALID_GL_OBJECT", "CL_INVALID_BUFFER_SIZE", "CL_INVALID_MIP_LEVEL",
		"CL_INVALID_GLOBAL_WORK_SIZE", "CL_INVALID_PROPERTY", "CL_INVALID_IMAGE_DESCRIPTOR",
		"CL_INVALID_COMPILER_OPTIONS", "CL_INVALID_LINKER_OPTIONS", "CL_INVALID_DEVICE_PARTITION_COUNT",
	};

	if (r == CL_PLATFORM_NOT_FOUND_KHR)
		return "CL_PLATFORM_NOT_FOUND_KHR";
	if (r <= 0 && r > -(int)(sizeof(from_0) / sizeof(*from_0)))
		return from_0[-r];
	if (r <= -30 && r > -30 - (int)(sizeof(from_30) / sizeof(*from_30)))
		return from_30[-30 - r];
	return "an OpenCL error without a name";
}

#endif
