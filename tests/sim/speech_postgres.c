/*
 * speech_postgres.c - PostgreSQL's protocol, version 3: logins, simple and
 * extended queries, pipelines, transactions, COPY both ways, notifications,
 * function calls, cancel requests. The text of a statement says what the server
 * is to do, by its first word.
 *
 * A heartbeat toward the server is a Sync while nothing is under way (or, where
 * configured, a Flush while something is); toward the client a ParameterStatus
 * with a value that it knows, between two replies.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "judge.h"

#define PID_OF_TALK 1000		/* a process number, as Linux has them */
#define PID_OF_CANCEL 3000000		/* of a client's own cancel request */
#define CANCEL_CODE 80877102
#define SSL_CODE 80877103
#define PARAMETERS 3
#define CHANGING 2		/* of these, the first ones */
#define BACKLOG 256
#define ROW_MAX 20000

enum work { SELECT, UPDATE, NOTHING, FAIL, BEGIN, COMMIT, COPY_IN, COPY_OUT, LISTEN, TWICE, WORKS };

static const char *const work_names[WORKS] = { "SELECT", "UPDATE", "", "FAIL", "BEGIN", "COMMIT", "COPYIN", "COPYOUT", "LISTEN", "TWICE" };

enum login { FIRST, ASKED_TLS, STARTED, READY, CANCELS };

struct item {
	char type;		/* of the message; 'h': our Sync */
	uint8_t work;
};

struct postgres {
	enum login login;
	char value[PARAMETERS][24];	/* as reported */
	/* The client's. */
	unsigned due;		/* ReadyForQuery that must come */
	bool holds;		/* it says nothing more until these have come */
	bool in_batch;		/* extended messages without their Sync; the server: the same, worked on */
	bool in_reply;		/* it has heard the beginning of a reply, not its ReadyForQuery */
	bool in_copy;		/* ... of a COPY */
	bool is_strict;		/* it takes nothing but what it waits for */
	bool is_copying;	/* it sends rows, or gets them; the server: likewise */
	bool extended_copy;
	uint8_t parsed;		/* enum work: the prepared statement; likewise */
	/* The server's. */
	char method;
	struct item backlog[BACKLOG];
	unsigned n;
	unsigned rows;		/* of the running statement, still to be said */
	uint8_t running;	/* enum work */
	bool is_running;
	bool skips;		/* all up to a Sync */
	bool heard_rows;	/* of the COPY: so the program knows of it */
	bool listens;
	bool heard_goodbye;
	char status;
};

static const char *const parameters[PARAMETERS] = { "TimeZone", "DateStyle", "server_encoding" };
static uint8_t scratch[ROW_MAX + 256];

static void
put32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static uint32_t
get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void
say(struct party *p, char type, const void *body, size_t len)
{
	static uint8_t message[sizeof(scratch) + 5];

	message[0] = (uint8_t)type;
	put32(message + 1, (uint32_t)len + 4);
	memcpy(message + 5, body, len);
	party_say(p, message, len + 5);
}

static void
say_text(struct party *p, char type, const char *text)
{
	say(p, type, text, strlen(text) + 1);
}

/* Bytes of any kind. */
static void
fill(uint8_t *bytes, size_t len)
{
	uint8_t b = (uint8_t)rnd();

	for (size_t i = 0; i < len; i++)
		bytes[i] = b = (uint8_t)(b * 5 + 1);
}

static size_t
some_len(void)
{
	return (size_t)rnd_scale(1, rnd_chance(300) ? ROW_MAX : 200);
}

/* The beginning of a statement, with a comment that may be long. */
static size_t
write_statement(char *text, enum work w)
{
	size_t n = (size_t)snprintf(text, 32, "%s", work_names[w]), more;

	if (w != NOTHING && rnd_chance(3000)) {
		more = some_len();
		text[n++] = ' ';
		for (size_t i = 0; i < more; i++)
			text[n++] = (char)('a' + i * 7 % 26);
	}
	text[n++] = '\0';
	return n;
}

