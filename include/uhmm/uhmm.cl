/* SPDX-License-Identifier: MIT */
#ifndef UHMM_CL
#define UHMM_CL

/*
 * For kernels in OpenCL C: where the program's memory is on the device. A kernel is given the device's memory, which is one buffer,
 * and the table of uhmm_work_extents() in another:
 *
 *	#include <uhmm/uhmm.cl>
 *
 *	kernel void sum(global uchar *memory, global const struct uhmm_extent *table, ulong nr, ulong list, global ulong *ret)
 *	{
 *		for (ulong at = list; at; ) {
 *			global const struct node *n = uhmm_at(memory, table, nr, at);
 *			*ret += n->value;
 *			at = n->next;            // a pointer of the program's
 *		}
 *	}
 *
 * The program gives -I with the folder that has uhmm/ when it builds its kernels.
 */

struct uhmm_extent {
	ulong start, bytes, offset, address;
};

/* Where the byte at the program's address @addr is; 0 when the work does not have it. What follows it is valid up to the end of its extent. */
static global void *uhmm_at(global uchar *memory, global const struct uhmm_extent *table, ulong nr, ulong addr)
{
	ulong low = 0, high = nr;

	while (low < high) {
		ulong mid = low + (high - low) / 2;

		if (addr < table[mid].start)
			high = mid;
		else if (addr - table[mid].start >= table[mid].bytes)
			low = mid + 1;
		else
			return memory + (table[mid].offset + (addr - table[mid].start));
	}
	return 0;
}

#endif
