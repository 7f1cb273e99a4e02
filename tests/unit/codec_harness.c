/*
 * codec_harness.c - one transcript, played in every way.
 *
 * A play is described by a struct manner: how the stream is cut, where heartbeats go,
 * when the peers reply. First the plays without heartbeats: what comes out must be
 * what went in, and the moments at which a heartbeat would be legal must not depend
 * on the cuts (they are noted by the first play, one byte at a time, and
 * compared by all others). Then the plays with heartbeats: taking away the heartbeats
 * that were written must give what the real peers sent, with no reply of
 * ours left in it. Everything that is random comes from a seed, so that the
 * line of a failure is enough to see it again.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "codec_chain.h"
#include "codec_harness.h"
#include "codec_match.h"

#define SEEDS 150	/* random plays of each sort */
#define SINGLES 200	/* at most so many positions for plays with one cut or one heartbeat */

enum cuts { CUT_STEPS, CUT_BYTES, CUT_ONCE, CUT_RANDOM };
enum heartbeats { HEARTBEATS_NONE, HEARTBEATS_ALWAYS, HEARTBEATS_ONCE, HEARTBEATS_RANDOM };

static const char *const cuts_text[] = { "steps", "bytes", "once", "random" };
static const char *const heartbeats_text[] = { "none", "always", "once", "random" };

struct manner {
	enum cuts cuts;
	size_t cut_at;		/* CUT_ONCE */
	bool skip;		/* forward unread what the codec need not read */
	enum heartbeats heartbeats;
	unsigned to;		/* heartbeats go to these sides, as bits */
	unsigned kinds;		/* and are of these kinds */
	size_t heartbeat_at;		/* HEARTBEATS_ONCE: the how-manieth legal moment */
	bool late;		/* replies come as late as the peer may send them */
	bool dies;		/* a peer with a reply due sends a part of it and then its FIN */
	unsigned seed;
};

struct reply {
	uint8_t data[PEER_REPLY_MAX];
	size_t len;
};

struct play {
	struct run run;
	const struct transcript *t;
	const struct codec_peer *peer;
	const struct manner *m;
	uint8_t *trace;		/* the kinds legal after so many bytes, both sides' in one byte */
	bool noting;		/* this play fills the trace; else it compares */
	struct reply *waiting[2];	/* replies that side has yet to send */
	size_t n_waiting[2];
	unsigned injected[2];
	struct bytes sent[2];	/* what must come out of what that side sent */
	bool dead[2];		/* that side sends no more */
	bool garbled[2];	/* that side sent what nobody can follow: replies in it cannot be recognised */
	bool no_heartbeats;		/* no heartbeats: replies that are due go out */
	bool inside[2];		/* that side is in the middle of a step */
	struct bytes queue;	/* CUT_RANDOM: bytes of queue_from that go out together */
	enum side queue_from;
	size_t position;	/* bytes of the transcript fed so far */
	size_t moments;		/* legal moments seen so far */
	unsigned random;
	struct tally *tally;
};

static unsigned
roll(struct play *p, unsigned n)
{
	p->random = p->random * 1103515245u + 12345u;
	return (p->random >> 16) % n;
}

/* ---- replies ---- */

static void feed_raw(struct play *p, enum side from, const uint8_t *data, size_t len);

/* A part of a reply is none and must come out, unless it is long enough to be known for one. */
static void
die_replying(struct play *p, enum side from)
{
	const struct reply *a = &p->waiting[from][0];
	size_t n = roll(p, (unsigned)a->len);

	p->dead[from] = true;
	if (p->peer->known_by > 0 && n >= p->peer->known_by)
		p->injected[from]++;
	else
		bytes_add(&p->sent[from], a->data, n);
	feed_raw(p, from, a->data, n);
}