static enum work
work_of(const char *text)
{
	for (int w = 0; w < WORKS; w++) {
		const size_t n = strlen(work_names[w]);

		if (w != NOTHING && strncmp(text, work_names[w], n) == 0 && (text[n] == '\0' || text[n] == ' '))
			return (enum work)w;
	}
	return NOTHING;
}

/* --- the client --- */

static int64_t
client_pause_us(void)
{
	return rnd_scale(10, rnd_chance(1500) ? 20 * MINUTES : 2 * SECONDS);
}

static void
say_startup(struct party *p)
{
	char body[200];
	const int n = snprintf(body, sizeof(body), "%c%c%c%cuser%ctalk%07ld%cdatabase%cx%capplication_name%ctest%c", 0, 3, 0, 0, 0,
	    p->talk->number, 0, 0, 0, 0, 0);
	uint8_t packet[220];

	put32(packet, (uint32_t)n + 5);
	memcpy(packet + 4, body, (size_t)n);
	packet[4 + n] = 0;
	((struct postgres *)p->state)->login = STARTED;
	party_say(p, packet, (size_t)n + 5);
}

static uint32_t
key_of(long number)
{
	return (uint32_t)number * 2654435761u;
}

static void
say_cancel(struct party *p)
{
	uint8_t packet[16];

	put32(packet, 16);
	put32(packet + 4, CANCEL_CODE);
	put32(packet + 8, (uint32_t)(PID_OF_CANCEL + p->talk->number));
	put32(packet + 12, key_of(p->talk->number));
	((struct postgres *)p->state)->login = CANCELS;
	party_say(p, packet, 16);
}

static void
begin(struct party *p)
{
	struct postgres *pg = p->state;
	uint8_t packet[8];

	pg->status = 'I';
	if (p->side != CLIENT)
		return;
	if (rnd_chance(200)) {
		say_cancel(p);
	} else if (p->talk->speech->secrecy[CLIENT] == SECURE_NOT && p->talk->speech->secrecy[BACKEND] == SECURE_NOT && rnd_chance(2000)) {
		pg->login = ASKED_TLS;
		put32(packet, 8);
		put32(packet + 4, SSL_CODE);
		party_say(p, packet, 8);
	} else {
		say_startup(p);
	}
}

static void
say_bind(struct party *p)
{
	const size_t len = some_len();

	memset(scratch, 0, 2);			/* portal, statement: unnamed */
	memcpy(scratch + 2, "\0\0\0\1", 4);
	put32(scratch + 6, (uint32_t)len);
	fill(scratch + 10, len);
	memset(scratch + 10 + len, 0, 2);
	say(p, 'B', scratch, len + 12);
}

static void
say_execute(struct party *p)
{
	say(p, 'E', "\0\0\0\0", 5);
}

/* Parse, Bind, Describe, Execute as drivers send them; often not all of them. */
static void
say_extended(struct party *p, enum work w)
{
	struct postgres *pg = p->state;
	const bool all = w == COPY_IN || w == COPY_OUT || pg->parsed == COPY_IN;	/* that is not executed again by accident */
	size_t n;

	if (all || rnd_chance(8000)) {
		scratch[0] = 0;
		n = 1 + write_statement((char *)scratch + 1, w);
		memset(scratch + n, 0, 2);
		say(p, 'P', scratch, n + 2);
		pg->parsed = (uint8_t)w;
	}
	if (all || rnd_chance(9000))
		say_bind(p);
	if (rnd_chance(3000))
		say(p, 'D', "P", 2);
	if (all || rnd_chance(9000))
		say_execute(p);
	if (!all && rnd_chance(1000))
		say(p, 'C', "S", 2);
}

static void
say_sync(struct party *p)
{
	struct postgres *pg = p->state;

	pg->in_batch = false;
	pg->due++;
	say(p, 'S', "", 0);
}

