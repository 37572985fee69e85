/* SPDX-License-Identifier: MIT */
#ifndef TESTS_FAKE_CUDA_H
#define TESTS_FAKE_CUDA_H

/*
 * A libcuda.so.1 with devices of its own, over host memory, which fail when they are told to: cuda:library=FAKE. Opened with
 * apart=off it is the same instance for the driver and for the test, which finds this struct under the name "fake_cuda". Opened
 * apart it can be told by the environment only, which the process was started with: FAKE_CUDA_DEVICES, FAKE_CUDA_VERSION, and
 * FAKE_CUDA_WITHOUT. What PTX is loaded is also put into the file that FAKE_CUDA_PTX names, if there is such a variable.
 *
 * Devices: 0 is "fake old gpu", which cannot map memory; 1 is "fake gpu", with 512 MiB.
 *
 * It is as strict and as slow as CUDA may be. A command waits in its stream until somebody waits for it, and takes its bytes from
 * pinned memory only then; from memory that is not pinned it takes them at once. Memory that is mapped is out of reach before
 * cuMemSetAccess(), and nothing is mapped over it. A call without a current context is refused, and so is all in a context that is
 * lost. Physical memory that is mapped twice is there twice. Device memory is not at the device's addresses in this process: a CPU that
 * reads there ends with a signal.
 *
 * Kernels are PTX, which is really read and run (fake_ptx.h): a text with an error is refused with a log, and a thread that reads or
 * writes where the device has nothing loses the context.
 */

#include <stdatomic.h>
#include <stdint.h>

struct fake_cuda {
	int32_t version;     /* 0: CUDA 12.4 */
	int32_t nr_devices;  /* 0 to 2 */
	int32_t prohibited;  /* 1: devices are closed to programs */
	int32_t without;     /* 83: devices have no managed memory; 89: not beside a CPU's accesses */
	uint64_t granularity; /* of physical memory; 0: 2 MiB */

	/* The next time it is called it fails so; 0: it does not. */
	_Atomic int32_t init, context_create, address_reserve, memory_create, map, set_access, host_alloc, stream_create, push;
	_Atomic int32_t copy_in, copy_out, fill, event_record, alloc, launch;
	_Atomic int32_t good_first; /* copies that are let through before copy_in or copy_out is looked at */
	_Atomic int32_t late; /* a command is taken, and who waits for it is told of this; from 700 on the context is lost, too */
	_Atomic int32_t lost; /* the answer of each call in a context, until it is 0 again */

	_Atomic int32_t live;     /* contexts, streams, events, pinned and physical memory, addresses: what was not given back */
	_Atomic int32_t pinned;   /* copies ever, whose host memory was pinned */
	_Atomic int32_t pageable; /* and was not */
	_Atomic int32_t max_waiting; /* the most commands that waited in one stream */
};

#endif