static void
inject_replies(struct play *p, enum side from)
{
	size_t n = p->n_waiting[from];
	struct reply *replies = p->waiting[from];

	if (p->dead[from] || n == 0)
		return;
	if (p->m->dies) {
		die_replying(p, from);
		return;
	}
	p->waiting[from] = NULL;	/* feeding may add to it */
	p->n_waiting[from] = 0;
	for (size_t i = 0; i < n; i++) {
		p->inside[from] = true;
		if (p->garbled[from])
			bytes_add(&p->sent[from], replies[i].data, replies[i].len);
		else
			p->injected[from]++;
		feed_raw(p, from, replies[i].data, replies[i].len);
		p->inside[from] = false;
	}
	free(replies);
}

static void
note_reply(struct play *p, enum side side, enum heartbeat_kind kind, size_t heartbeat_len)
{
	const struct bytes *got = &p->run.got[side];
	struct reply a;

	a.len = p->peer->reply(p->t->settings, side,
	    got->data + got->len - heartbeat_len, heartbeat_len, a.data);
	if (a.len == 0 && kind == HEARTBEAT_PING)
		run_fail(&p->run, "the %s's peer has no reply to this ping", side_name(side));
	if (a.len == 0)
		return;
	p->waiting[side] = realloc(p->waiting[side], (p->n_waiting[side] + 1) * sizeof(a));
	if (p->waiting[side] == NULL)
		abort();
	p->waiting[side][p->n_waiting[side]++] = a;
}

/* Without a heartbeat in between, which would cause one more. */
static void
inject_last_replies(struct play *p, enum side from)
{
	p->no_heartbeats = true;
	inject_replies(p, from);
	p->no_heartbeats = false;
}

/* The next step of a side begins: what must come before it comes now. */
static void
replies_before(struct play *p, const struct step *s)
{
	if (p->n_waiting[s->from] == 0)
		return;
	if (s->data != NULL && p->peer->may_overtake != NULL &&
	    p->peer->may_overtake(s->from, s->data, s->len) && (p->m->late || roll(p, 2) == 0))
		return;
	inject_last_replies(p, s->from);
}

/* ---- heartbeats ---- */

static void
offer_heartbeat(struct play *p, enum side to)
{
	unsigned kinds;
	enum heartbeat_kind kind;

	if ((p->m->to & (1u << to)) == 0)
		return;
	kinds = run_may_heartbeat(&p->run, to) & p->m->kinds;
	if (kinds == 0)
		return;
	p->moments++;
	if (p->m->heartbeats == HEARTBEATS_ONCE && p->moments != p->m->heartbeat_at)
		return;
	if (p->m->heartbeats == HEARTBEATS_RANDOM && roll(p, 4) != 0)
		return;
	do
		kind = (enum heartbeat_kind)(1u << roll(p, 3));
	while ((kinds & kind) == 0);
	size_t len = run_heartbeat(&p->run, to, kind);
	if (p->m->cuts == CUT_BYTES)
		p->tally->moments[to][kind]++;
	note_reply(p, to, kind, len);
}

static void
offer_heartbeats(struct play *p)
{
	if (p->m->heartbeats == HEARTBEATS_NONE || p->no_heartbeats)
		return;
	for (int i = 0; i < 2; i++)
		offer_heartbeat(p, (enum side)i);
}

/* With no heartbeats about, what is legal here must not depend on how the stream was cut. */
static void
compare_trace(struct play *p)
{
	uint8_t now = (uint8_t)(run_may_heartbeat(&p->run, CLIENT) | run_may_heartbeat(&p->run, BACKEND) << 4);

	if (p->m->heartbeats != HEARTBEATS_NONE)
		return;
	if (p->noting)
		p->trace[p->position] = now;
	else if (p->trace[p->position] != now)
		run_fail(&p->run, "after byte %zu the legal kinds are %#x to the client, %#x to the "
		    "backend; fed one byte at a time they were %#x and %#x", p->position,
		    now & 15, now >> 4, p->trace[p->position] & 15, p->trace[p->position] >> 4);
}

/* ---- bytes ---- */

static unsigned
taken(const struct play *p, int from)
{
	return p->run.replies[from] + p->run.strays[from];
}

