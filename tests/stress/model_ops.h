/* SPDX-License-Identifier: MIT */
#ifndef TESTS_MODEL_OPS_H
#define TESTS_MODEL_OPS_H

/* What a program may do to its memory without knowing of uhmm: each step in the memory and in the model. */
#include "model.h"

static bool is_mapped(const char *at)
{
	unsigned char there;

	return !mincore((void *)at, PAGE, &there);
}

/* Bytes of a run of pages, at any offset. */
static void inside(struct arena *a, struct range r, size_t *ret_offset, size_t *ret_len)
{
	size_t skip = draw(a, 3) ? draw(a, PAGE) : 0, len = r.n * PAGE - skip;

	*ret_offset = r.first * PAGE + skip;
	*ret_len = draw(a, 3) == 0 ? len : 1 + draw(a, len);
}

static void op_map(struct arena *a)
{
	static const int advice[] = { MADV_HUGEPAGE, MADV_NOHUGEPAGE };
	struct range r = any_range(a);
	enum state state = draw(a, 10) ? WRITABLE : READABLE;
	int prot = state == WRITABLE ? PROT_READ | PROT_WRITE : PROT_READ, flags = draw(a, 12) ? 0 : MAP_POPULATE;
	unsigned kind = (unsigned)draw(a, 3);

	note(a, "mmap", a->id, r, (size_t)state);
	MUST(a, mmap(at_page(a, r.first), r.n * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | flags, -1, 0) == at_page(a, r.first),
	     at_page(a, r.first), "mmap: %s", strerror(errno));
	if (kind < 2)
		(void)madvise(at_page(a, r.first), r.n * PAGE, advice[kind]);
	model_map(a, r, state);
}

static void op_unmap(struct arena *a)
{
	struct range r;

	if (draw(a, 3) == 0)
		r = any_range(a); /* with gaps: munmap does not mind */
	else if (!any_run(a, NONE, &r))
		return;
	note(a, "munmap", a->id, r, 0);
	MUST(a, !munmap(at_page(a, r.first), r.n * PAGE), at_page(a, r.first), "munmap: %s", strerror(errno));
	model_unmap(a, r);
}

/*
 * Moves pages that may lie in several mappings, their own or those that watching makes of one: mremap wants them one by
 * one, and a kernel that takes several at once may stop between two. What has gone is seen by the gap it has left, or,
 * where it leaves none, by what has come to the place, where nothing was.
 */
static void carry(struct arena *a, struct range r, size_t to, bool stays)
{
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (stays ? MREMAP_DONTUNMAP : 0);
	size_t done = 0, n = r.n;

	if (stays)
		MUST(a, !munmap(at_page(a, to), r.n * PAGE), at_page(a, to), "munmap: %s", strerror(errno));
	while (done < r.n) {
		char *from = at_page(a, r.first + done), *there = at_page(a, to + done);

		n = n > r.n - done ? r.n - done : n;
		if (mremap(from, n * PAGE, n * PAGE, flags, there) == there) {
			done += n;
			n = r.n;
			continue;
		}
		MUST(a, errno == EFAULT && n > 1, from, "mremap of %zu pages: %s", n, strerror(errno));
		while (done < r.n && (stays ? is_mapped(at_page(a, to + done)) : !is_mapped(at_page(a, r.first + done))))
			done++;
		n = (n + 1) / 2;
	}
	model_move(a, r, to, stays);
}

static void op_move(struct arena *a)
{
	bool stays = draw(a, 3) == 0;
	struct range r;
	size_t to;

	if (!any_run(a, NONE, &r) || !other_place(a, r, 0, &to))
		return;
	note(a, stays ? "mremap DONTUNMAP" : "mremap", a->id, r, to);
	carry(a, r, to, stays);
}

/* The last page's mapping grows over the gap that follows it. */
static void grow_here(struct arena *a, size_t last, size_t more)
{
	char *at = at_page(a, last);

	MUST(a, mremap(at, PAGE, (1 + more) * PAGE, 0) == at, at, "mremap to grow by %zu pages: %s", more, strerror(errno));
	model_map(a, (struct range){ last + 1, more }, a->state[last]);
}

static void op_grow(struct arena *a)
{
	size_t more = 0, want = 1 + draw(a, draw(a, 4) ? 16 : 600), last;
	struct range r;

	if (!any_run(a, NONE, &r))
		return;
	for (last = r.first; last + 1 < ARENA_PAGES && a->state[last + 1] != UNMAPPED;)
		last++;
	while (more < want && last + more + 1 < ARENA_PAGES && a->state[last + more + 1] == UNMAPPED)
		more++;
	note(a, "mremap to grow", a->id, (struct range){ last, 1 }, more);
	if (more)
		grow_here(a, last, more);
}

