/*
 * kernel.c - what the program's kernel holds for it tells what the program has overlooked.
 *
 * Bytes that wait to be read while the other side's socket would take them are stuck: an edge was forgotten, or a
 * watch lost. An error that waits to be fetched is one that the program does not know of. And a heartbeat that was
 * sent while other bytes waited to be sent comes late, behind them.
 */
#include "kernel.h"

#include <stdlib.h>
#include <string.h>

#include "fiber.h"
#include "memory.h"

#define OVERLOOKED_US (9 * SECONDS)	/* at two looks, 5 s apart, and some time */

static struct tcp **ends;		/* of the program's machine, by the id of the connection */
static size_t room;

void
kernel_begin(void)
{
	free(ends);
	ends = NULL;
	room = 0;
}

/* Those that the program holds a descriptor of. */
static void
find_ends(void)
{
	struct tcp *e;

	if (ends != NULL)
		memset(ends, 0, room * sizeof(*ends));
	TAILQ_FOREACH(e, &hosts[0].ends, of_host) {
		if (e->user.changed == NULL || e->state == TCP_S_LISTEN)
			continue;
		if (e->id >= room) {
			const size_t wanted = (size_t)e->id + 256;

			ends = realloc(ends, wanted * sizeof(*ends));
			if (ends == NULL)
				abort();
			memset(ends + room, 0, (wanted - room) * sizeof(*ends));
			room = wanted;
		}
		ends[e->id] = e;
	}
}

static struct tcp *
end_toward(const struct party *p)
{
	return p->id > 0 && p->id < room ? ends[p->id] : NULL;
}

static const char *
name_of(const struct party *p)
{
	return p->side == CLIENT ? "client" : "server";
}

/* Since when `is_so` holds, as far as was looked; *since_us: 0: it does not. */
static int64_t
lasts_us(int64_t *since_us, bool is_so)
{
	if (!is_so)
		*since_us = 0;
	else if (*since_us == 0)
		*since_us = world_us;
	return is_so ? world_us - *since_us : 0;
}

static void
check_unread(const struct party *p, struct tcp *from, const struct tcp *to)
{
	const bool can_go_on = to != NULL && from->state == TCP_S_OPEN && to->state == TCP_S_OPEN && to->out.len == 0 && !to->shut_out && !to->fin_out;
	const bool is_so = can_go_on && from->in.len > 0 && from->read == from->seen.read && p->harms == 0 && party_other(p)->harms == 0;

	if (lasts_us(&from->seen.unread_us, is_so) > OVERLOOKED_US) {
		talk_print(p->talk);
		wrong("stuck", "talk %ld (%s): %zu bytes of the %s are not read, and the other side would take them", p->talk->number,
		    p->talk->speech->name, from->in.len, name_of(p));
	}
	from->seen.read = from->read;
}

/* The delivery to a slow survivor may take its time. */
static void
check_error(const struct party *p, struct tcp *from, struct tcp *to)
{
	const bool is_moving = to != NULL && to->una != to->seen.una;

	/* A reset behind a FIN, or a close_notify, that came before the program woke up is seen by the next write. */
	const bool has_ended = from->fin_in || p->has_spoilt;

	if (lasts_us(&from->seen.error_us, from->err != 0 && !has_ended && !is_moving) > OVERLOOKED_US)
		wrong("told", "talk %ld (%s): the connection of the %s has failed (%s), and that was not noticed for %.0f s", p->talk->number,
		    p->talk->speech->name, name_of(p), strerror(from->err), (double)(world_us - from->seen.error_us) / SECONDS);
}

/*
 * TCP_USER_TIMEOUT is off only while bytes wait for a window to open. Without it the death of a peer is noticed a quarter of an
 * hour late.
 */
static void
check_user_timeout(const struct party *p, struct tcp *e)
{
	const bool waits = e->una + e->out.len > e->nxt, has_sent = e->top != e->seen.top;
	const bool is_so = e->state == TCP_S_OPEN && e->user_timeout_ms == 0 && e->seen.had_timeout && !waits && !has_sent && !e->fin_out;

	e->seen.top = e->top;
	e->seen.had_timeout |= e->user_timeout_ms > 0;
	if (lasts_us(&e->seen.untimed_us, is_so) > 2 * OVERLOOKED_US)
		wrong("told", "talk %ld (%s): TCP_USER_TIMEOUT toward the %s is off, though nothing waits to be sent", p->talk->number,
		    p->talk->speech->name, name_of(p));
}

bool
kernel_is_delivering(const struct party *p)
{
	const struct tcp *from, *to;

	find_ends();
	from = end_toward(p);
	to = end_toward(party_other(p));
	return from != NULL && to != NULL && from->state == TCP_S_CLOSED && to->out.len > 0 && to->una != to->seen.una;
}