static void
check_replies(const struct play *p)
{
	for (int s = 0; s < 2; s++) {
		if (taken(p, s) > p->injected[s])
			run_fail(&p->run, "took out %u replies of the %s, which sent %u",
			    taken(p, s), side_name((enum side)s), p->injected[s]);
	}
}

/* The next piece as this manner cuts it. */
static size_t
piece(struct play *p, size_t len, bool is_reply)
{
	size_t n = len;

	if (p->m->cuts == CUT_BYTES)
		n = 1;
	else if (p->m->cuts == CUT_RANDOM)
		n = 1 + roll(p, roll(p, 3) == 0 ? 4 : 64);
	else if (p->m->cuts == CUT_ONCE && !is_reply && p->position < p->m->cut_at)
		n = p->m->cut_at - p->position;
	return n < len ? n : len;
}

static void
feed_cut(struct play *p, enum side from, const uint8_t *data, size_t len, bool is_reply)
{
	while (len > 0) {
		size_t n = piece(p, len, is_reply), seen;

		seen = p->m->skip && (p->m->cuts != CUT_RANDOM || roll(p, 2) == 0) ?
		    run_skip(&p->run, from, data, n) : 0;
		if (seen == 0) {
			run_feed(&p->run, from, data, n);
			seen = n;
		}
		check_replies(p);
		data += seen;
		len -= seen;
		if (!is_reply) {
			p->position += seen;
			compare_trace(p);
		}
		/* Inside a reply a heartbeat may go as well; but each would bring the next reply, without end. */
		if (!is_reply || p->n_waiting[CLIENT] + p->n_waiting[BACKEND] == 0)
			offer_heartbeats(p);
	}
}

static void
feed_raw(struct play *p, enum side from, const uint8_t *data, size_t len)
{
	feed_cut(p, from, data, len, true);
}

/* Peers that reply at once do so as soon as they are between two messages. */
static void
reply_at_once(struct play *p)
{
	for (int again = 0; again < 4; again++)
		for (int s = 0; s < 2; s++)
			if (!p->m->late && !p->inside[s] && !p->run.fin[s] && p->n_waiting[s] > 0 &&
			    (p->m->cuts != CUT_RANDOM || roll(p, 2) == 0))
				inject_replies(p, (enum side)s);
}

static void
flush(struct play *p)
{
	struct bytes b = p->queue;

	p->queue = (struct bytes){ 0 };
	feed_cut(p, p->queue_from, b.data, b.len, false);
	bytes_free(&b);
}

/* In random plays several steps of one side may arrive as one piece. */
static void
play_bytes(struct play *p, const struct step *s, const struct step *next)
{
	bool joins = p->m->cuts == CUT_RANDOM && next != NULL && next->data != NULL &&
	    next->from == s->from;

	if (p->dead[s->from])
		return;
	p->queue_from = s->from;
	bytes_add(&p->sent[s->from], s->data, s->len);
	bytes_add(&p->queue, s->data, s->len);
	p->inside[s->from] = true;
	if (joins && p->n_waiting[s->from] == 0 && roll(p, 2) == 0)
		return;
	flush(p);
	p->inside[s->from] = false;
	reply_at_once(p);
}

static void
play_fin(struct play *p, enum side from)
{
	if (p->run.fin[from])
		return;
	inject_last_replies(p, from);
	run_fin(&p->run, from);
	offer_heartbeats(p);
	reply_at_once(p);
}

/* ---- the laws ---- */

static void
expect_equal(const struct play *p, enum side from)
{
	enum side to = side_other(from);
	struct match m = { .sent = &p->sent[from], .is_cut = p->run.reset };
	size_t at = codec_match(&p->run, to, &m);

	if (at != MATCHED)
		run_fail(&p->run, "from the %s: what came out (less heartbeats) differs from what went in "
		    "(less replies) at byte %zu of %zu", side_name(from), at, m.sent->len);
}

