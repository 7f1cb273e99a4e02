/*
 * health.c - checks of the backends, on the main thread: one check for all
 * workers. What they find is kept with the backends (relay/backend_checks.c).
 *
 * Each backend has a timer. When it fires, the backend's name is looked up if its
 * addresses have aged, and a check of each address begins: a connection, and by
 * HTTP a request of which only the status line is read. That is too little for
 * libevent's evhttp, which would resolve names and parse headers by itself.
 * New settings begin all checks anew; what is known stays.
 */
#include "worker/health.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#include "stent/clock.h"
#include "stent/log.h"
#include "stent/proxy_header.h"
#include "stent/resolve.h"
#include "stent/socket.h"

#define ADDRESSES_MAX 64	/* of a backend that are checked */
#define LINE_MAX 64		/* of a status line that are looked at */
#define REQUEST_MAX 640

struct watched {
	struct health *health;
	const struct route *route;
	size_t backend;			/* of the route */
	struct event timer;
	struct lookup *lookup;		/* under way; NULL: none */
	int64_t delay_ms;		/* until the next check: longer while its name is not found */
};

struct check {
	TAILQ_ENTRY(check) link;
	struct watched *of;
	struct address address;		/* of the backend; HTTP may go to another port */
	struct event ev;
	struct address local;		/* our end; family 0: a UNIX socket */
	int fd;
	bool greeted;			/* it got a PROXY header, which a reset would discard */
	int64_t began_us;
	size_t len;
	char line[LINE_MAX + 1];
};

struct health {
	struct event_base *base;
	struct relay_shared *shared;
	struct resolver *resolver;
	const struct config *config;	/* held */
	void (*close_flows)(void *arg, const struct route *route, size_t backend, const struct address *address);
	void *arg;
	struct watched *list;
	size_t n;
	TAILQ_HEAD(, check) running;
	int wake_fd;			/* a flow has found an address that is not checked yet */
	struct event wake;
	uint32_t random;
};

/* 0.9 to 1.1 times so long. */
static void
set_timer(struct watched *w, int64_t ms)
{
	uint32_t *x = &w->health->random;
	int64_t us;

	*x = *x * UINT32_C(1664525) + UINT32_C(1013904223);
	us = ms * 900 + (int64_t)(*x >> 8) % (ms * 200 + 1);
	(void)event_add(&w->timer, &(struct timeval){ .tv_sec = us / US_PER_S, .tv_usec = us % US_PER_S });
}

static void
free_check(struct check *c)
{
	event_del(&c->ev);
	if (c->greeted)
		close(c->fd);
	else
		socket_reset(c->fd);
	TAILQ_REMOVE(&c->of->health->running, c, link);
	free(c);
}

static void
tell(struct watched *w, const struct address *a, bool passed, int64_t took_us, const char *text)
{
	const struct backend_check found = {
		.passed = passed, .took_us = took_us, .text = text, .rise = w->route->health_rise, .fall = w->route->health_fall,
	};

	if (relay_backend_checked(w->health->shared, w->route, w->backend, a, &found) && w->route->on_unhealthy == ON_UNHEALTHY_CLOSE)
		w->health->close_flows(w->health->arg, w->route, w->backend, a);
}

static void
done(struct check *c, bool passed, const char *text)
{
	struct watched *w = c->of;
	const struct address a = c->address;
	const int64_t took_us = clock_us() - c->began_us;

	free_check(c);
	tell(w, &a, passed, took_us, text);
}

/* --- HTTP --- */

static struct timeval
time_left(const struct check *c)
{
	int64_t us = c->began_us + c->of->route->health_timeout_ms * US_PER_MS - clock_us();

	us = us > 0 ? us : 1;
	return (struct timeval){ .tv_sec = us / US_PER_S, .tv_usec = us % US_PER_S };
}

/* Each time for what is left: a server that sends a byte now and then gets no more. */
static void
await_reply(struct check *c)
{
	const struct timeval left = time_left(c);

	if (event_add(&c->ev, &left) != 0)
		free_check(c);		/* no memory: nothing is known */
}

/* True: the status line is complete, or there can be none. */
static bool
take_status(struct check *c)
{
	char text[32];
	unsigned status;

	if (c->len < LINE_MAX && memchr(c->line, '\n', c->len) == NULL)
		return false;
	c->line[c->len] = '\0';
	if (sscanf(c->line, "HTTP/1.%*1[01] %3u", &status) != 1) {
		done(c, false, "no HTTP response");
		return true;
	}
	snprintf(text, sizeof(text), "HTTP %u", status);
	done(c, status >= 200 && status < 400, text);
	return true;
}

static void
on_reply(evutil_socket_t fd, short what, void *arg)
{
	struct check *c = arg;
	ssize_t n;

	if (what & EV_TIMEOUT) {
		done(c, false, "no response in time");
		return;
	}
	n = recv(fd, c->line + c->len, LINE_MAX - c->len, 0);
	if (n < 0 && errno == EAGAIN) {
		await_reply(c);
		return;
	}
	if (n <= 0) {
		done(c, false, n == 0 ? "closed without a response" : strerror(errno));
		return;
	}
	c->len += (size_t)n;
	if (!take_status(c))
		await_reply(c);
}