static enum work
some_work(void)
{
	return (enum work)(rnd_chance(5000) ? SELECT : rnd_below(WORKS));
}

static void
continue_batch(struct party *p)
{
	if (rnd_chance(4000))
		say_sync(p);
	else if (rnd_chance(2000))
		say(p, 'H', "", 0);
	else
		say_extended(p, some_work() == COPY_IN ? SELECT : UPDATE);
}

static void
say_statement(struct party *p)
{
	struct postgres *pg = p->state;
	const enum work w = some_work();

	if (rnd_chance(300)) {
		memset(scratch, 0, 14);
		pg->due++;
		say(p, 'F', scratch, 10);
	} else if (rnd_chance(200)) {
		say_sync(p);		/* alone */
	} else if (rnd_chance(5000)) {
		pg->due++;
		pg->holds = w == COPY_IN;
		pg->extended_copy = false;
		say(p, 'Q', scratch, write_statement((char *)scratch, w));
	} else if (w == TWICE) {
		return;
	} else {
		say_extended(p, w);
		pg->in_batch = true;
		if (w != COPY_IN && rnd_chance(3000))
			return;
		say_sync(p);
		pg->holds = w == COPY_IN;
		pg->extended_copy = true;
	}
}

static void
say_rows(struct party *p)
{
	struct postgres *pg = p->state;

	if (rnd_chance(6000)) {
		const size_t len = some_len();

		fill(scratch, len);
		say(p, 'd', scratch, len);
		return;
	}
	pg->is_copying = false;
	if (rnd_chance(2000))
		say_text(p, 'f', "the client gives up");
	else
		say(p, 'c', "", 0);
	if (pg->extended_copy)
		say(p, 'S', "", 0);	/* the one behind the Execute was read within the COPY, and ignored */
}

static void
end_client(struct party *p)
{
	if (rnd_chance(500)) {
		party_abort(p);
	} else if (rnd_chance(1000)) {
		party_finish(p);
	} else {
		if (rnd_chance(9000))
			say(p, 'X', "", 0);
		party_quit(p);
	}
}

static void
client_act(struct party *p)
{
	struct postgres *pg = p->state;

	if (pg->login != READY || p->says_fin)
		return;
	if (world_us >= p->talk->stops_us && ((pg->due == 0 && !pg->in_batch) || rnd_chance(500))) {
		end_client(p);
		return;
	}
	if (pg->is_copying)
		say_rows(p);
	else if (pg->in_batch && !pg->holds)
		continue_batch(p);
	else if (!pg->holds && pg->due < 6 && world_us < p->talk->stops_us)
		say_statement(p);
	party_think(p, pg->is_copying ? rnd_scale(10, 100 * MS) : client_pause_us());
}

static void
client_login(struct party *p, const uint8_t *m)
{
	struct postgres *pg = p->state;

	if (m[0] == 'Z') {
		pg->login = READY;
		party_think(p, client_pause_us());
	}
	if (m[0] != 'R' || get32(m + 5) == 0 || get32(m + 5) == 12)
		return;
	fill(scratch, 60);
	say(p, 'p', scratch, (size_t)rnd_between(10, 60));
}

static void
note_parameter(struct postgres *pg, const uint8_t *body)
{
	for (int i = 0; i < PARAMETERS; i++)
		if (strcmp((const char *)body, parameters[i]) == 0)
			snprintf(pg->value[i], sizeof(pg->value[i]), "%s", (const char *)body + strlen(parameters[i]) + 1);
}

