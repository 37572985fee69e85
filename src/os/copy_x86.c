/* SPDX-License-Identifier: MIT */
/*
 * Four streams: the piece is cut into quarters and one step copies the same lines of each quarter. Four pages are open
 * at once, so the hardware prefetchers run ahead on four places and the write-combining buffers of one stream drain
 * while the others fill. The quarters are kept a few lines out of step would gain nothing here: measured, docs/copy.md.
 *
 * Non-temporal stores are weakly ordered: the fence at the end is what makes them visible before a page is installed for
 * another thread.
 */
#include "os/copy_x86.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define STREAMS 4

__attribute__((target("sse2"))) void copy_sse2_nt4(void *dst, const void *src, uint64_t bytes)
{
	uint64_t quarter = bytes / STREAMS;

	for (uint64_t at = 0; at < quarter; at += 64) {
		for (unsigned s = 0; s < STREAMS; s++) {
			const __m128i *from = (const __m128i *)((const char *)src + s * quarter + at);
			__m128i *to = (__m128i *)((char *)dst + s * quarter + at);
			__m128i a = _mm_load_si128(from), b = _mm_load_si128(from + 1);
			__m128i c = _mm_load_si128(from + 2), d = _mm_load_si128(from + 3);

			_mm_stream_si128(to, a);
			_mm_stream_si128(to + 1, b);
			_mm_stream_si128(to + 2, c);
			_mm_stream_si128(to + 3, d);
		}
	}
	_mm_sfence();
}

__attribute__((target("avx2"))) void copy_avx2_nt4(void *dst, const void *src, uint64_t bytes)
{
	uint64_t quarter = bytes / STREAMS;

	for (uint64_t at = 0; at < quarter; at += 128) {
		for (unsigned s = 0; s < STREAMS; s++) {
			const __m256i *from = (const __m256i *)((const char *)src + s * quarter + at);
			__m256i *to = (__m256i *)((char *)dst + s * quarter + at);
			__m256i a = _mm256_load_si256(from), b = _mm256_load_si256(from + 1);
			__m256i c = _mm256_load_si256(from + 2), d = _mm256_load_si256(from + 3);

			_mm256_stream_si256(to, a);
			_mm256_stream_si256(to + 1, b);
			_mm256_stream_si256(to + 2, c);
			_mm256_stream_si256(to + 3, d);
		}
	}
	_mm_sfence();
}

__attribute__((target("avx512f"))) void copy_avx512_nt4(void *dst, const void *src, uint64_t bytes)
{
	uint64_t quarter = bytes / STREAMS;

	for (uint64_t at = 0; at < quarter; at += 256) {
		for (unsigned s = 0; s < STREAMS; s++) {
			const char *from = (const char *)src + s * quarter + at;
			char *to = (char *)dst + s * quarter + at;
			__m512i a = _mm512_load_si512(from), b = _mm512_load_si512(from + 64);
			__m512i c = _mm512_load_si512(from + 128), d = _mm512_load_si512(from + 192);

			_mm512_stream_si512((__m512i *)to, a);
			_mm512_stream_si512((__m512i *)(to + 64), b);
			_mm512_stream_si512((__m512i *)(to + 128), c);
			_mm512_stream_si512((__m512i *)(to + 192), d);
		}
	}
	_mm_sfence();
}

/* One stream, and stores of 16 bytes: four of them fill a line, and wider ones or more streams gain nothing. */
void clear_sse2_nt(void *dst, uint64_t bytes)
{
	__m128i zero = _mm_setzero_si128();

	for (char *at = dst, *end = at + bytes; at < end; at += 64) {
		_mm_stream_si128((__m128i *)at, zero);
		_mm_stream_si128((__m128i *)(at + 16), zero);
		_mm_stream_si128((__m128i *)(at + 32), zero);
		_mm_stream_si128((__m128i *)(at + 48), zero);
	}
	_mm_sfence();
}
#endif