static void
write_host(const struct check *c, char *text, size_t size)
{
	const struct endpoint *ep = &c->of->route->backend[c->of->backend];
	struct address a = c->address;

	if (c->of->route->health.port != 0)
		a.port = c->of->route->health.port;
	if (ep->kind == ENDPOINT_NAME)
		snprintf(text, size, "%s:%u", ep->host, (unsigned)a.port);
	else
		address_text(&a, text);
}

static void
request(struct check *c)
{
	char host[300], text[REQUEST_MAX];
	int n;

	write_host(c, host, sizeof(host));
	n = snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: stent/" STENT_VERSION "\r\nConnection: close\r\n\r\n",
	    c->of->route->health.path, host);
	if (n >= REQUEST_MAX || send(c->fd, text, (size_t)n, MSG_NOSIGNAL) != n) {
		done(c, false, "the request could not be sent");
		return;
	}
	event_assign(&c->ev, c->of->health->base, c->fd, EV_READ, on_reply, c);
	await_reply(c);
}

/* --- a check --- */

/* A backend that expects a PROXY header gets one that says that this is a check; what is behind another port does not. */
static bool
greet(struct check *c)
{
	const struct route *r = c->of->route;
	uint8_t buf[PROXY_HEADER_OUT_MAX];
	size_t n;

	if (r->send_proxy == 0 || r->health.port != 0)
		return true;
	n = proxy_header_write_own(buf, (int)r->send_proxy, &c->local, &c->address);
	c->greeted = send(c->fd, buf, n, MSG_NOSIGNAL) == (ssize_t)n;
	return c->greeted;
}

static void
on_connected(evutil_socket_t fd, short what, void *arg)
{
	struct check *c = arg;
	const int err = (what & EV_TIMEOUT) ? ETIMEDOUT : socket_error(fd);

	if (what & EV_TIMEOUT)
		done(c, false, "no answer in time");
	else if (err != 0)
		done(c, false, strerror(err));
	else if (!greet(c))
		done(c, false, "the PROXY header could not be sent");
	else if (c->of->route->health.kind == HEALTH_HTTP)
		request(c);
	else
		done(c, true, "accepted");
}

static bool
is_running(const struct watched *w, const struct address *a)
{
	const struct check *c;

	TAILQ_FOREACH(c, &w->health->running, link)
		if (c->of == w && memcmp(&c->address, a, sizeof(*a)) == 0)
			return true;
	return false;
}

static socklen_t
to_sockaddr(const struct watched *w, const struct address *a, struct sockaddr_storage *ret)
{
	const struct endpoint *ep = &w->route->backend[w->backend];
	const in_port_t port = htons(w->route->health.port != 0 ? w->route->health.port : a->port);
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
	struct sockaddr_in *in = (struct sockaddr_in *)ret;

	if (ep->kind != ENDPOINT_NAME) {	/* with its scope, or its path */
		*ret = ep->addr;
		if (a->family == AF_UNIX)
			return ep->addr_len;
	} else {
		*ret = (struct sockaddr_storage){ .ss_family = a->family };
		if (a->family == AF_INET6)
			memcpy(&in6->sin6_addr, a->ip, sizeof(in6->sin6_addr));
		else
			memcpy(&in->sin_addr, a->ip, sizeof(in->sin_addr));
	}
	if (ret->ss_family == AF_INET6)
		in6->sin6_port = port;
	else
		in->sin_port = port;
	return ret->ss_family == AF_INET6 ? sizeof(*in6) : sizeof(*in);
}

static void
start(struct watched *w, const struct address *a)
{
	const int64_t ms = w->route->health_timeout_ms;
	struct sockaddr_storage to;
	const socklen_t len = to_sockaddr(w, a, &to);
	struct address local;
	const int fd = socket_connect((struct sockaddr *)&to, len, 0, &local);
	struct check *c;

	if (fd < 0) {
		if (fd != -EMFILE && fd != -ENFILE && fd != -ENOMEM && fd != -EADDRNOTAVAIL)	/* our own lack */
			tell(w, a, false, 0, strerror(-fd));
		return;
	}
	c = calloc(1, sizeof(*c));
	if (c == NULL) {
		socket_reset(fd);
		return;
	}
	c->of = w;
	c->address = *a;
	c->fd = fd;
	c->local = local;
	c->began_us = clock_us();
	TAILQ_INSERT_TAIL(&w->health->running, c, link);
	event_assign(&c->ev, w->health->base, fd, EV_WRITE, on_connected, c);
	if (event_add(&c->ev, &(struct timeval){ .tv_sec = ms / 1000, .tv_usec = ms % 1000 * US_PER_MS }) != 0)
		free_check(c);
}

/* --- a backend --- */