static void
client_hear(struct party *p, const uint8_t *m, size_t len)
{
	struct postgres *pg = p->state;

	(void)len;
	if (m[0] == 'S')
		note_parameter(pg, m + 5);
	if (pg->login != READY) {
		client_login(p, m);
		return;
	}
	if (strchr("NSA", m[0]) == NULL)
		pg->in_reply = true;
	if (m[0] == 'A' || m[0] == 'V' || (m[0] == 'C' && strcmp((const char *)m + 5, "LISTEN") == 0))
		pg->is_strict = true;
	if (m[0] == 'Z') {
		if (pg->due == 0)
			wrong("exact", "talk %ld: a ReadyForQuery too many", p->talk->number);
		pg->in_reply = pg->in_copy = false;
		if (--pg->due == 0)
			pg->holds = pg->is_copying = false;
	} else if (m[0] == 'H') {
		pg->in_copy = true;
	} else if (m[0] == 'G') {
		pg->in_copy = true;
		pg->is_copying = true;
		party_think(p, rnd_scale(10, SECONDS));
	} else if (m[0] == 'E' && pg->is_copying) {
		pg->is_copying = false;
		if (pg->extended_copy && !p->says_fin)
			say(p, 'S', "", 0);
	}
}

/* --- the server --- */

static void
say_ready(struct party *p)
{
	struct postgres *pg = p->state;

	if (pg->listens && pg->status == 'I' && rnd_chance(1000))
		say(p, 'A', "\0\0\0\1chan\0payload", 17);
	pg->in_batch = pg->skips = false;
	say(p, 'Z', &pg->status, 1);
}

static void
say_parameter(struct party *p, int i)
{
	char body[64];
	const size_t name = strlen(parameters[i]) + 1;

	memcpy(body, parameters[i], name);
	snprintf(body + name, 20, "value%llu", (unsigned long long)rnd_below(1000));
	note_parameter(p->state, (uint8_t *)body);
	say(p, 'S', body, name + strlen(body + name) + 1);
}

static size_t
write_error(uint8_t *body, const char *severity, const char *code)
{
	return (size_t)snprintf((char *)body, 200, "S%s%cV%s%cC%s%cMit is so%c", severity, 0, severity, 0, code, 0, 0) + 1;
}

static void
say_error(struct party *p)
{
	struct postgres *pg = p->state;
	uint8_t body[200];

	memset(body, 0, sizeof(body));
	if (pg->status == 'T')
		pg->status = 'E';
	pg->parsed = FAIL;		/* what is executed without being prepared */
	say(p, 'E', body, write_error(body, "ERROR", "22012"));
}

/* It ends the session: by an administrator, or a timeout of its own. */
static void
end_server(struct party *p, const char *code)
{
	uint8_t body[200];

	memset(body, 0, sizeof(body));
	say(p, 'E', body, write_error(body, "FATAL", code));
	party_quit(p);
}

static void
log_in(struct party *p)
{
	struct postgres *pg = p->state;
	uint8_t key[8];

	if (rnd_chance(200)) {
		end_server(p, "28P01");
		return;
	}
	say(p, 'R', "\0\0\0\0", 4);
	for (int i = 0; i < PARAMETERS; i++)
		say_parameter(p, i);
	put32(key, (uint32_t)(PID_OF_TALK + p->talk->number));
	put32(key + 4, key_of(p->talk->number));
	say(p, 'K', key, 8);
	if (rnd_chance(1000))
		say(p, 'N', "SNOTICE\0VNOTICE\0C00000\0Mhello\0", 31);
	pg->login = READY;
	say_ready(p);
}

static void
server_login(struct party *p, const uint8_t *m)
{
	struct postgres *pg = p->state;

	if (m[0] == 0 && get32(m + 4) == SSL_CODE)
		return;			/* it was answered by then */
	if (m[0] == 0 && get32(m + 4) == CANCEL_CODE) {
		party_quit(p);
		return;
	}
	if (m[0] == 0) {
		pg->login = STARTED;
		pg->method = (char)rnd_below(3);
		if (pg->method == 1)
			say(p, 'R', "\0\0\0\3", 4);
		if (pg->method == 2)
			say(p, 'R', "\0\0\0\12SCRAM-SHA-256\0", 19);
		if (pg->method != 0)
			return;
	} else if (pg->method == 2) {
		pg->method = 3;
		say(p, 'R', "\0\0\0\13r=abc,s=def,i=4096", 23);
		return;
	} else if (pg->method == 3) {
		say(p, 'R', "\0\0\0\14v=abc", 9);
	}
	party_think(p, rnd_scale(10, rnd_chance(500) ? 10 * SECONDS : 10 * MS));
}

