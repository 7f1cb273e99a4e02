/*
 * acceptor.c - accepts connections, and gives each to the worker with the
 * fewest flows (as flows may live for days, their number is what counts).
 *
 * It runs on the first worker's thread: a flow that stays there is not passed
 * between threads, which would be a third of the cost of a short connection.
 * With one worker that is every flow.
 *
 * Without a free descriptor, accepting pauses and is tried again ten times a
 * second. Open flows continue, accepted clients get their backend (spare.h),
 * and one line is logged until the queue is empty. Above max_flows a client is
 * reset at once, unless another flow can go (capacity.c).
 */
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stent/clock.h"
#include "stent/log.h"
#include "stent/socket.h"
#include "stent/spare.h"
#include "stent/user.h"
#include "worker/listener.h"

#define ACCEPTS_A_ROUND 64
#define PAUSE_MS 100

static void
set_accepting(struct acceptor *a, bool on)
{
	a->is_accepting = on;
	for (size_t i = 0; i < a->n_listeners; i++)
		listener_accept_on(a->listeners[i], on);
}

bool
acceptor_resume_later(struct acceptor *a)
{
	return event_add(a->resume, &(struct timeval){ .tv_usec = PAUSE_MS * US_PER_MS }) == 0;
}

/* Without a timer that ends it there is no pause: it is then tried again at once. */
static void
pause_accepting(struct acceptor *a, int err)
{
	if (!a->out_of_descriptors)
		log_say(LEVEL_ERROR, "cannot accept: %s; new clients wait until a flow ends, open flows continue "
		    "(raise the limit on descriptors, or set max_flows)", strerror(err));
	a->out_of_descriptors = true;
	if (acceptor_resume_later(a))
		set_accepting(a, false);
}

/* The queue of new clients is empty. */
static void
resumed(struct acceptor *a)
{
	if (a->out_of_descriptors)
		log_say(LEVEL_INFO, "accepting again");
	a->out_of_descriptors = false;
}

static void
on_resume(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	set_accepting(arg, true);
}

/* There is no room for a client that was admitted. */
static void
refuse(struct listener *l, int fd, const struct address *client, enum admission admitted, enum admission cause)
{
	struct acceptor *a = l->acceptor;
	const int64_t now_us = clock_us();

	if (l->route->accept_proxy == ACCEPT_PROXY_OFF)
		admission_undo(a->shared, l->route, client, admitted);
	worker_refuse(a->workers[0], fd, l->route, client, cause);
	if (cause != ADMISSION_MAX_FLOWS)
		return;
	a->refused++;
	if (now_us - a->limit_warned_us < US_PER_S)
		return;
	a->limit_warned_us = now_us;
	log_say(LEVEL_WARN, "max_flows = %d reached: new clients are reset (%llu since the start)", a->max_flows,
	    (unsigned long long)a->refused);
}

static struct worker *
with_fewest_flows(const struct acceptor *a)
{
	struct worker *best = a->workers[0];

	for (size_t i = 1; i < a->n_workers; i++)
		if (worker_flows(a->workers[i]) < worker_flows(best))
			best = a->workers[i];
	return best;
}

/* Gives a client to a worker. full: there is no room for it, and why. */
static void
hand_over(struct listener *l, int fd, const struct address *client, enum admission full)
{
	struct acceptor *a = l->acceptor;
	/* Behind a balancer the client's address is known later. */
	const enum admission admitted = l->route->accept_proxy != ACCEPT_PROXY_OFF ? ADMITTED : admission_enter(a->shared, l->route, client);
	struct worker *best;

	if (admission_is_refused(admitted)) {
		worker_refuse(a->workers[0], fd, l->route, client, admitted);
		return;
	}
	if (admission_is_refused(full)) {
		refuse(l, fd, client, admitted, full);
		return;
	}
	capacity_take(a, l->route);
	best = with_fewest_flows(a);
	if (best == a->workers[0])
		worker_open(best, fd, l->route, client, admitted);
	else if (worker_give(best, fd, l->route, client, admitted) != 0)
		refuse(l, fd, client, admitted, ADMISSION_MEMORY);
}

static bool
is_passing_error(int err)
{
	/* accept(2) also reports errors of the new connection, which is gone then. */
	return err == ECONNABORTED || err == EINTR || err == EPROTO || err == ENETDOWN || err == ENOPROTOOPT ||
	    err == EHOSTDOWN || err == ENONET || err == EHOSTUNREACH || err == EOPNOTSUPP || err == ENETUNREACH;
}

/* The options of the client leg come from the listener, as it was when the kernel accepted the client. */
static void
update_options(const struct listener *l, int fd, const struct address *client)
{
	if (!l->has_older)
		return;
	if (client->family != AF_UNIX)
		(void)socket_change_keepalive(fd, &l->route->leg[CLIENT].keepalive);
	socket_take_urgent(fd, l->route->urgent, false);
}

