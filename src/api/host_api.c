/* SPDX-License-Identifier: MIT */
/* What driver.h offers to drivers: memory of the library's own kind, and its copies. */
#include "base/pages.h"
#include "os/copy.h"
#include "os/map.h"
#include "uhmm/driver.h"

void *uhmm_host_alloc(size_t bytes)
{
	return bytes && block_aligned(bytes) ? map_own(bytes, MAP_OWN_HUGE) : NULL;
}

void *uhmm_host_reserve(size_t bytes)
{
	return bytes && block_aligned(bytes) ? map_own(bytes, MAP_OWN_SMALL) : NULL;
}

void uhmm_host_discard(void *mem, size_t bytes)
{
	(void)map_discard((uintptr_t)mem, bytes); /* refused, it merely costs on */
}

void uhmm_host_free(void *mem, size_t bytes)
{
	map_own_free(mem, bytes);
}

void uhmm_copy(void *dst, const void *src, size_t bytes)
{
	copy_bytes(dst, src, bytes);
}

void uhmm_copy_away(void *dst, const void *src, size_t bytes)
{
	copy_bytes_away(dst, src, bytes);
}

void uhmm_clear_away(void *dst, size_t bytes)
{
	clear_bytes_away(dst, bytes);
}
