/*
 * fuzz_codec.c - feeds a codec whatever libFuzzer invents. One target a codec,
 * by -DFUZZ_CODEC="name".
 *
 * An input is a byte of settings, then records:
 *	0, 1	the client, the backend sends: a byte of length - 1, then the bytes
 *	2, 3	the same, one byte at a time
 *	4, 5	a heartbeat to the client, to the backend, if one is legal
 *	6	a FIN		(0x08: the backend's)
 *	7	the replies that are due	(0x08: the backend's), in a manner that the bits above say
 * with, where bytes are sent, 0x08: forward unread what the codec need not
 * see; 0x10: heartbeats wherever they are legal; 0x20: replies come at once. A heartbeat
 * is of the kind that 0x60 says, if that is legal.
 *
 * It is played twice. Without heartbeats, what comes out must be what went in. With
 * heartbeats the same must hold less the heartbeats and as many replies as the codec
 * says that it took out, whatever the bytes mean and wherever replies come.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec_match.h"
#include "codec_peers.h"

#define STRUCK "SCRAM-SHA-256-PLUS"	/* what a codec may remove then */
#define HEARTBEATS_MAX 300	/* to a side, in one input */

struct reply {
	uint8_t data[PEER_REPLY_MAX];
	size_t len;
};

struct fuzz {
	struct run run;
	const struct codec_peer *peer;
	struct codec_settings settings;
	bool heartbeats;
	bool has_tls;			/* the codec is told that stent ends TLS */
	unsigned kinds_offered;		/* counts, so that kinds take turns */
	struct reply *replies[2];	/* all replies to pings of a side */
	size_t n_replies[2], n_sent[2];
	size_t distinct[2][HEARTBEATS_MAX], n_distinct[2];	/* which of them are no repetition */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A heartbeat got a reply: it lies behind the others. */
static void
add_reply(struct fuzz *f, enum side side)
{
	const struct reply *all = f->replies[side], *a = &all[f->n_replies[side]++];

	for (size_t i = 0; i < f->n_distinct[side]; i++) {
		const struct reply *b = &all[f->distinct[side][i]];

		if (a->len == b->len && memcmp(a->data, b->data, a->len) == 0)
			return;
	}
	f->distinct[side][f->n_distinct[side]++] = (size_t)(a - all);
}

static void
heartbeat(struct fuzz *f, enum side to, unsigned wanted)
{
	unsigned kinds = run_may_heartbeat(&f->run, to), n;
	struct reply *a;
	size_t len;

	if (kinds == 0 || f->run.n_marks[to] == HEARTBEATS_MAX)
		return;
	for (n = wanted % 3; (kinds & (1u << n)) == 0; n = (n + 1) % 3)
		;
	len = run_heartbeat(&f->run, to, (enum heartbeat_kind)(1u << n));
	f->replies[to] = realloc(f->replies[to], (f->n_replies[to] + 1) * sizeof(*a));
	if (f->replies[to] == NULL)
		abort();
	a = &f->replies[to][f->n_replies[to]];
	a->len = f->peer->reply(&f->settings, to, f->run.got[to].data + f->run.got[to].len - len,
	    len, a->data);
	if (a->len > 0)
		add_reply(f, to);
}

/* manner: 0 as they are; else mangled in some way, and above 7 twice, as there are peers. */
static void
reply(struct fuzz *f, enum side from, unsigned manner)
{
	while (!f->run.fin[from] && f->n_sent[from] < f->n_replies[from]) {
		struct reply a = f->replies[from][f->n_sent[from]++];

		if (manner != 0 && f->peer->mangle != NULL)
			a.len = f->peer->mangle((manner & 7) | (unsigned)f->n_sent[from] % 16 << 3, a.data, a.len);
		for (unsigned i = 0; i <= (f->peer->mangle != NULL ? manner >> 3 : 0); i++)
			run_feed(&f->run, from, a.data, a.len);
	}
}

static void
send_bytes(struct fuzz *f, uint8_t how, const uint8_t *p, size_t len)
{
	enum side from = (how & 1) != 0 ? BACKEND : CLIENT;

	while (len > 0 && !f->run.fin[from]) {
		size_t piece = (how & 2) != 0 ? 1 : len, n = 0;

		if ((how & 8) != 0)
			n = run_skip(&f->run, from, p, piece);
		if (n == 0) {
			run_feed(&f->run, from, p, piece);
			n = piece;
		}
		p += n;
		len -= n;
		if (f->heartbeats && (how & 0x10) != 0) {
			heartbeat(f, CLIENT, f->kinds_offered);
			heartbeat(f, BACKEND, f->kinds_offered++);
		}
	}
	for (int s = 0; s < 2 && (how & 0x20) != 0; s++)
		reply(f, (enum side)s, 0);
}

static void
fin(struct fuzz *f, enum side from)
{
	if (!f->run.fin[from])
		run_fin(&f->run, from);
}

static void
play(struct fuzz *f, const uint8_t *p, const uint8_t *end)
{
	while (p < end && !f->run.reset) {
		uint8_t how = *p++;
		enum side side = (how & 8) != 0 ? BACKEND : CLIENT;

		if ((how & 7) < 4 && p < end) {
			size_t n = (size_t)*p++ + 1, left = (size_t)(end - p);

			n = n < left ? n : left;
			send_bytes(f, how, p, n);
			p += n;
		} else if ((how & 7) == 6) {
			fin(f, side);
		} else if ((how & 7) == 7) {
			reply(f, side, how >> 4);
		} else if ((how & 7) >= 4 && f->heartbeats) {
			heartbeat(f, (how & 1) != 0 ? BACKEND : CLIENT, how >> 5 & 3);
		}
	}
	fin(f, BACKEND);
	fin(f, CLIENT);
}

/* How many replies a side may have sent. */
static size_t
replies_max(const struct fuzz *f, enum side side)
{
	return f->peer->replies_to_oneway ? f->run.n_marks[side] : f->n_replies[side];
}

struct reply_source {
	const struct fuzz *f;
	enum side side;
};

static size_t
reply_at(void *arg, const uint8_t *bytes, size_t len)
{
	const struct reply_source *source = arg;
	const struct fuzz *f = source->f;
	enum side s = source->side;
	size_t (*looks_like)(enum side side, const uint8_t *bytes, size_t len);

	for (size_t i = 0; i < f->n_distinct[s]; i++) {
		const struct reply *a = &f->replies[s][f->distinct[s][i]];

		if (a->len <= len && memcmp(a->data, bytes, a->len) == 0)
			return a->len;
	}
	/* Of the codec that auto found: what one protocol's reply looks like may be the beginning of another's, with another length. */
	looks_like = codec_peer_of(f->run.codec)->looks_like_reply;
	return looks_like != NULL && replies_max(f, s) > 0 ? looks_like(s, bytes, len) : 0;
}

static void
check(const struct fuzz *f, enum side from)
{
	enum side to = side_other(from);
	struct reply_source source = { f, from };
	struct match m = { .sent = &f->run.in[from], .replies = f->run.replies[from] + f->run.strays[from],
	    .reply_at = reply_at, .arg = &source, .is_cut = f->run.reset };
	const struct bytes *in = &f->run.in[from];
	size_t at;

	if (f->has_tls && from == BACKEND && in->len > 0 && memmem(in->data, in->len, STRUCK, sizeof(STRUCK) - 1) != NULL)
		return;		/* what a codec may change: its unit test has that */
	/*
	 * What a peer that does not accept heartbeats replies to one is taken out, whatever it is: random bytes look like
	 * that, and where the peer's row does not say what it may be, it is not known which they were. The unit tests
	 * hold the codecs to the very bytes.
	 */
	if (f->run.has_refused[from] && f->heartbeats && !f->peer->replies_to_oneway && !f->peer->refuses_alike)
		return;
	if (f->run.replies[from] > replies_max(f, from))
		run_fail(&f->run, "took out %u replies of the %s, which may have sent %zu",
		    f->run.replies[from], side_name(from), replies_max(f, from));
	at = codec_match(&f->run, to, &m);
	if (at != MATCHED)
		run_fail(&f->run, "from the %s: what came out (less heartbeats) differs from what went in "
		    "(less replies) at byte %zu of %zu", side_name(from), at, m.sent->len);
}

static void
play_whole(const struct codec *codec, bool heartbeats, uint8_t settings, const uint8_t *p, const uint8_t *end)
{
	static const unsigned kinds[8] = { [HEARTBEAT_ONEWAY] = HEARTBEAT_ONEWAY, [HEARTBEAT_PING] = HEARTBEAT_PING, [HEARTBEAT_EARLY] = HEARTBEAT_EARLY };
	static char comment[] = ": hi\n\n";
	struct fuzz f = { .peer = codec_peer_of(codec), .heartbeats = heartbeats };

	if (f.peer->settings != NULL)
		f.settings = *f.peer->settings;
	f.settings.heartbeats[CLIENT] = (settings & 0x80) == 0;
	f.settings.heartbeats[BACKEND] = true;
	f.settings.in_transaction = (settings & 0x40) != 0;
	f.settings.kind[CLIENT] = (enum heartbeat_kind)kinds[settings & 7];
	f.settings.kind[BACKEND] = (enum heartbeat_kind)kinds[settings >> 3 & 7];
	/* These numbers name no kind. */
	f.settings.comment_at_start = (settings & 7) == 3 || (settings & 7) == 5;
	if ((settings & 7) >= 5)
		f.settings.comment = (struct codec_bytes){ .data = (uint8_t *)comment, .len = (settings & 7) == 7 ? 6 : 5 };
	f.settings.while_busy[CLIENT] = (settings & 1) != 0;
	f.settings.while_busy[BACKEND] = (settings >> 3 & 1) != 0;
	run_start(&f.run, codec, &f.settings);
	f.has_tls = codec->tls != NULL && (settings & 7) == 6;
	if (f.has_tls)
		codec->tls(f.run.state, &(struct codec_tls){ .leg = { false, true } });
	snprintf(f.run.what, sizeof(f.run.what), "the input at hand, %s heartbeats", heartbeats ? "with" : "without");
	play(&f, p, end);
	for (int s = 0; s < 2; s++) {
		check(&f, (enum side)s);
		free(f.replies[s]);
	}
	run_end(&f.run);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct codec *codec = codec_find(FUZZ_CODEC);

	if (codec == NULL) {
		fprintf(stderr, "no codec is called " FUZZ_CODEC "\n");
		abort();
	}
	if (size > 0) {
		play_whole(codec, false, *data, data + 1, data + size);
		play_whole(codec, true, *data, data + 1, data + size);
	}
	return 0;
}
