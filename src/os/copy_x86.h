/* SPDX-License-Identifier: MIT */
#ifndef OS_COPY_X86_H
#define OS_COPY_X86_H

#include <stdint.h>

void copy_sse2_nt4(void *dst, const void *src, uint64_t bytes);
void copy_avx2_nt4(void *dst, const void *src, uint64_t bytes);
void copy_avx512_nt4(void *dst, const void *src, uint64_t bytes);
void clear_sse2_nt(void *dst, uint64_t bytes);

#endif