static void
check_laws(const struct play *p)
{
	const struct run *r = &p->run;

	for (int s = 0; s < 2; s++) {
		expect_equal(p, (enum side)s);
		if (taken(p, s) != p->injected[s])
			run_fail(r, "took out %u replies of the %s, which sent %u", taken(p, s),
			    side_name((enum side)s), p->injected[s]);
	}
	if (r->passthrough != NULL && p->t->passthrough == NULL && !p->m->dies)
		run_fail(r, "passthrough: %s", r->passthrough);
	if (!p->m->dies && p->t->passthrough != NULL && (r->passthrough == NULL || strstr(r->passthrough, p->t->passthrough) == NULL))
		run_fail(r, "no passthrough for \"%s\": %s", p->t->passthrough, r->passthrough != NULL ? r->passthrough : "not at all");
}

static void
describe(struct play *p)
{
	const struct manner *m = p->m;

	snprintf(p->run.what, sizeof(p->run.what), "transcript \"%s\", cuts=%s cut_at=%zu skip=%d "
	    "heartbeats=%s to=%u kinds=%u heartbeat_at=%zu late=%d dies=%d seed=%u", p->t->name, cuts_text[m->cuts],
	    m->cut_at, m->skip, heartbeats_text[m->heartbeats], m->to, m->kinds, m->heartbeat_at, m->late, m->dies,
	    m->seed);
}

/* Plays it once. Returns how many legal moments there were. */
static size_t
play(const struct transcript *t, const struct manner *m, uint8_t *trace, bool noting, struct tally *tally)
{
	struct play p = { .t = t, .m = m, .peer = t->peer, .trace = trace, .noting = noting,
	    .random = m->seed * 2654435761u + 1, .tally = tally };

	run_start(&p.run, t->codec, t->settings);
	describe(&p);
	compare_trace(&p);
	offer_heartbeats(&p);
	reply_at_once(&p);
	for (size_t i = 0; i < t->n_steps; i++) {
		const struct step *s = &t->steps[i];

		if (p.queue.len == 0)
			replies_before(&p, s);
		if (t->fault > 0 && i == t->fault)
			p.garbled[s->from] = true;
		if (s->data == NULL)
			play_fin(&p, s->from);
		else
			play_bytes(&p, s, i + 1 < t->n_steps ? s + 1 : NULL);
	}
	play_fin(&p, BACKEND);
	play_fin(&p, CLIENT);
	check_laws(&p);
	for (int s = 0; s < 2; s++) {
		if (m->cuts == CUT_BYTES)
			tally->replies[s] += p.run.replies[s];
		free(p.waiting[s]);
		bytes_free(&p.sent[s]);
	}
	tally->skipped += p.run.skipped;
	run_end(&p.run);
	return p.moments;
}

static size_t
length_of(const struct transcript *t)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n_steps; i++)
		n += t->steps[i].len;
	return n;
}

static void
check_cuts(const struct transcript *t, struct tally *tally)
{
	size_t len = length_of(t), stride = len / SINGLES + 1;
	uint8_t *trace = calloc(len + 1, 1);
	struct manner m = { .cuts = CUT_BYTES };

	if (trace == NULL)
		abort();
	play(t, &m, trace, true, tally);
	m.skip = true;
	play(t, &m, trace, false, tally);
	for (int skip = 0; skip < 2; skip++) {
		m = (struct manner){ .cuts = CUT_STEPS, .skip = skip };
		play(t, &m, trace, false, tally);
		for (size_t at = 1; at < len; at += stride) {
			m = (struct manner){ .cuts = CUT_ONCE, .cut_at = at, .skip = skip };
			play(t, &m, trace, false, tally);
		}
	}
	for (unsigned seed = 1; seed <= SEEDS; seed++) {
		m = (struct manner){ .cuts = CUT_RANDOM, .skip = seed % 2 == 0, .seed = seed };
		play(t, &m, trace, false, tally);
	}
	free(trace);
}