void
acceptor_on_event(evutil_socket_t fd, short what, void *arg)
{
	struct listener *l = arg;
	struct acceptor *a = l->acceptor;

	(void)what;
	for (int i = 0; i < ACCEPTS_A_ROUND; i++) {
		struct address client;
		enum admission full;
		int r;

		if (!capacity_look(a, l->route, &full))
			return;
		r = spare_fill();

		assert(r <= 0);		/* 0 or -errno: the client's address is set whenever r is a descriptor */
		if (r == 0)
			r = socket_accept(fd, &client);
		if (r == -EAGAIN) {
			l->has_older = false;
			resumed(a);
			return;
		}
		if (r < 0 && is_passing_error(-r))
			continue;
		if (r < 0) {
			pause_accepting(a, -r);
			return;
		}
		update_options(l, r, &client);
		hand_over(l, r, &client, full);
	}
}

static bool
is_listening_on(const struct acceptor *a, int fd)
{
	for (size_t i = 0; i < a->n_listeners; i++)
		if (a->listeners[i]->fd == fd)
			return true;
	return false;
}

/* Warns about sockets from systemd that no route uses: their clients would wait forever. */
void
acceptor_warn_of_unclaimed(const struct acceptor *a)
{
	char name[SYSTEMD_NAME_MAX];
	int fd;

	for (int i = 0; (fd = socket_from_systemd(i, name)) >= 0; i++)
		if (!is_listening_on(a, fd))
			log_say(LEVEL_WARN, "systemd passed a socket that no route listens on; its clients will hang: "
			    "write listen = fd:%s, or remove it from the socket unit", name);
}

/* In a burst, clients beyond the limit try again after a second, or time out. */
static void
warn_of_backlog(const struct acceptor *a)
{
	const int limit = socket_backlog_limit();
	bool is_ours = false;

	for (size_t i = 0; i < a->n_listeners; i++)
		is_ours |= a->listeners[i]->endpoint->kind != ENDPOINT_FD;	/* systemd sets its own Backlog= */
	if (is_ours && limit >= 0 && limit < SOCKET_BACKLOG)
		log_say(LEVEL_WARN, "net.core.somaxconn = %d limits how many clients can wait to be accepted; in a burst "
		    "others are delayed by a second or fail. Set it to %d (sysctl, or --sysctl of a container)", limit,
		    SOCKET_BACKLOG);
}

int
acceptor_open(struct acceptor **ret, const struct config *c)
{
	struct acceptor *a = calloc(1, sizeof(*a));
	struct listener_list list = { NULL };
	int r = 0;

	if (a == NULL)
		return -ENOMEM;
	a->access.is_given = user_is_to_change(c->user, &a->access.uid, &a->access.gid);
	for (size_t i = 0; i < c->n_routes && r == 0; i++)
		for (size_t k = 0; k < c->routes[i].n_listen && r == 0; k++)
			r = listener_add(&list, a, &c->routes[i], &c->routes[i].listen[k], NULL);
	a->listeners = list.all;
	a->n_listeners = list.n;
	if (r != 0) {
		acceptor_free(a);
		return r;
	}
	acceptor_warn_of_unclaimed(a);
	warn_of_backlog(a);
	*ret = a;
	return 0;
}

/* A request of the main thread, carried out on the first worker's. */
struct order {
	struct acceptor *acceptor;
	int result;
};

static void
start(struct worker *w, void *arg)
{
	struct order *o = arg;
	struct acceptor *a = o->acceptor;

	a->resume = evtimer_new(worker_base(w), on_resume, a);
	o->result = a->resume != NULL ? 0 : -ENOMEM;
	a->is_accepting = true;
	for (size_t i = 0; i < a->n_listeners && o->result == 0; i++)
		o->result = listener_start(a->listeners[i], worker_base(w));
}

static void
stop(struct worker *w, void *arg)
{
	struct acceptor *a = ((struct order *)arg)->acceptor;

	(void)w;
	if (a->resume != NULL)
		event_free(a->resume);
	a->resume = NULL;
	for (size_t i = 0; i < a->n_listeners; i++) {
		struct listener *l = a->listeners[i];

		if (l->ev != NULL)
			event_free(l->ev);
		l->ev = NULL;
		/* A socket from systemd is shared with the next process: it must keep listening. */
		if (l->endpoint->kind != ENDPOINT_FD)
			(void)shutdown(l->fd, SHUT_RDWR);
	}
}

int
acceptor_start(struct acceptor *a, struct worker **workers, size_t n, struct relay_shared *shared, const struct config *config, int max_flows)
{
	struct order o = { .acceptor = a };

	a->workers = workers;
	a->n_workers = n;
	a->shared = shared;
	a->max_flows = max_flows;
	a->evicts = config->when_full == WHEN_FULL_EVICT;
	worker_call(workers[0], start, &o);
	return o.result;
}

void
acceptor_stop(struct acceptor *a)
{
	struct order o = { .acceptor = a };

	if (a->n_workers > 0)
		worker_call(a->workers[0], stop, &o);
	a->n_workers = 0;
}

void
acceptor_free(struct acceptor *a)
{
	if (a == NULL)
		return;
	for (size_t i = 0; i < a->n_listeners; i++)
		listener_free(a->listeners[i]);
	free(a->listeners);
	free(a);
}
