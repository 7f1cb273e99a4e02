/*
 * codec_chain.c - one transcript through two stents in a row, as where a
 * program has one on its machine and its server another.
 *
 * Each follows the whole stream, so it judges the other: a heartbeat that went out
 * in the wrong place makes the next one go over to passthrough, and a reply that is taken
 * by the one that did not ping is missed by the one that did. Their replies may
 * be alike; then it does not matter who took which, as long as each took as
 * many as it has pings.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec_chain.h"
#include "codec_match.h"

#define SEEDS 60

struct reply {
	uint8_t data[PEER_REPLY_MAX];
	size_t len;
};

struct chain {
	struct run run[2];	/* by the side that is next to it */
	size_t passed[2][2];	/* bytes of run[i].got[side] that the other stent or that side has */
	const struct transcript *t;
	struct reply *replies[2];	/* all replies to pings of a side */
	size_t n_replies[2], n_sent[2];
	bool inside[2];		/* that side is in the middle of a step */
	bool fed_by_bytes;
	unsigned random;
};

static unsigned
roll(struct chain *c, unsigned n)
{
	c->random = c->random * 1103515245u + 12345u;
	return (c->random >> 16) % n;
}

static void
feed_cut(struct chain *c, struct run *r, enum side from, const uint8_t *data, size_t len)
{
	while (len > 0) {
		size_t n = c->fed_by_bytes ? 1 : 1 + roll(c, 64);

		n = n < len ? n : len;
		run_feed(r, from, data, n);
		data += n;
		len -= n;
	}
}

/* What one stent let out toward the other goes in there. */
static void
pass_on(struct chain *c, enum side from)
{
	struct run *near = &c->run[from], *far = &c->run[side_other(from)];
	size_t *passed = &c->passed[from][side_other(from)];
	struct bytes fresh = { 0 };

	if (near->got[side_other(from)].len == *passed)
		return;
	bytes_add(&fresh, near->got[side_other(from)].data + *passed, near->got[side_other(from)].len - *passed);
	*passed += fresh.len;
	feed_cut(c, far, from, fresh.data, fresh.len);
	bytes_free(&fresh);
}

static void
add_reply(struct chain *c, enum side to, const uint8_t *heartbeat, size_t len)
{
	struct reply a;

	a.len = c->t->peer->reply(c->t->settings, to, heartbeat, len, a.data);
	if (a.len == 0)
		return;
	c->replies[to] = realloc(c->replies[to], (c->n_replies[to] + 1) * sizeof(a));
	if (c->replies[to] == NULL)
		abort();
	c->replies[to][c->n_replies[to]++] = a;
}

/* Perhaps a heartbeat of stent i to a side, of any kind that is legal. */
static void
offer(struct chain *c, int i, enum side to)
{
	struct run *r = &c->run[i];
	unsigned kinds = run_may_heartbeat(r, to), n = roll(c, 3);
	size_t len;

	if (kinds == 0 || roll(c, 3) == 0)
		return;
	while ((kinds & (1u << n)) == 0)
		n = (n + 1) % 3;
	len = run_heartbeat(r, to, (enum heartbeat_kind)(1u << n));
	add_reply(c, to, r->got[to].data + r->got[to].len - len, len);
	if (i != (int)to)
		pass_on(c, side_other(to));
}

static void
offer_all(struct chain *c)
{
	for (int i = 0; i < 2; i++)
		for (int to = 0; to < 2; to++)
			offer(c, i, (enum side)to);
}

static void
send_bytes(struct chain *c, enum side from, const uint8_t *data, size_t len, bool heartbeats)
{
	while (len > 0) {
		size_t n = c->fed_by_bytes ? 1 : 1 + roll(c, 100);

		n = n < len ? n : len;
		run_feed(&c->run[from], from, data, n);
		pass_on(c, from);
		data += n;
		len -= n;
		if (heartbeats)
			offer_all(c);
	}
}

/* The replies due from a side that stands between two messages. */
static void
reply_all(struct chain *c, enum side from)
{
	size_t n = c->n_replies[from];

	for (; c->n_sent[from] < n; c->n_sent[from]++)
		send_bytes(c, from, c->replies[from][c->n_sent[from]].data,
		    c->replies[from][c->n_sent[from]].len, false);
}