void
kernel_check(void)
{
	const bool was_stopped = world_us - fibers_stopped_until_us() < 5 * SECONDS;
	struct talk *t;

	find_ends();
	TAILQ_FOREACH(t, &talks, link) {
		struct tcp *e[2] = { end_toward(&t->party[CLIENT]), end_toward(&t->party[BACKEND]) };

		for (int s = CLIENT; s <= BACKEND && what_is_wrong() == NULL; s++) {
			if (e[s] == NULL)
				continue;
			if (was_stopped || t->was_logged)
				e[s]->seen.unread_us = e[s]->seen.error_us = e[s]->seen.untimed_us = 0;
			check_unread(&t->party[s], e[s], e[!s]);
			check_error(&t->party[s], e[s], e[!s]);
			check_user_timeout(&t->party[s], e[s]);
		}
		for (int s = CLIENT; s <= BACKEND; s++)
			if (e[s] != NULL)
				e[s]->seen.una = e[s]->una;
	}
}

/* What waits to be sent to it says that it does not read: then TCP judges. */
void
kernel_judge_missing(const struct party *p)
{
	const struct tcp *e;

	TAILQ_FOREACH(e, &hosts[0].ends, of_host)
		if (e->id == p->id && e->state == TCP_S_OPEN && e->una + e->out.len > e->nxt)
			wrong("honest", "talk %ld (%s): %s, but %zu bytes wait to be sent to the %s", p->talk->number, p->talk->speech->name,
			    p->talk->reason, (size_t)(e->una + e->out.len - e->nxt), name_of(p));
}

/* What a side had sent before it was lost is delivered to the other one, as long as that takes it. */
void
kernel_judge_reset(const struct tcp *e)
{
	const struct talk *t;

	if (e->host != &hosts[0] || e->out.len == 0 || world_us - e->taken_us > SECONDS / 2)
		return;
	TAILQ_FOREACH(t, &talks, link)
		for (int s = CLIENT; s <= BACKEND; s++) {
			const char *lost = s == CLIENT ? "backend-" : "client-";

			if (t->party[s].id != e->id || !t->was_logged || strncmp(t->reason, lost, strlen(lost)) != 0)
				continue;
			if (strstr(t->reason, "-reset") == NULL && strstr(t->reason, "-timeout") == NULL)
				continue;
			if (t->party[!s].said.n == 0)
				continue;	/* all was heard: it is a heartbeat, or a part of a goodbye */
			wrong("exact", "talk %ld (%s): %s, and the %s is reset while it takes %zu bytes that came before", t->number, t->speech->name,
			    t->reason, name_of(&t->party[s]), e->out.len);
		}
}

/*
 * What a side had sent before its reset or its death, and this kernel had received, is passed on: not a byte of it is left
 * unread, unless the other side takes no more. (Of a record of TLS that was cut off, a part is left.)
 */
void
kernel_judge_end(const struct talk *t)
{
	for (int s = CLIENT; s <= BACKEND; s++) {
		const char *lost = s == CLIENT ? "client-" : "backend-";
		const struct party *p = &t->party[s], *o = &t->party[!s];
		const struct tcp *from, *to;

		if (strncmp(t->reason, lost, strlen(lost)) != 0 || (strstr(t->reason, "-reset") == NULL && strstr(t->reason, "-timeout") == NULL))
			continue;
		if (p->secure != NULL || t->speech->secrecy[s] != SECURE_NOT || p->host == NULL || o->host == NULL || o->harms != 0 || memory_has_failed())
			continue;
		find_ends();
		from = end_toward(p);
		to = end_toward(o);
		if (from == NULL || to == NULL || from->in.len == 0 || to->state != TCP_S_OPEN || to->out.len > 0 || to->shut_out || to->fin_out)
			continue;
		wrong("exact", "talk %ld (%s): %s, and %zu bytes that the %s had sent before are not passed on", t->number, t->speech->name,
		    t->reason, from->in.len, name_of(p));
	}
}

void
kernel_judge_heartbeat(const struct party *p, uint64_t at)
{
	const struct tcp *e;

	if (p->secure != NULL)
		return;			/* positions in plain text are others */
	TAILQ_FOREACH(e, &hosts[0].ends, of_host)
		if (e->id == p->id)
			break;
	for (size_t i = 0; e != NULL && i < TCP_SENT && i < e->n_sent; i++) {
		const struct tcp_sent *s = &e->sent[i];

		if (s->from > at || s->to <= at)
			continue;
		if (s->behind > 0 || s->from < at)
			wrong("late", "talk %ld (%s): a heartbeat for the %s was sent behind %zu bytes that were not sent yet", p->talk->number,
			    p->talk->speech->name, name_of(p), s->behind + (size_t)(at - s->from));
		return;
	}
}