static void
finish_work(struct party *p)
{
	static const char *const tags[WORKS] = { "SELECT 1", "UPDATE 1", "", "", "BEGIN", "COMMIT", "COPY 1", "COPY 1", "LISTEN", "SELECT 2" };
	struct postgres *pg = p->state;

	pg->is_running = pg->is_copying = false;
	if (pg->running == COPY_OUT)
		say(p, 'c', "", 0);
	if (pg->running == BEGIN)
		pg->status = 'T';
	if (pg->running == LISTEN)
		pg->listens = true;
	if (pg->running == NOTHING)
		say(p, 'I', "", 0);
	else
		say_text(p, 'C', pg->running == COMMIT && pg->status == 'E' ? "ROLLBACK" : tags[pg->running]);
	if (pg->running == COMMIT)
		pg->status = 'I';
	if (!pg->in_batch)
		say_ready(p);
}

static void
fail_work(struct party *p)
{
	struct postgres *pg = p->state;

	pg->is_running = pg->is_copying = false;
	say_error(p);
	if (pg->in_batch)
		pg->skips = true;
	else
		say_ready(p);
}

static void
say_row(struct party *p)
{
	struct postgres *pg = p->state;
	const size_t len = some_len();

	if (pg->running == COPY_OUT) {
		fill(scratch, len);
		say(p, 'd', scratch, len);
		return;
	}
	memcpy(scratch, "\0\1", 2);
	put32(scratch + 2, (uint32_t)len);
	fill(scratch + 6, len);
	say(p, 'D', scratch, len + 6);
}

static void
start_work(struct party *p, enum work w)
{
	static const char columns[] = "\0\1a\0\0\0\0\0\0\0\0\0\0\31\377\377\377\377\377\377\0";
	struct postgres *pg = p->state;

	pg->is_running = true;
	pg->running = (uint8_t)w;
	pg->rows = 0;
	if (w == FAIL || (pg->status == 'E' && w != COMMIT) || rnd_chance(100)) {
		fail_work(p);
		return;
	}
	if (w == SELECT || w == TWICE || w == COPY_OUT)
		pg->rows = (unsigned)rnd_scale(1, 10) - 1;
	if (w == TWICE)
		say_text(p, 'C', "UPDATE 3");
	if ((w == SELECT || w == TWICE) && !pg->in_batch)
		say(p, 'T', columns, sizeof(columns));
	if (w == COPY_OUT || w == COPY_IN) {
		pg->is_copying = w == COPY_IN;
		pg->heard_rows = false;
		say(p, w == COPY_IN ? 'G' : 'H', "\0\0\0", 3);
	}
}

/* What was heard within a COPY from the client. */
static void
work_on_copy(struct party *p, const struct item *i)
{
	if (strchr("SHh", i->type) != NULL)
		return;			/* ignored */
	if (i->type == 'c')
		finish_work(p);
	else if (i->type == 'f' || rnd_chance(200))
		fail_work(p);
	else if (i->type != 'd')
		wrong("legal", "talk %ld: a message '%c' within a COPY", p->talk->number, i->type);
}