static void
check_all(struct watched *w, const struct address *found, size_t n)
{
	struct address list[ADDRESSES_MAX];
	const size_t k = relay_backend_addresses(w->health->shared, w->route, w->backend, found, n, list, ADDRESSES_MAX);

	for (size_t i = 0; i < k; i++)
		if (!is_running(w, &list[i]))
			start(w, &list[i]);
}

static void
check_found(struct watched *w, const struct host_addresses *h)
{
	struct address found[ADDRESSES_MAX];
	size_t n = 0;

	for (size_t i = 0; i < h->n && n < ADDRESSES_MAX; i++) {
		found[n] = address_from_sockaddr((const struct sockaddr *)&h->at[i]);
		found[n++].port = w->route->backend[w->backend].port;
	}
	check_all(w, found, n);
}

static void
on_looked_up(void *arg, const struct host_addresses *h)
{
	struct watched *w = arg;

	w->lookup = NULL;
	if (h != NULL) {
		check_found(w, h);
		return;
	}
	check_all(w, NULL, 0);
	tell(w, NULL, false, 0, "its name was not found");
	if (w->delay_ms < w->route->dns_ttl_ms)		/* each failed lookup is logged */
		w->delay_ms = w->route->dns_ttl_ms;
	set_timer(w, w->delay_ms);
}

static void
on_time(evutil_socket_t fd, short what, void *arg)
{
	struct watched *w = arg;
	struct resolver *r = w->health->resolver;
	const struct endpoint *ep = &w->route->backend[w->backend];
	const struct host_addresses *known;
	struct address a;

	(void)fd;
	(void)what;
	w->delay_ms = w->route->health_interval_ms;
	set_timer(w, w->delay_ms);
	if (ep->kind != ENDPOINT_NAME) {
		a = address_from_sockaddr((const struct sockaddr *)&ep->addr);
		check_all(w, &a, 1);
		return;
	}
	known = resolver_known(r, ep->host, w->route->dns_ttl_ms);
	if (known != NULL)
		check_found(w, known);
	else if (w->lookup == NULL)
		w->lookup = resolver_lookup(r, ep->host, on_looked_up, w);
}

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct health *h = arg;
	uint64_t n;

	(void)what;
	if (read(fd, &n, sizeof(n)) < 0)
		return;
	for (size_t i = 0; i < h->n; i++)
		on_time(-1, 0, &h->list[i]);
}

/* --- all --- */

static void
stop_all(struct health *h)
{
	while (!TAILQ_EMPTY(&h->running))
		free_check(TAILQ_FIRST(&h->running));
	for (size_t i = 0; i < h->n; i++) {
		event_del(&h->list[i].timer);
		if (h->list[i].lookup != NULL)
			lookup_cancel(h->list[i].lookup);
	}
	free(h->list);
	h->list = NULL;
	h->n = 0;
	config_release(h->config);
	h->config = NULL;
}

int
health_adopt(struct health *h, const struct config *config)
{
	size_t n = 0;

	stop_all(h);
	for (size_t i = 0; i < config->n_routes; i++)
		n += config->routes[i].health.kind != HEALTH_OFF ? config->routes[i].n_backend : 0;
	if (n == 0)
		return 0;
	h->list = calloc(n, sizeof(*h->list));
	if (h->list == NULL)
		return -ENOMEM;
	h->config = config_hold(config);
	for (size_t i = 0; i < config->n_routes; i++)
		for (size_t b = 0; b < config->routes[i].n_backend && config->routes[i].health.kind != HEALTH_OFF; b++) {
			struct watched *w = &h->list[h->n++];

			*w = (struct watched){ .health = h, .route = &config->routes[i], .backend = b };
			event_assign(&w->timer, h->base, -1, 0, on_time, w);
			on_time(-1, 0, w);
		}
	return 0;
}

int
health_start(struct health **ret, struct event_base *base, struct relay_shared *shared, const struct config *config,
    void (*close_flows)(void *arg, const struct route *route, size_t backend, const struct address *address), void *arg)
{
	struct health *h = calloc(1, sizeof(*h));
	int r = -ENOMEM;

	if (h == NULL)
		return r;
	h->base = base;
	h->shared = shared;
	h->close_flows = close_flows;
	h->arg = arg;
	h->random = (uint32_t)clock_us();
	TAILQ_INIT(&h->running);
	h->resolver = resolver_new(base);
	h->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	event_assign(&h->wake, base, h->wake_fd, EV_READ | EV_PERSIST, on_wake, h);
	if (h->resolver != NULL && h->wake_fd >= 0 && event_add(&h->wake, NULL) == 0) {
		relay_shared_checks_fd(shared, h->wake_fd);
		r = health_adopt(h, config);
	}
	if (r == 0)
		*ret = h;
	else
		health_free(h);
	return r;
}

void
health_free(struct health *h)
{
	if (h == NULL)
		return;
	relay_shared_checks_fd(h->shared, -1);
	stop_all(h);
	resolver_free(h->resolver);
	event_del(&h->wake);
	if (h->wake_fd >= 0)
		close(h->wake_fd);
	free(h);
}
