/* SPDX-License-Identifier: MIT */
#ifndef OS_MAP_H
#define OS_MAP_H

/*
 * Memory of our own: never watched, never migrated (map_is_own() knows it), not inherited by fork unless asked for. Everything a fault
 * thread touches lives here, so that it never depends on memory that may itself be away.
 */

#include <stdbool.h>
#include <stdint.h>

#define MAP_OWN_HUGE    (1u << 0) /* aligned to 2 MiB and advised to be huge */
#define MAP_OWN_INHERIT (1u << 1) /* a child of fork has it too */
#define MAP_OWN_SMALL   (1u << 2) /* never huge */

/* @bytes of zeros that cost nothing until they are touched, aligned to @bytes' kind. Return: NULL when there is none. */
void *map_own(uint64_t bytes, unsigned flags);
void map_own_free(void *mem, uint64_t bytes);

/* @bytes of zeros that all children of fork share with this process, for good; nobody watches them. Return: NULL without memory. */
void *map_shared(uint64_t bytes);

/* Also counts [start, end), which the caller has from elsewhere, as ours. Return: 0, or -ENOSPC after 4096 pieces. */
int map_own_add(uint64_t start, uint64_t end);

/* In a child of fork: none of the parent's is mapped here, and its addresses are anybody's. */
void map_own_forget_all(void);

/* Does [start, end) touch memory of our own? @ret_start, @ret_end: the first piece of ours in it. */
bool map_is_own(uint64_t start, uint64_t end, uint64_t *ret_start, uint64_t *ret_end);

/* The same, and also where a piece of ours may be about to appear: between mmap() and the moment it is known as ours it looks like
 * anybody's. May say yes to what is nobody's. */
bool map_may_be_own(uint64_t start, uint64_t end);

/* What MADV_DONTNEED does; on watched memory it raises an event and waits until that is read. Return: 0 or -errno. */
int map_discard(uint64_t start, uint64_t len);

/* Makes one THP of each 2 MiB of base pages that are all there. Changes no byte and no protection, and works whatever the
 * protection is (read-only memory: since Linux 6.18). Return: 0 or -errno: it is as it was. */
int map_collapse(uint64_t start, uint64_t len);

/* Whether a child of fork inherits the pages. Return: 0 or -errno. */
int map_inherit(uint64_t start, uint64_t len, bool inherit);

/* Asks for THPs in a mapping, from now on. Raises no event. Return: 0 or -errno. */
int map_advise_huge(uint64_t start, uint64_t len);

/* As if each page had been written to: what was shared with a child of fork that has ended becomes this process's own again. A
 * touch, like any: it may wait for a fault thread. Return: 0 or -errno. */
int map_populate_write(uint64_t start, uint64_t len);

/* Makes it readable and writable, or readable only. Return: 0 or -errno. */
int map_protect(uint64_t start, uint64_t len, bool writable);

/* Is the mapping at [start, start + len) mlocked? Asked by an advice that changes nothing but refuses locked memory. */
bool map_is_locked(uint64_t start, uint64_t len);

/*
 * @bytes of ordinary memory for the program, a multiple of 2 MiB and aligned so, advised to be huge: in place of what is at @fixed, or
 * anywhere with 0. Return: where; 0 when there is none.
 */
uint64_t map_program(uint64_t fixed, uint64_t bytes);
/* @keep: nothing else shall be mapped there yet. */
void map_program_free(uint64_t start, uint64_t bytes, bool keep);

#endif