static void
work_on(struct party *p, const struct item *i)
{
	struct postgres *pg = p->state;
	uint8_t ready[6] = { 'Z', 0, 0, 0, 5 };

	if (pg->is_copying) {
		work_on_copy(p, i);
		return;
	}
	if (i->type == 'h') {
		ready[5] = (uint8_t)pg->status;
		party_reply(p, ready, 6);
		return;
	}
	if (i->type == 'S') {
		say_ready(p);
		return;
	}
	if (pg->skips)
		return;
	if (strchr("PBDEC", i->type) != NULL)
		pg->in_batch = true;
	switch (i->type) {
	case 'Q':
		start_work(p, (enum work)i->work);
		break;
	case 'F':
		if (pg->status == 'E') {
			say_error(p);
		} else {
			say(p, 'V', "\0\0\0\1x", 5);
		}
		say_ready(p);
		break;
	case 'P':
		pg->parsed = i->work;
		say(p, '1', "", 0);
		break;
	case 'B':
		say(p, '2', "", 0);
		break;
	case 'D':
		say(p, 'n', "", 0);
		break;
	case 'C':
		say(p, '3', "", 0);
		break;
	case 'E':
		start_work(p, (enum work)pg->parsed);
		break;
	default:
		break;
	}
}

/* Nothing of the client's is under way; a Sync of the client alone looks like one of ours. */
static bool
is_at_rest(const struct postgres *pg)
{
	for (unsigned i = 0; i < pg->n; i++)
		if (pg->backlog[i].type != 'S' && pg->backlog[i].type != 'h')
			return false;
	return !pg->is_running && !pg->in_batch && !pg->skips && !pg->is_copying;
}

static int64_t
server_pause_us(const struct postgres *pg)
{
	return pg->is_running && rnd_chance(200) ? rnd_scale(MS, 5 * MINUTES) : rnd_between(5, 300);
}

static void
at_rest(struct party *p)
{
	struct postgres *pg = p->state;

	if (pg->listens && pg->status == 'I')
		say(p, 'A', "\0\0\0\1chan\0payload", 17);
	else if (rnd_chance(3000))
		say_parameter(p, (int)rnd_below(CHANGING));
	else if (rnd_chance(3000))
		end_server(p, rnd_chance(5000) ? "57P01" : "57P05");
	else
		say(p, 'N', "SNOTICE\0VNOTICE\0C00000\0Mhello\0", 31);
}

static void
server_act(struct party *p)
{
	struct postgres *pg = p->state;
	const unsigned most = (unsigned)rnd_between(1, 8);

	if (pg->login == STARTED) {
		log_in(p);
		return;
	}
	if (!pg->is_running && pg->n == 0)
		at_rest(p);
	for (unsigned i = 0; i < most && p->tcp != NULL; i++) {
		if (pg->is_running && !pg->is_copying) {
			if (pg->rows == 0) {
				if (pg->running == COPY_OUT && rnd_chance(500))
					fail_work(p);
				else
					finish_work(p);
			} else {
				pg->rows--;
				say_row(p);
			}
		} else if (pg->n > 0) {
			const struct item first = pg->backlog[0];

			memmove(pg->backlog, pg->backlog + 1, --pg->n * sizeof(first));
			work_on(p, &first);
		}
	}
	if (p->tcp == NULL)
		return;
	if (pg->n > 0 || (pg->is_running && !pg->is_copying))
		party_think(p, server_pause_us(pg));
	else if (rnd_chance(500))
		party_think(p, rnd_scale(MS, 10 * MINUTES));	/* something happens at rest */
}

static void
put_item(struct party *p, char type, enum work w)
{
	struct postgres *pg = p->state;

	if (pg->n == BACKLOG) {
		wrong("sim", "talk %ld: too much is said at once", p->talk->number);
		return;
	}
	if (pg->n == 0 && (!pg->is_running || pg->is_copying))
		party_think(p, server_pause_us(pg));
	pg->backlog[pg->n++] = (struct item){ type, (uint8_t)w };
}

static void
server_hear(struct party *p, const uint8_t *m, size_t len)
{
	struct postgres *pg = p->state;

	(void)len;
	if (pg->login != READY) {
		server_login(p, m);
		return;
	}
	if (m[0] == 'd')
		pg->heard_rows = true;
	if (m[0] == 'X')
		party_quit(p);
	else
		put_item(p, (char)m[0], m[0] == 'Q' ? work_of((const char *)m + 5) : m[0] == 'P' ? work_of((const char *)m + 6) : NOTHING);
}

