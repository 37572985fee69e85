/* SPDX-License-Identifier: MIT */
/* Streams that do nothing until they must: see fake_cuda.h. */
#include "fake_cuda_parts.h"

#include <pthread.h>
#include <string.h>

#define NR_WAITING 1024u

struct command {
	enum { IN, OUT, FILL, CALL } kind;
	cu_ptr at;      /* on the device */
	char *host;     /* IN, OUT */
	uint64_t bytes;
	unsigned word;  /* FILL */
	cu_result (*call)(void *ctx);
	void *ctx;
};

struct cu_stream {
	pthread_mutex_t lock;
	uint64_t first, end; /* commands that wait, counted from the stream's beginning */
	cu_result failed;    /* of those that have run, and nobody was told */
	struct command waiting[NR_WAITING];
};

struct cu_event {
	struct cu_stream *stream;
	uint64_t end;
};

/* What lies side by side on the device need not do so here. */
static cu_result move(const struct command *c)
{
	for (uint64_t done = 0, n; done < c->bytes; done += n) {
		const char *at = (const char *)(uintptr_t)(c->at + done);
		struct range r = device_range(at, 1);
		char *there = r.host + (at - r.start);

		if (!r.start)
			return CU_ILLEGAL_ADDRESS;
		n = r.bytes - (uint64_t)(at - r.start);
		n = n < c->bytes - done ? n : c->bytes - done;
		if (c->kind == IN)
			memcpy(there, c->host + done, n);
		else if (c->kind == OUT)
			memcpy(c->host + done, there, n);
		for (uint64_t i = 0; c->kind == FILL && i < n; i += sizeof(c->word))
			memcpy(there + i, &c->word, sizeof(c->word));
	}
	return CU_SUCCESS;
}

static void run_one(struct cu_stream *s, const struct command *c)
{
	cu_result r = once(&fake_cuda.late), done = CU_SUCCESS;

	if (c->kind == CALL) /* it has something to free, whatever else fails */
		done = c->call(c->ctx);
	else if (!r)
		done = move(c);
	r = r ? r : done;
	if (r) {
		s->failed = r;
		if (r >= 700)
			fake_cuda.lost = r;
	}
}

static cu_result run(struct cu_stream *s, uint64_t end)
{
	cu_result r;

	while (s->first < end) {
		run_one(s, &s->waiting[s->first % NR_WAITING]);
		s->first++;
	}
	r = s->failed;
	s->failed = CU_SUCCESS;
	return r ? r : fake_cuda.lost;
}

/* @now: the bytes are taken before the call returns. */
static cu_result add(struct cu_stream *s, struct command c, bool now)
{
	cu_result r = in_context();

	if (r)
		return r;
	pthread_mutex_lock(&s->lock);
	if (now || s->end - s->first == NR_WAITING)
		r = run(s, s->end);
	if (!r) {
		s->waiting[s->end++ % NR_WAITING] = c;
		if ((int32_t)(s->end - s->first) > fake_cuda.max_waiting)
			fake_cuda.max_waiting = (int32_t)(s->end - s->first);
	}
	if (!r && now)
		r = run(s, s->end);
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* Whether this copy is the one that fails. */
static cu_result copy_fails(_Atomic int32_t *failure)
{
	if (!*failure)
		return CU_SUCCESS;
	return atomic_fetch_sub(&fake_cuda.good_first, 1) > 0 ? CU_SUCCESS : once(failure);
}

cu_result fake_copy_in(cu_ptr to, const void *from, size_t bytes, struct cu_stream *s)
{
	cu_result r = copy_fails(&fake_cuda.copy_in);

	return r ? r :
		   add(s, (struct command){ .kind = IN, .at = to, .host = (char *)(uintptr_t)from, .bytes = bytes },
		       !is_pinned(from, bytes));
}

cu_result fake_copy_out(void *to, cu_ptr from, size_t bytes, struct cu_stream *s)
{
	cu_result r = copy_fails(&fake_cuda.copy_out);

	return r ? r :
		   add(s, (struct command){ .kind = OUT, .at = from, .host = to, .bytes = bytes },
		       !is_pinned(to, bytes));
}

cu_result fake_fill(cu_ptr at, unsigned word, size_t words, struct cu_stream *s)
{
	cu_result r = once(&fake_cuda.fill);

	return r ? r : add(s, (struct command){ .kind = FILL, .at = at, .bytes = words * sizeof(word), .word = word }, false);
}

cu_result stream_call(struct cu_stream *s, cu_result (*fn)(void *ctx), void *ctx)
{
	return add(s, (struct command){ .kind = CALL, .call = fn, .ctx = ctx }, false);
}

cu_result fake_stream_create(struct cu_stream **ret, unsigned flags)
{
	cu_result r = in_context();

	if (!r)
		r = once(&fake_cuda.stream_create);
	if (r || flags != CU_STREAM_NON_BLOCKING)
		return r ? r : CU_INVALID_VALUE;
	*ret = made(sizeof(**ret));
	pthread_mutex_init(&(*ret)->lock, NULL);
	return CU_SUCCESS;
}

cu_result fake_stream_destroy(struct cu_stream *s) { return gone(s); }

cu_result fake_stream_wait(struct cu_stream *s)
{
	cu_result r;

	pthread_mutex_lock(&s->lock);
	r = run(s, s->end);
	pthread_mutex_unlock(&s->lock);
	return r;
}

cu_result fake_event_create(struct cu_event **ret, unsigned flags)
{
	cu_result r = in_context();

	(void)flags;
	if (!r)
		*ret = made(sizeof(**ret));
	return r;
}

cu_result fake_event_destroy(struct cu_event *e) { return gone(e); }

cu_result fake_event_record(struct cu_event *e, struct cu_stream *s)
{
	cu_result r = in_context();

	if (!r)
		r = once(&fake_cuda.event_record);
	if (r)
		return r;
	pthread_mutex_lock(&s->lock);
	e->stream = s;
	e->end = s->end;
	pthread_mutex_unlock(&s->lock);
	return CU_SUCCESS;
}

cu_result fake_event_wait(struct cu_event *e)
{
	cu_result r = in_context();

	if (r || !e->stream)
		return r;
	pthread_mutex_lock(&e->stream->lock);
	r = run(e->stream, e->end);
	pthread_mutex_unlock(&e->stream->lock);
	return r;
}
