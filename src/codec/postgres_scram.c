/*
 * postgres_scram.c - SCRAM with channel binding, where stent terminates TLS.
 *
 * In SCRAM-SHA-256-PLUS the client proves that the certificate it was shown is
 * the server's. So it works through stent only where both legs have TLS and
 * show the same certificate. Elsewhere the server offers it all the same, and
 * clients fail: libpq ends a login over a plain connection when it sees the
 * name. So this one name is struck from the server's list (AuthenticationSASL)
 * before the client gets it: the one place where stent changes what a side has
 * sent.
 *
 * A client that has TLS itself then says in its reply that it supports channel
 * binding and that the server does not (`y`). The server takes this for an
 * attack, and refuses. Nothing can be done about it here, except to say why.
 */
#include <string.h>

#include "codec/postgres.h"
#include "stent/promise.h"

#define AUTH_SASL 10u
#define AUTH_HEAD 4	/* its code; then come names, each with its NUL, and an empty one */

_Static_assert(4 + PG_AUTH_MAX <= UINT8_MAX, "the length of a list is one byte");

static const char plus[] = "SCRAM-SHA-256-PLUS";

void
pg_tls(void *state, const struct codec_tls *tls)
{
	struct pg *pg = state;

	pg->strikes = tls->leg[BACKEND] && !(tls->leg[CLIENT] && tls->same_certificate);
}

/* ---- the server's list ---- */

bool
pg_auth_is_held(const struct pg *pg, uint8_t type)
{
	return pg->strikes && pg->phase == PG_LOGIN && type == 'R';
}

void
pg_auth_begin(struct pg *pg)
{
	if (!pg->holds_auth) {
		pg->stream[BACKEND].look = 0;
		return;
	}
	/* What was learned before shares its place; a server sends nothing of it before the login is done. */
	pg->key_len = 0;
	pg->param = 0;
	pg->in_value = false;
}

void
pg_auth_at(struct pg *pg, uint16_t off, uint8_t byte)
{
	promise_void(off < sizeof(pg->auth) && pg->holds_auth);
	pg->auth[off] = byte;
}

void
pg_auth_give_back(struct pg *pg, struct codec_out *out)
{
	struct pg_stream *s = &pg->stream[BACKEND];

	promise_void(pg->holds_auth && s->off <= sizeof(pg->auth) && s->got <= sizeof(s->head));
	pg->holds_auth = false;
	codec_emit_copy(out, s->head, s->got > 0 ? s->got : PG_HEAD_TYPED);
	if (s->got == 0)
		codec_emit_copy(out, pg->auth, s->off);
	s->look = 0;
}

/* Removes the name from a list of len bytes. Returns its new length; 0: it is not in it, or this is no list. */
static size_t
strike(uint8_t *list, size_t len)
{
	size_t at = 0, kept = 0;

	while (at < len && list[at] != '\0') {
		const uint8_t *end = memchr(list + at, '\0', len - at);
		size_t n;

		if (end == NULL)
			return 0;
		n = (size_t)(end - (list + at)) + 1;
		if (n != sizeof(plus) || memcmp(list + at, plus, n) != 0) {
			memmove(list + kept, list + at, n);
			kept += n;
		}
		at += n;
	}
	promise_or(kept <= at && at <= len, 0);
	if (at + 1 != len || kept == at)
		return 0;
	list[kept] = '\0';
	return kept + 1;
}

static void
emit_list(struct pg *pg, size_t len, struct codec_out *out)
{
	const uint8_t head[PG_HEAD_TYPED] = { 'R', 0, 0, 0, (uint8_t)(4 + AUTH_HEAD + len) };

	promise_void(len > 1 && AUTH_HEAD + len <= sizeof(pg->auth) && pg->strikes);
	codec_emit_copy(out, head, sizeof(head));
	codec_emit_copy(out, pg->auth, AUTH_HEAD + len);
	pg->has_struck = true;
}

static void
emit_refusal(struct pg *pg, struct codec_out *out)
{
	uint8_t buf[CODEC_CLOSE_MESSAGE_MAX];

	codec_emit_copy(out, buf, pg_fatal(buf, sizeof(buf), "28000",
	    "the server accepts only logins with channel binding (SCRAM-SHA-256-PLUS), and stent terminates TLS in between",
	    "Let the server accept SCRAM-SHA-256 too, or use TLS to stent with the server's own certificate as client.tls_cert."));
	pg_passthrough(pg, BACKEND, "the client was told that it cannot log in");
}

/* The list is whole. The copy in hand stays as it is if there is nothing to strike. */
static void
settle_list(struct pg *pg, struct codec_out *out)
{
	const size_t len = pg->stream[BACKEND].off - AUTH_HEAD;
	uint8_t before[PG_AUTH_MAX];
	size_t left;

	promise_void(len <= sizeof(pg->auth) - AUTH_HEAD && pg->stream[BACKEND].left == 0);
	memcpy(before, pg->auth, sizeof(before));
	left = strike(pg->auth + AUTH_HEAD, len);
	if (left == 0) {
		memcpy(pg->auth, before, sizeof(before));
		pg_auth_give_back(pg, out);
		return;
	}
	pg->holds_auth = false;
	if (left > 1)
		emit_list(pg, left, out);
	else
		emit_refusal(pg, out);
}

void
pg_auth_settle(struct pg *pg, struct codec_out *out)
{
	const struct pg_stream *s = &pg->stream[BACKEND];
	const bool has_code = s->off >= AUTH_HEAD;

	promise(pg->holds_auth && !s->ours);
	if (pg->passthrough != NULL) {
		pg_auth_give_back(pg, out);
	} else if (s->got > 0 || !has_code) {
		return;
	} else if (pg_be32(pg->auth) != AUTH_SASL) {
		pg_auth_give_back(pg, out);
	} else if (s->off + s->left > sizeof(pg->auth)) {
		pg->note = PG_NOTE_LONG_LIST;
		pg_auth_give_back(pg, out);
	} else if (s->left == 0) {
		settle_list(pg, out);
	}
}

/* ---- the client's choice: a name with its NUL, a length of four bytes, and what begins with n, y or p ---- */

void
pg_choice_begin(struct pg *pg)
{
	if (!pg->has_struck)
		pg->stream[CLIENT].look = 0;
	pg->has_struck = false;
}

void
pg_choice_at(struct pg *pg, uint16_t off, uint8_t byte)
{
	_Static_assert(PG_CHOICE_LOOK == sizeof("SCRAM-SHA-256") + 4 + 1, "its last byte is the letter");
	if (off == PG_CHOICE_LOOK - 1 && byte == 'y')
		pg->note = PG_NOTE_BINDING;
}