/* --- both --- */

/* Whole messages alone; returns the length, 0: more is needed, -1: it is none of this type. */
static long
whole(const uint8_t *bytes, size_t len, char type)
{
	if (bytes[0] != (uint8_t)type)
		return -1;
	if (len < 5 || len < get32(bytes + 1) + 1)
		return 0;
	return (long)get32(bytes + 1) + 1;
}

/* The route of this conversation has the settings for it, and for heartbeats in transactions. */
static bool
while_busy(const struct party *p)
{
	return p->talk->speech == &speech_postgres_busy;
}

static long
client_heartbeat(struct party *p, const uint8_t *bytes, size_t len)
{
	struct postgres *pg = p->state;
	const char *name = (const char *)bytes + 5;
	long n;

	if (pg->login == ASKED_TLS && bytes[0] == 'N') {
		say_startup(p);
		return 1;		/* what the server replied before it knew whom */
	}
	n = whole(bytes, len, 'S');
	if (n <= 0)
		return n;
	for (int i = 0; i < PARAMETERS; i++)
		if (strcmp(name, parameters[i]) == 0 && strcmp(name + strlen(name) + 1, pg->value[i]) == 0) {
			if (pg->login == READY && !(pg->in_reply && !while_busy(p)) && !pg->in_copy && !pg->is_strict)
				return n;
			wrong("legal", "talk %ld: a ParameterStatus %s", p->talk->number, pg->login != READY ? "in the login" :
			    pg->in_reply ? "within a reply" : "for a client that waits for notifications, or calls functions");
		}
	return -1;
}

static long
server_heartbeat(struct party *p, const uint8_t *bytes, size_t len)
{
	struct postgres *pg = p->state;
	long n = while_busy(p) ? whole(bytes, len, 'H') : -1;

	if (n >= 0) {
		if (n == 5 && (pg->login != READY || pg->heard_goodbye || (pg->is_copying && pg->heard_rows)))
			wrong("legal", "talk %ld: a Flush %s", p->talk->number, pg->login != READY ? "in the login" : pg->heard_goodbye ?
			    "after the end" : "in a COPY");
		return n == 5 || n == 0 ? n : -1;
	}
	n = whole(bytes, len, 'S');
	if (n <= 0)
		return n;
	if (n != 5 || pg->login != READY || !is_at_rest(pg) || (pg->status != 'I' && !while_busy(p)) || pg->heard_goodbye) {
		wrong("legal", "talk %ld: a Sync %s", p->talk->number, pg->login != READY ? "in the login" :
		    pg->heard_goodbye ? "after the end" : !is_at_rest(pg) ? "while something is under way" : "in a transaction");
		return -1;
	}
	put_item(p, 'h', NOTHING);
	return n;
}

static long
heartbeat(struct party *p, const uint8_t *bytes, size_t len)
{
	return p->side == CLIENT ? client_heartbeat(p, bytes, len) : server_heartbeat(p, bytes, len);
}

static long
client_goodbye(struct party *p, const uint8_t *bytes, size_t len)
{
	struct postgres *pg = p->state;
	const long n = whole(bytes, len, 'E');

	if (n <= 0)
		return n;
	if (pg->login < STARTED || memmem(bytes, (size_t)n, "VFATAL", 7) == NULL ||
	    (memmem(bytes, (size_t)n, "C08006", 7) == NULL && memmem(bytes, (size_t)n, "C57P0", 5) == NULL))
		return -1;
	return n;
}

static long
server_goodbye(struct party *p, const uint8_t *bytes, size_t len)
{
	struct postgres *pg = p->state;
	const long n = whole(bytes, len, 'X');

	if (pg->login != READY)
		return -1;
	if (n == 5)
		pg->heard_goodbye = true;
	if (n < 0 && pg->is_copying)
		return whole(bytes, len, 'f');
	return n;
}