static void op_shrink(struct arena *a)
{
	struct range r, tail;

	if (!any_run(a, NONE, &r) || r.n < 2)
		return;
	tail.n = 1 + draw(a, r.n - 1);
	tail.first = r.first + r.n - tail.n;
	note(a, "mremap to shrink", a->id, r, r.n - tail.n);
	/* over several mappings it may be refused */
	if (mremap(at_page(a, r.first), r.n * PAGE, (r.n - tail.n) * PAGE, 0) != at_page(a, r.first))
		MUST(a, errno == EFAULT && !munmap(at_page(a, tail.first), tail.n * PAGE), at_page(a, tail.first),
		     "mremap to shrink: %s", strerror(errno));
	model_unmap(a, tail);
}

/* A move that changes the size too; what mremap refuses for several mappings is done in two steps, with the same end. */
static void op_move_and_resize(struct arena *a)
{
	size_t more = 1 + draw(a, 40), less, to;
	struct range r;

	if (!any_run(a, NONE, &r) || !other_place(a, r, more, &to))
		return;
	less = r.n > 1 && draw(a, 2) ? 1 + draw(a, r.n - 1) : 0;
	more = less ? 0 : more;
	note(a, less ? "mremap to move and shrink" : "mremap to move and grow", a->id, r, to);
	MUST(a, !munmap(at_page(a, to), (r.n + more) * PAGE), at_page(a, to), "munmap: %s", strerror(errno));
	model_unmap(a, (struct range){ to, r.n + more });
	if (mremap(at_page(a, r.first), r.n * PAGE, (r.n - less + more) * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at_page(a, to)) ==
	    at_page(a, to)) {
		model_unmap(a, (struct range){ r.first + r.n - less, less });
		model_move(a, (struct range){ r.first, r.n - less }, to, false);
		model_map(a, (struct range){ to + r.n, more }, a->state[to + r.n - less - 1]);
		return;
	}
	MUST(a, errno == EFAULT, at_page(a, r.first), "mremap to move and resize: %s", strerror(errno));
	if (less) {
		MUST(a, !munmap(at_page(a, r.first + r.n - less), less * PAGE), NULL, "munmap: %s", strerror(errno));
		model_unmap(a, (struct range){ r.first + r.n - less, less });
		r.n -= less;
	}
	carry(a, r, to, false);
	if (more)
		grow_here(a, to + r.n - 1, more);
}

static void op_protect(struct arena *a)
{
	static const int prot[] = { [NONE] = PROT_NONE, [READABLE] = PROT_READ, [WRITABLE] = PROT_READ | PROT_WRITE };
	enum state state = draw(a, 5) < 3 ? WRITABLE : draw(a, 3) ? READABLE : NONE;
	struct range r;

	if (!any_run(a, NONE, &r))
		return;
	note(a, "mprotect", a->id, r, (size_t)state);
	MUST(a, !mprotect(at_page(a, r.first), r.n * PAGE, prot[state]), at_page(a, r.first), "mprotect: %s", strerror(errno));
	memset(a->state + r.first, (int)state, r.n);
}

static void op_dontneed(struct arena *a)
{
	bool gaps = draw(a, 4) == 0;
	struct range r;

	if (gaps)
		r = any_range(a);
	else if (!any_run(a, NONE, &r))
		return;
	note(a, "MADV_DONTNEED", a->id, r, 0);
	if (madvise(at_page(a, r.first), r.n * PAGE, MADV_DONTNEED))
		MUST(a, gaps && errno == ENOMEM, at_page(a, r.first), "MADV_DONTNEED: %s", strerror(errno));
	model_zero(a, r);
}

/* After it a page may be the old one or zero, so it is discarded for good, or written from end to end. */
static void op_free(struct arena *a)
{
	bool write = draw(a, 2);
	struct range r;

	if (!any_run(a, write ? WRITABLE : NONE, &r))
		return;
	note(a, write ? "MADV_FREE and a write" : "MADV_FREE and MADV_DONTNEED", a->id, r, 0);
	(void)madvise(at_page(a, r.first), r.n * PAGE, MADV_FREE);
	if (write) {
		model_write(a, r.first * PAGE, r.n * PAGE);
		memcpy(at_page(a, r.first), a->bytes + r.first * PAGE, r.n * PAGE);
		return;
	}
	MUST(a, !madvise(at_page(a, r.first), r.n * PAGE, MADV_DONTNEED), at_page(a, r.first), "MADV_DONTNEED: %s", strerror(errno));
	model_zero(a, r);
}

