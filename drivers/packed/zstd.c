/* SPDX-License-Identifier: MIT */
/*
 * zstd:size=SIZE,limit=SIZE,level=N,piece=SIZE
 *
 * Contexts in memory of ours, which zstd calls static: it allocates nothing then. The three functions for that are in the
 * part of zstd.h that says "static linking only"; they have been exported and unchanged since 1.3, and a library without them
 * is refused by name.
 */
#include "drivers/packed/packed.h"

static struct {
	size_t (*estimate_pack)(int level);
	size_t (*estimate_unpack)(void);
	void *(*init_pack)(void *mem, size_t bytes);
	void *(*init_unpack)(void *mem, size_t bytes);
	size_t (*pack)(void *ctx, void *dst, size_t room, const void *src, size_t bytes, int level);
	size_t (*unpack)(void *ctx, void *dst, size_t room, const void *src, size_t bytes);
	unsigned (*is_error)(size_t r);
} zstd;

static const struct library_symbol symbols[] = {
	{ "ZSTD_estimateCCtxSize", &zstd.estimate_pack }, { "ZSTD_estimateDCtxSize", &zstd.estimate_unpack },
	{ "ZSTD_initStaticCCtx", &zstd.init_pack },       { "ZSTD_initStaticDCtx", &zstd.init_unpack },
	{ "ZSTD_compressCCtx", &zstd.pack },              { "ZSTD_decompressDCtx", &zstd.unpack },
	{ "ZSTD_isError", &zstd.is_error },               { NULL, NULL },
};

static int load(char *ret_why, size_t why_bytes)
{
	return library_open("libzstd.so.1", "libzstd1", symbols, ret_why, why_bytes);
}

static size_t pack_bytes(int level) { return (zstd.estimate_pack(level) + 4095) & ~(size_t)4095; }
static size_t unpack_bytes(void) { return (zstd.estimate_unpack() + 4095) & ~(size_t)4095; }
static void *pack_init(void *mem, size_t bytes) { return zstd.init_pack(mem, bytes); }
static void *unpack_init(void *mem, size_t bytes) { return zstd.init_unpack(mem, bytes); }

static size_t pack(void *state, int level, const void *src, size_t bytes, void *dst, size_t room)
{
	size_t n = zstd.pack(state, dst, room, src, bytes, level);

	return zstd.is_error(n) ? 0 : n; /* no room, in all likelihood; whatever else: it is kept as it is */
}

static bool unpack(void *state, const void *src, size_t packed_bytes, void *dst, size_t bytes, size_t want)
{
	(void)want;
	return zstd.unpack(state, dst, bytes, src, packed_bytes) == bytes;
}

static const struct codec codec = {
	.name = "zstd", .level_min = -7, .level_max = 19, .level_default = 1,
	.load = load, .pack_bytes = pack_bytes, .unpack_bytes = unpack_bytes, .pack_init = pack_init,
	.unpack_init = unpack_init, .pack = pack, .unpack = unpack,
};

static int zstd_open(const char *options, struct uhmm_driver_props *ret_props, void **ret_ctx, char *ret_why, size_t why_bytes)
{
	return packed_open(&codec, options, ret_props, ret_ctx, ret_why, why_bytes);
}

extern const struct uhmm_driver uhmm_driver_zstd;

const struct uhmm_driver uhmm_driver_zstd = {
	.sz = sizeof(struct uhmm_driver),
	.name = "zstd",
	.summary = "compressed RAM: small, and still fast",
	.open = zstd_open,
	.close = packed_close,
	.copy_in = packed_copy_in,
	.copy_out = packed_copy_out,
	.clear = packed_clear,
	.folio_alloc = packed_folio_alloc,
	.folio_free = packed_folio_free,
	.host_bytes = packed_host_bytes,
};