static void
reply_before(struct chain *c, const struct step *s)
{
	const struct codec_peer *peer = c->t->peer;

	if (s->data != NULL && peer->may_overtake != NULL && roll(c, 2) == 0 &&
	    peer->may_overtake(s->from, s->data, s->len))
		return;
	reply_all(c, s->from);
}

static void
end(struct chain *c, enum side from)
{
	if (c->run[from].fin[from])
		return;
	reply_all(c, from);
	run_fin(&c->run[from], from);
	pass_on(c, from);
	run_fin(&c->run[side_other(from)], from);
}

static void
play_step(struct chain *c, const struct step *s)
{
	reply_before(c, s);
	if (s->data == NULL) {
		end(c, s->from);
		return;
	}
	c->inside[s->from] = true;
	send_bytes(c, s->from, s->data, s->len, true);
	c->inside[s->from] = false;
	for (int side = 0; side < 2; side++)
		if (!c->inside[side] && !c->run[side].fin[side] && roll(c, 2) == 0)
			reply_all(c, (enum side)side);
}

/* ---- the laws ---- */

struct reply_source {
	const struct chain *c;
	enum side side;
};

static size_t
reply_at(void *arg, const uint8_t *bytes, size_t len)
{
	const struct reply_source *source = arg;
	const struct reply *all = source->c->replies[source->side];

	for (size_t i = 0; i < source->c->n_replies[source->side]; i++)
		if (all[i].len <= len && memcmp(all[i].data, bytes, all[i].len) == 0)
			return all[i].len;
	return source->c->t->peer->oneway_is_alike ? source->c->t->peer->looks_like_reply(source->side, bytes, len) : 0;
}

/* So many one-way heartbeats were sent in that direction. */
static unsigned
oneways_from(const struct chain *c, enum side from)
{
	const struct run *r = &c->run[from];
	unsigned n = 0;

	for (size_t i = 0; i < r->n_marks[side_other(from)]; i++)
		n += r->marks[side_other(from)][i].kind == HEARTBEAT_ONEWAY;
	return n;
}

static void
check_direction(const struct chain *c, enum side from)
{
	struct reply_source source = { c, from };
	const unsigned taken = c->run[CLIENT].replies[from] + c->run[BACKEND].replies[from] +
	    c->run[CLIENT].strays[from] + c->run[BACKEND].strays[from];
	const unsigned most = c->t->peer->oneway_is_alike ? oneways_from(c, from) : 0;

	for (int i = 0; i < 2; i++) {
		const struct run *r = &c->run[i];
		struct match m = { .sent = &r->in[from], .replies = r->replies[from] + r->strays[from],
		    .reply_at = reply_at, .arg = &source, .is_cut = r->reset };
		size_t at = codec_match(r, side_other(from), &m);

		if (at != MATCHED)
			run_fail(r, "from the %s: what came out (less heartbeats) differs from what went in "
			    "(less replies) at byte %zu of %zu", side_name(from), at, m.sent->len);
		if (r->passthrough != NULL)
			run_fail(r, "passthrough: %s", r->passthrough);
	}
	if (taken < c->n_sent[from] || taken > c->n_sent[from] + most)
		run_fail(&c->run[from], "both stents together took out %u replies of the %s, which sent %zu",
		    taken, side_name(from), c->n_sent[from]);
}

static void
play(const struct transcript *t, unsigned seed)
{
	struct chain c = { .t = t, .random = seed * 2654435761u + 1, .fed_by_bytes = seed % 8 == 1 };

	for (int i = 0; i < 2; i++) {
		run_start(&c.run[i], t->codec, t->settings);
		run_seed(&c.run[i], RUN_SEED * (unsigned)(i + 1));
		snprintf(c.run[i].what, sizeof(c.run[i].what), "transcript \"%s\" through two stents, "
		    "of which this is the %s's, seed %u", t->name, side_name((enum side)i), seed);
	}
	offer_all(&c);
	for (size_t i = 0; i < t->n_steps; i++)
		play_step(&c, &t->steps[i]);
	end(&c, BACKEND);
	end(&c, CLIENT);
	check_direction(&c, CLIENT);
	check_direction(&c, BACKEND);
	for (int i = 0; i < 2; i++) {
		run_end(&c.run[i]);
		free(c.replies[i]);
	}
}

void
codec_check_chain(const struct transcript *t)
{
	for (unsigned seed = 1; seed <= SEEDS; seed++)
		play(t, seed);
}
