/* SPDX-License-Identifier: MIT */
/* lz4:size=SIZE,limit=SIZE,level=N,piece=SIZE. Level 1 is LZ4 itself, below it is faster still, above it is LZ4 HC: slow in,
 * fast out. */
#include "drivers/packed/packed.h"

#define FIRST_HC 2

static struct {
	int (*state_bytes)(void);
	int (*state_bytes_hc)(void);
	int (*pack)(void *state, const char *src, char *dst, int bytes, int room, int acceleration);
	int (*pack_hc)(void *state, const char *src, char *dst, int bytes, int room, int level);
	int (*unpack)(const char *src, char *dst, int packed_bytes, int room);
	int (*unpack_part)(const char *src, char *dst, int packed_bytes, int want, int room);
} lz4;

static const struct library_symbol symbols[] = {
	{ "LZ4_sizeofState", &lz4.state_bytes },           { "LZ4_sizeofStateHC", &lz4.state_bytes_hc },
	{ "LZ4_compress_fast_extState", &lz4.pack },       { "LZ4_compress_HC_extStateHC", &lz4.pack_hc },
	{ "LZ4_decompress_safe", &lz4.unpack },            { "LZ4_decompress_safe_partial", &lz4.unpack_part },
	{ NULL, NULL },
};

static int load(char *ret_why, size_t why_bytes)
{
	return library_open("liblz4.so.1", "liblz4-1", symbols, ret_why, why_bytes);
}

static size_t pack_bytes(int level)
{
	size_t bytes = (size_t)(level >= FIRST_HC ? lz4.state_bytes_hc() : lz4.state_bytes());

	return (bytes + 4095) & ~(size_t)4095;
}

static size_t unpack_bytes(void) { return 0; }

static void *init(void *mem, size_t bytes)
{
	(void)bytes;
	return mem;
}

static size_t pack(void *state, int level, const void *src, size_t bytes, void *dst, size_t room)
{
	int n = level >= FIRST_HC ? lz4.pack_hc(state, src, dst, (int)bytes, (int)room, level)
				  : lz4.pack(state, src, dst, (int)bytes, (int)room, level > 0 ? 1 : 1 - level);

	return n > 0 ? (size_t)n : 0;
}

static bool unpack(void *state, const void *src, size_t packed_bytes, void *dst, size_t bytes, size_t want)
{
	(void)state;
	if (want < bytes)
		return lz4.unpack_part(src, dst, (int)packed_bytes, (int)want, (int)bytes) >= (int)want;
	return lz4.unpack(src, dst, (int)packed_bytes, (int)bytes) == (int)bytes;
}

static const struct codec codec = {
	.name = "lz4", .level_min = -9, .level_max = 12, .level_default = 1,
	.load = load, .pack_bytes = pack_bytes, .unpack_bytes = unpack_bytes, .pack_init = init, .unpack_init = init,
	.pack = pack, .unpack = unpack,
};

static int lz4_open(const char *options, struct uhmm_driver_props *ret_props, void **ret_ctx, char *ret_why, size_t why_bytes)
{
	return packed_open(&codec, options, ret_props, ret_ctx, ret_why, why_bytes);
}

extern const struct uhmm_driver uhmm_driver_lz4;

const struct uhmm_driver uhmm_driver_lz4 = {
	.sz = sizeof(struct uhmm_driver),
	.name = "lz4",
	.summary = "compressed RAM: fast, and still small",
	.open = lz4_open,
	.close = packed_close,
	.copy_in = packed_copy_in,
	.copy_out = packed_copy_out,
	.clear = packed_clear,
	.folio_alloc = packed_folio_alloc,
	.folio_free = packed_folio_free,
	.host_bytes = packed_host_bytes,
};