static long
goodbye(struct party *p, const uint8_t *bytes, size_t len)
{
	return p->side == CLIENT ? client_goodbye(p, bytes, len) : server_goodbye(p, bytes, len);
}

/* A cancel request: a client's own, which is a conversation, or the program's for a client that is gone. */
static long
number_of_cancel(uint32_t pid, uint32_t key)
{
	struct talk *t;

	if (pid >= PID_OF_CANCEL)
		return (long)pid - PID_OF_CANCEL;
	TAILQ_FOREACH(t, &talks, link)
		if ((uint32_t)(PID_OF_TALK + t->number) == pid && strncmp(t->speech->name, "postgres", 8) == 0 && key == key_of(t->number) &&
		    (t->party[CLIENT].harm != UNHARMED || t->party[CLIENT].tcp == NULL || judge_cancels_work()))
			return NUMBER_NO_TALK;
	wrong("legal", "a cancel request for process %u, whose client is not gone", pid);
	return NUMBER_NO_TALK;
}

static long
number(const uint8_t *bytes, size_t len)
{
	const uint8_t *at;

	if (len < 8)
		return -2;
	if (get32(bytes + 4) == SSL_CODE && get32(bytes) == 8) {
		if (len == 8)
			return NUMBER_REFUSED;
		bytes += 8;
		len -= 8;
	}
	if (len < 8 || len < get32(bytes))
		return -2;
	if (get32(bytes + 4) == CANCEL_CODE)
		return number_of_cancel(get32(bytes + 8), get32(bytes + 12));
	at = memmem(bytes, len, "user\0talk", 9);
	return at != NULL ? strtol((const char *)at + 9, NULL, 10) : -1;
}

static bool
is_engaged(const struct party *p)
{
	const struct postgres *pg = p->state;

	return pg->login == READY && pg->status != 'I' && pg->n == 0 && !pg->is_running && !pg->heard_goodbye;
}

const struct speech speech_postgres = { .name = "postgres", .state_size = sizeof(struct postgres), .begin = begin, .hear = { client_hear, server_hear }, .act = { client_act, server_act },
	.heartbeat = heartbeat, .goodbye = goodbye, .is_engaged = is_engaged, .number = number };
const struct speech speech_postgres_busy = { .name = "postgres_busy", .protocol = "postgres",
	.keys = "heartbeat_while_busy = on\nbackend.heartbeat_in_transaction = on\n", .state_size = sizeof(struct postgres), .begin = begin,
	.hear = { client_hear, server_hear }, .act = { client_act, server_act }, .heartbeat = heartbeat, .goodbye = goodbye, .is_engaged = is_engaged, .number = number };
const struct speech speech_postgres_auto = { .name = "postgres_auto", .protocol = "auto", .state_size = sizeof(struct postgres), .begin = begin,
	.hear = { client_hear, server_hear }, .act = { client_act, server_act }, .heartbeat = heartbeat, .goodbye = goodbye, .is_engaged = is_engaged, .number = number };
/* Either side negotiates it, as libpq does. */
const struct speech speech_postgres_tls = { .name = "postgres_tls", .protocol = "postgres", .secrecy = { SECURE_POSTGRES, SECURE_POSTGRES },
	.may_be_plain = true, .state_size = sizeof(struct postgres), .begin = begin, .hear = { client_hear, server_hear }, .act = { client_act, server_act },
	.heartbeat = heartbeat, .goodbye = goodbye, .is_engaged = is_engaged, .number = number };
const struct speech speech_postgres_to_tls = { .name = "postgres_to_tls", .protocol = "postgres", .secrecy = { SECURE_NOT, SECURE_POSTGRES },
	.state_size = sizeof(struct postgres), .begin = begin, .hear = { client_hear, server_hear }, .act = { client_act, server_act },
	.heartbeat = heartbeat, .goodbye = goodbye, .is_engaged = is_engaged, .number = number };