/* Heartbeats of one kind to one side: everywhere, and at each place alone. */
static void
check_kind(const struct transcript *t, enum side to, enum heartbeat_kind kind, struct tally *tally)
{
	struct tally unused = { 0 };

	for (unsigned sort = 0; sort < 3; sort++) {
		struct manner m = { .cuts = CUT_BYTES, .heartbeats = HEARTBEATS_ALWAYS, .to = 1u << to,
		    .kinds = kind, .late = sort == 1, .dies = sort == 2, .seed = 1 };
		size_t moments = play(t, &m, NULL, false, sort == 0 ? tally : &unused);

		m.cuts = CUT_STEPS;
		play(t, &m, NULL, false, &unused);
		m.cuts = CUT_BYTES;
		m.heartbeats = HEARTBEATS_ONCE;
		for (size_t at = 1; at <= moments; at += moments / SINGLES + 1) {
			m.heartbeat_at = at;
			m.seed = (unsigned)at;
			play(t, &m, NULL, false, &unused);
		}
	}
}

static void
check_heartbeats(const struct transcript *t, struct tally *tally)
{
	struct tally unused = { 0 };

	for (int to = 0; to < 2; to++)
		for (unsigned kind = HEARTBEAT_ONEWAY; kind <= HEARTBEAT_EARLY; kind <<= 1)
			if ((t->codec->leg[to].kinds & kind) != 0)
				check_kind(t, (enum side)to, (enum heartbeat_kind)kind, tally);
	for (unsigned seed = 1; seed <= 2 * SEEDS; seed++) {
		struct manner m = { .cuts = seed % 4 == 0 ? CUT_BYTES : CUT_RANDOM, .skip = seed % 3 == 0,
		    .heartbeats = seed % 2 == 0 ? HEARTBEATS_ALWAYS : HEARTBEATS_RANDOM, .to = 3, .kinds = 7,
		    .late = seed % 5 < 2, .dies = seed % 7 == 0, .seed = seed };
		play(t, &m, NULL, false, &unused);
	}
}

/* ---- the corpus ---- */

/* An input of tests/fuzz/fuzz_codec.c: settings; then records of what, length - 1, bytes. */
static void
write_corpus(const struct transcript *t, const char *dir)
{
	char path[PATH_MAX];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, t->codec->name);
	if (mkdir(path, 0777) < 0 && errno != EEXIST) {
		perror(path);
		abort();
	}
	snprintf(path, sizeof(path), "%s/%s/%s", dir, t->codec->name, t->name);
	for (char *p = path + strlen(path) - strlen(t->name); *p != '\0'; p++)
		if (strchr(" /", *p) != NULL)
			*p = '-';
	f = fopen(path, "w");
	if (f == NULL) {
		perror(path);
		abort();
	}
	fprintf(f, "%c", (int)t->settings->kind[CLIENT] | (int)t->settings->kind[BACKEND] << 3 |
	    t->settings->in_transaction << 6);
	for (size_t i = 0; i < t->n_steps; i++) {
		const struct step *s = &t->steps[i];

		if (s->data == NULL)
			fprintf(f, "%c", s->from == CLIENT ? 0x06 : 0x0e);
		for (size_t at = 0; at < s->len; at += 256) {
			size_t n = s->len - at < 256 ? s->len - at : 256;

			fprintf(f, "%c%c", 0x30 | (int)s->from, (int)(n - 1));
			fwrite((const uint8_t *)s->data + at, 1, n, f);
		}
	}
	fclose(f);
}

struct tally
codec_check(const struct transcript *t)
{
	static const struct codec_settings on = { .heartbeats = { true, true } };
	struct transcript full = *t;
	struct tally tally = { 0 };
	const char *dir = getenv("CODEC_CORPUS");

	if (full.peer == NULL)
		full.peer = codec_peer_of(t->codec);
	if (full.settings == NULL)
		full.settings = &on;
	if (dir != NULL)
		write_corpus(&full, dir);
	check_cuts(&full, &tally);
	check_heartbeats(&full, &tally);
	if (full.passthrough == NULL)
		codec_check_chain(&full);
	return tally;
}
