/*
 * flow_events.c - the events of a flow's sockets.
 *
 * Both sockets are registered once, edge-triggered, for reading and writing:
 * no epoll_ctl follows until the end. An edge sets a flag ("there may be bytes
 * to read"); the pump clears it when the socket is empty. A socket that is not
 * being read (its peer is stalled, or half-closed) still reports a reset
 * by an edge; then its error is fetched.
 */
#include <assert.h>
#include <errno.h>

#include "relay/dial.h"
#include "relay/ending.h"
#include "relay/flow_check.h"
#include "relay/flow_parts.h"
#include "relay/origin.h"
#include "relay/preface.h"
#include "relay/pump.h"
#include "relay/require.h"
#include "relay/retire.h"
#include "relay/shared.h"

void
flow_requeue(struct flow *f)
{
	assert(f->state != FLOW_ENDED);		/* it is freed while it would be on the list */
	if (f->again)
		return;
	f->again = true;
	STAILQ_INSERT_TAIL(&f->relay->again, f, requeue_link);
}

/* Pumps what side `from` sent, if the flow is still open. */
void
flow_run(struct flow *f, enum side from)
{
	if (f->state == FLOW_OPEN && !f->broken)
		flow_apply(f, pump(f, from));
}

/* Ends a flow that is to end, if it can end now. */
void
flow_retire_now(struct flow *f)
{
	if (f->retires && f->state != FLOW_ENDING && f->state != FLOW_ENDED)
		flow_apply(f, retire_check(f, clock_us()));
}

void
flow_work(struct flow *f)
{
	if (f->broken)
		flow_end(f, REASON_INTERNAL);
	else if (f->out_of_memory)
		flow_end(f, REASON_MEMORY);
	else if (f->state == FLOW_ENDING)
		flow_progress_ending(f);
	flow_run(f, CLIENT);
	flow_run(f, BACKEND);
	flow_retire_now(f);
	(void)flow_check_settled(f);
}

static void
event_while_open(struct flow *f, enum side s, short what)
{
	struct leg *l = leg_of(f, s), *to = leg_of(f, side_other(s));

	require_void(f, !l->dead && !to->dead);
	/* TLS may have to read in order to write, and the reverse. */
	if (l->backlog != NULL && ((what & EV_WRITE) || leg_is_tls(l))) {
		flow_apply(f, backlog_drain(f, s));
		l->readable |= leg_is_tls(l) && !l->fin;
		if (l->backlog == NULL)
			flow_run(f, side_other(s));	/* also passes on a FIN that waited */
	}
	/* A leg that is not being read may have got an error. */
	if ((what & EV_READ) && f->state == FLOW_OPEN && (l->fin || to->backlog != NULL)) {
		const int err = transport_take_error(&l->transport);

		if (err != 0)
			flow_apply(f, VERDICT_FAILED(s, err));
	}
	flow_run(f, s);
	flow_retire_now(f);
}

/*
 * A FIN alone does not mean that the client is gone: it may have closed its
 * half and wait for the server to send. But in most protocols a client that
 * has sent nothing gets nothing, and where the protocol is known, one that waits
 * for a backend longer than usual and closes has given up. A UNIX socket shows when
 * both halves are closed.
 */
struct verdict
flow_check_client(struct flow *f, unsigned bits)
{
	struct leg *l = leg_of(f, CLIENT);
	const struct preface *p = flow_preface(f);
	const bool is_unix = leg_peer(f, CLIENT)->family == AF_UNIX, spoke = p != NULL && preface_client_spoke(p);
	const bool speaks = f->route->codec != NULL && f->route->codec->client_speaks && !spoke;
	const int err = (bits & SOCKET_DEAD) ? transport_take_error(&l->transport) : 0;

	require(f, f->state == FLOW_CONNECTING || f->state == FLOW_PREFACE);
	l->urgent |= f->route->urgent && (bits & SOCKET_URGENT);	/* it arrived before the signal was enabled */
	if (err != 0)
		return VERDICT_CONNECT_FAILED(reason_from_errno(CLIENT, err, &l->transport, false));
	if (f->route->codec != NULL && (bits & SOCKET_FIN) && f->state == FLOW_CONNECTING && f->dial != NULL && dial_is_retried(f->dial))
		return VERDICT(CLIENT_ABORT);
	if (((speaks && (bits & SOCKET_FIN)) || (is_unix && (bits & SOCKET_DEAD))) && transport_unread(&l->transport) == 0)
		return VERDICT(CLIENT_ABORT);
	return VERDICT(GO_ON);
}

static void
event_while_connecting(struct flow *f, enum side s, short what)
{
	if (s == BACKEND)
		flow_apply(f, dial_event(f, what & EV_READ));
	else if (what & EV_READ)
		flow_apply(f, flow_check_client(f, transport_look(&leg_of(f, CLIENT)->transport)));
}

static void
on_event(evutil_socket_t fd, short what, void *arg)
{
	struct leg *l = arg;
	struct flow *f = flow_of_leg(l);

	(void)fd;
	assert(l->side == CLIENT || l->side == BACKEND);	/* else f is other memory */
	if (f->broken)
		return;
	if (what & EV_CLOSED)
		l->hup = true;
	if (what & (EV_READ | EV_CLOSED))
		l->readable = true;
	if (f->state == FLOW_OPEN)
		event_while_open(f, l->side, what);
	else if (f->state == FLOW_CONNECTING)
		event_while_connecting(f, l->side, what);
	else if (f->state == FLOW_PREFACE)
		flow_apply(f, preface_event(f, l->side, what));
	else if (f->state == FLOW_ENDING)
		flow_progress_ending(f);
	(void)flow_check_settled(f);
}

/* --- the registration of its sockets --- */

void
flow_init_leg(struct flow *f, enum side s, int fd)
{
	struct leg *l = leg_of(f, s);

	assert(s == CLIENT || s == BACKEND);
	assert(l->backlog == NULL);		/* it would go to the new socket */
	l->side = (uint8_t)s;
	transport_init(&l->transport, fd);
	l->rx_us = l->tx_us = f->began_us;
	event_assign(&l->ev, f->relay->base, fd, EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST, on_event, l);
	f->timer.fire = flow_on_timer;
}

int
flow_register_leg(struct flow *f, enum side s)
{
	assert(transport_is_open(&leg_of(f, s)->transport));
	return event_add(&leg_of(f, s)->ev, NULL) == 0 ? 0 : -ENOMEM;
}