static void op_advise(struct arena *a)
{
	static const int advice[] = { MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_COLLAPSE };
	unsigned kind = (unsigned)draw(a, 3);
	struct range r = any_range(a);

	if (kind == 2) {
		r.first &= ~(size_t)511;
		r.n = 512;
	}
	note(a, "MADV_HUGEPAGE, NOHUGEPAGE, COLLAPSE", a->id, r, kind);
	(void)madvise(at_page(a, r.first), r.n * PAGE, advice[kind]);
}

static void op_write(struct arena *a)
{
	size_t offset, len;
	struct range r;

	if (!any_run(a, WRITABLE, &r))
		return;
	inside(a, r, &offset, &len);
	note(a, "write", a->id, r, len);
	model_write(a, offset, len);
	memcpy(a->mem + offset, a->bytes + offset, len);
}

/* Single bytes, each read and changed in place. */
static void op_poke(struct arena *a)
{
	struct range r;

	if (!any_run(a, WRITABLE, &r))
		return;
	note(a, "poke", a->id, r, 0);
	for (size_t i = r.first; i < r.first + r.n; i += 1 + draw(a, 4)) {
		size_t offset = i * PAGE + draw(a, PAGE);
		volatile unsigned char *at = (volatile unsigned char *)a->mem + offset;
		unsigned char was = *at;

		expect(a, &was, offset, 1, "counting up");
		*at = a->bytes[offset] = (unsigned char)(was + 1);
	}
}

static void op_read(struct arena *a)
{
	size_t offset, len;
	struct range r;

	if (!any_run(a, READABLE, &r))
		return;
	inside(a, r, &offset, &len);
	note(a, "read", a->id, r, len);
	expect(a, a->mem + offset, offset, len, "reading");
}

static size_t most(size_t len, size_t limit) { return len < limit ? len : limit; }

static void op_pipe(struct arena *a)
{
	bool in = draw(a, 2);
	size_t offset, len;
	struct range r;

	if (!any_run(a, in ? WRITABLE : READABLE, &r))
		return;
	inside(a, r, &offset, &len);
	len = most(len, 32 << 10); /* a pipe holds this much, however it is cut into pages */
	note(a, in ? "read(2) from a pipe" : "write(2) to a pipe", a->id, r, len);
	if (in) {
		model_write(a, offset, len);
		MUST(a, write(a->pipe[1], a->bytes + offset, len) == (ssize_t)len, NULL, "write: %s", strerror(errno));
		MUST(a, read(a->pipe[0], a->mem + offset, len) == (ssize_t)len, a->mem + offset, "read into it: %s", strerror(errno));
		return;
	}
	MUST(a, write(a->pipe[1], a->mem + offset, len) == (ssize_t)len, a->mem + offset, "write from it: %s", strerror(errno));
	MUST(a, read(a->pipe[0], a->buffer, len) == (ssize_t)len, NULL, "read: %s", strerror(errno));
	expect(a, a->buffer, offset, len, "a pipe has got of");
}

static void op_file(struct arena *a)
{
	bool in = draw(a, 2);
	size_t offset, len, at;
	struct range r;

	if (!any_run(a, in ? WRITABLE : READABLE, &r))
		return;
	inside(a, r, &offset, &len);
	len = most(len, FILE_BYTES);
	at = draw(a, FILE_BYTES - len + 1);
	note(a, in ? "pread" : "pwrite", a->id, r, len);
	if (in) {
		MUST(a, pread(a->file, a->mem + offset, len, (off_t)at) == (ssize_t)len, a->mem + offset, "pread: %s", strerror(errno));
		memcpy(a->bytes + offset, a->image + at, len);
		return;
	}
	MUST(a, pwrite(a->file, a->mem + offset, len, (off_t)at) == (ssize_t)len, a->mem + offset, "pwrite: %s", strerror(errno));
	memcpy(a->image + at, a->bytes + offset, len);
	MUST(a, pread(a->file, a->buffer, len, (off_t)at) == (ssize_t)len, NULL, "pread: %s", strerror(errno));
	expect(a, a->buffer, offset, len, "a file has got of");
}

/* By the kernel's other way in, which takes no fault of the program's own. */
static void op_peek(struct arena *a)
{
	struct range r;
	struct iovec to = { a->buffer, 0 }, from;

	if (!any_run(a, READABLE, &r))
		return;
	from = (struct iovec){ at_page(a, r.first), to.iov_len = r.n * PAGE };
	note(a, "process_vm_readv", a->id, r, 0);
	MUST(a, process_vm_readv(getpid(), &to, 1, &from, 1, 0) == (ssize_t)to.iov_len, at_page(a, r.first), "process_vm_readv: %s",
	     strerror(errno));
	expect(a, a->buffer, r.first * PAGE, to.iov_len, "process_vm_readv of");
}

#endif
