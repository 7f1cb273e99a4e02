/*
 * worker.c - a thread with an event_base and a relay of its own.
 *
 * Other threads reach it in two ways, both by a mutex and an eventfd that wakes
 * the loop: they give it sockets (in an array that it takes as a whole),
 * or have it make a call on its thread. Neither is on the data path.
 */
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "stent/clock.h"
#include "stent/evict.h"
#include "stent/log.h"
#include "stent/socket.h"
#include "stent/urgent.h"
#include "stent/worker.h"

#define DELAY_EVERY_US (100 * US_PER_MS)
#define WATCHED_US (120 * US_PER_S)

struct given {
	int fd;
	const struct route *route;	/* held through its settings */
	struct address client;
	enum admission admitted;
};

struct call {
	void (*fn)(struct worker *w, void *arg);
	void *arg;
	bool done;
};

struct worker {
	int index;
	pthread_t thread;
	struct event_base *base;
	struct relay *relay;
	struct relay_shared *shared;
	struct relay_counters **counters;	/* see counters_new() */
	size_t slots;
	struct histogram delay;		/* of the loop */
	struct event delay_timer;
	int64_t delay_due_us;		/* when that should fire */
	int64_t watched_us;		/* when the delay was last asked for; atomic */
	bool stopping;			/* only used by the thread: it has seen stop */
	int flows;			/* given and not yet ended; atomic */
	bool adopting;			/* relay_is_adopting(); atomic */
	bool asked;			/* by worker_ask(), and not answered yet; atomic */

	int wake_fd;
	struct event wake;
	pthread_mutex_t lock;		/* for all below */
	pthread_cond_t call_done;
	struct given *given;
	size_t n_given, room_given;
	struct call *call;
	bool stop;			/* requested */
};

static void
wake(struct worker *w)
{
	const uint64_t one = 1;

	while (write(w->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void
take_given(struct worker *w)
{
	struct given *list;
	size_t n;

	pthread_mutex_lock(&w->lock);
	list = w->given;
	n = w->n_given;
	w->given = NULL;
	w->n_given = w->room_given = 0;
	w->stopping = w->stop;
	pthread_mutex_unlock(&w->lock);
	for (size_t i = 0; i < n; i++) {
		relay_open(w->relay, list[i].fd, list[i].route, &list[i].client, list[i].admitted);
		config_release(list[i].route->config);
	}
	free(list);
}

static void
run_call(struct worker *w)
{
	struct call *c;

	pthread_mutex_lock(&w->lock);
	c = w->call;
	w->call = NULL;
	pthread_mutex_unlock(&w->lock);
	if (c == NULL)
		return;
	c->fn(w, c->arg);
	pthread_mutex_lock(&w->lock);
	c->done = true;
	pthread_cond_broadcast(&w->call_done);
	pthread_mutex_unlock(&w->lock);
}

static void
arm_delay(struct worker *w, int64_t now_us)
{
	w->delay_due_us = now_us + DELAY_EVERY_US;
	(void)event_add(&w->delay_timer, &(struct timeval){ .tv_usec = DELAY_EVERY_US });
}

static bool
is_watched(const struct worker *w, int64_t now_us)
{
	const int64_t watched_us = __atomic_load_n(&w->watched_us, __ATOMIC_RELAXED);

	return watched_us != 0 && now_us - watched_us < WATCHED_US;
}

static void
on_delay(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	const int64_t now_us = clock_us();

	(void)fd;
	(void)what;
	histogram_add(&w->delay, now_us > w->delay_due_us ? now_us - w->delay_due_us : 0);
	if (is_watched(w, now_us))
		arm_delay(w, now_us);
}

static void
watch_delay(struct worker *w)
{
	const int64_t now_us = clock_us();

	if (is_watched(w, now_us) && !event_pending(&w->delay_timer, EV_TIMEOUT, NULL))
		arm_delay(w, now_us);
}

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	uint64_t n;

	(void)what;
	if (read(fd, &n, sizeof(n)) < 0)
		return;
	__atomic_store_n(&w->asked, false, __ATOMIC_RELAXED);
	take_given(w);
	run_call(w);
	watch_delay(w);
	relay_watch(w->relay);
	relay_make_room(w->relay);
}

static void
on_flow_end(void *arg, unsigned slot)
{
	struct worker *w = arg;

	relay_shared_count(w->shared, slot, -1);
	__atomic_sub_fetch(&w->flows, 1, __ATOMIC_RELAXED);
}

static void *
run(void *arg)
{
	struct worker *w = arg;
	char name[16];

	snprintf(name, sizeof(name), "stent-%d", w->index);
	pthread_setname_np(pthread_self(), name);
	urgent_attend();
	while (!w->stopping || relay_has_flows(w->relay)) {
		event_base_loop(w->base, EVLOOP_ONCE | (relay_has_work(w->relay) ? EVLOOP_NONBLOCK : 0));
		relay_work(w->relay);
		if (w->adopting && !relay_is_adopting(w->relay))
			__atomic_store_n(&w->adopting, false, __ATOMIC_RELAXED);
		if (w->stopping)
			relay_kill_all(w->relay, REASON_DRAIN);
	}
	relay_free(w->relay);
	w->relay = NULL;
	return NULL;
}

static void
free_worker(struct worker *w)
{
	relay_free(w->relay);
	if (w->base != NULL) {
		if (event_initialized(&w->wake))
			event_del(&w->wake);
		if (event_initialized(&w->delay_timer))
			event_del(&w->delay_timer);
		event_base_free(w->base);
	}
	if (w->wake_fd >= 0)
		close(w->wake_fd);
	for (size_t i = 0; i < w->n_given; i++) {
		socket_reset(w->given[i].fd);
		config_release(w->given[i].route->config);
	}
	free(w->given);
	counters_free(w->counters, w->slots);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->call_done);
	free(w);
}

/* A base without locks: only its own thread uses it. */
static struct event_base *
new_base(void)
{
	struct event_config *cfg = event_config_new();
	struct event_base *base = NULL;

	if (cfg == NULL)
		return NULL;
	/* Not EPOLL_USE_CHANGELIST: with it event_add() succeeds even if epoll_ctl() fails later, and the flow hangs. */
	event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
	event_config_require_features(cfg, EV_FEATURE_ET | EV_FEATURE_EARLY_CLOSE);
	base = event_base_new_with_config(cfg);
	event_config_free(cfg);
	return base;
}

/* Signals are handled by the main thread. */
static int
start_thread(struct worker *w)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = -pthread_create(&w->thread, NULL, run, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

int
worker_start(struct worker **ret, const struct config *config, struct relay_shared *shared, int index)
{
	struct worker *w = calloc(1, sizeof(*w));
	int r = -ENOMEM;

	if (w == NULL)
		return -ENOMEM;
	w->index = index;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->call_done, NULL);
	w->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (w->wake_fd < 0) {
		r = -errno;
		goto fail;
	}
	w->base = new_base();
	w->shared = shared;
	w->slots = relay_shared_room(shared);
	w->counters = counters_new(w->slots);
	if (w->base == NULL || w->counters == NULL)
		goto fail;
	event_assign(&w->delay_timer, w->base, -1, 0, on_delay, w);
	event_assign(&w->wake, w->base, w->wake_fd, EV_READ | EV_PERSIST, on_wake, w);
	w->relay = relay_new(w->base, config, shared, w->counters, index, on_flow_end, w);
	if (w->relay == NULL || event_add(&w->wake, NULL) != 0)
		goto fail;
	r = start_thread(w);
	if (r != 0)
		goto fail;
	*ret = w;
	return 0;
fail:
	free_worker(w);
	return r;
}

int
worker_give(struct worker *w, int fd, const struct route *route, const struct address *client, enum admission admitted)
{
	bool first, kept = true;

	__atomic_add_fetch(&w->flows, 1, __ATOMIC_RELAXED);
	relay_shared_count(w->shared, route->slot, 1);
	pthread_mutex_lock(&w->lock);
	first = w->n_given == 0;
	if (w->n_given == w->room_given) {
		const size_t room = w->room_given == 0 ? 16 : w->room_given * 2;
		struct given *list = realloc(w->given, room * sizeof(*list));

		kept = list != NULL;
		if (kept) {
			w->given = list;
			w->room_given = room;
		}
	}
	if (kept) {
		config_hold(route->config);
		w->given[w->n_given++] = (struct given){ fd, route, *client, admitted };
	}
	pthread_mutex_unlock(&w->lock);
	if (!kept) {
		on_flow_end(w, route->slot);
		return -ENOMEM;
	}
	if (first)
		wake(w);
	return 0;
}

void
worker_open(struct worker *w, int fd, const struct route *route, const struct address *client, enum admission admitted)
{
	__atomic_add_fetch(&w->flows, 1, __ATOMIC_RELAXED);
	relay_shared_count(w->shared, route->slot, 1);
	relay_open(w->relay, fd, route, client, admitted);
}

void
worker_refuse(struct worker *w, int fd, const struct route *route, const struct address *client,
    enum admission cause)
{
	relay_refuse(w->relay, fd, route, client, cause);
}

struct event_base *
worker_base(struct worker *w)
{
	return w->base;
}

int
worker_flows(const struct worker *w)
{
	return __atomic_load_n(&w->flows, __ATOMIC_RELAXED);
}

void
worker_read_stats(const struct worker *w, size_t slot, struct relay_counters *ret)
{
	counters_read(w->counters, slot, ret);
}

void
worker_read_delay(struct worker *w, struct histogram *ret)
{
	const int64_t now_us = clock_us(), before_us = __atomic_exchange_n(&w->watched_us, now_us, __ATOMIC_RELAXED);

	for (size_t i = 0; i <= HISTOGRAM_BUCKETS; i++)
		ret->bucket[i] = __atomic_load_n(&w->delay.bucket[i], __ATOMIC_RELAXED);
	ret->sum_us = __atomic_load_n(&w->delay.sum_us, __ATOMIC_RELAXED);
	if (before_us == 0 || now_us - before_us > WATCHED_US / 2)
		wake(w);
}

void
worker_call(struct worker *w, void (*fn)(struct worker *w, void *arg), void *arg)
{
	struct call c = { fn, arg, false };

	pthread_mutex_lock(&w->lock);
	assert(w->call == NULL);	/* one caller at a time: the main thread */
	w->call = &c;
	wake(w);
	while (!c.done)
		pthread_cond_wait(&w->call_done, &w->lock);
	pthread_mutex_unlock(&w->lock);
}

void
worker_watch(struct worker *w)
{
	wake(w);
}

void
worker_make_room(struct worker *w, bool is_own)
{
	if (is_own)
		relay_make_room(w->relay);
	else
		wake(w);
}

struct listing {
	void (*visit)(struct flow_info *info, void *arg);
	void *arg;
	bool restart, more;
};

static void
list_slice(struct worker *w, void *arg)
{
	struct listing *l = arg;

	l->more = relay_list_flows(w->relay, l->restart, l->visit, l->arg);
	l->restart = false;
}

void
worker_each_flow(struct worker *w, void (*visit)(struct flow_info *info, void *arg), void *arg)
{
	struct listing l = { .visit = visit, .arg = arg, .restart = true };

	do
		worker_call(w, list_slice, &l);
	while (l.more);
}

void
worker_ask(struct worker *w)
{
	__atomic_store_n(&w->asked, true, __ATOMIC_RELAXED);
	wake(w);
}

bool
worker_has_answered(const struct worker *w)
{
	return !__atomic_load_n(&w->asked, __ATOMIC_RELAXED);
}

void
worker_adopt(struct worker *w, const struct config *config)
{
	relay_adopt(w->relay, config);
	__atomic_store_n(&w->adopting, relay_is_adopting(w->relay), __ATOMIC_RELAXED);
}

bool
worker_is_adopting(const struct worker *w)
{
	return __atomic_load_n(&w->adopting, __ATOMIC_RELAXED);
}

bool
worker_kill(struct worker *w, uint64_t id, enum close_reason reason)
{
	return relay_kill(w->relay, id, reason);
}

size_t
worker_kill_backend(struct worker *w, const struct route *route, size_t backend, const struct address *address)
{
	return relay_kill_backend(w->relay, route, backend, address);
}

size_t
worker_kill_all(struct worker *w, enum close_reason reason)
{
	return relay_kill_all(w->relay, reason);
}

void
worker_drain(struct worker *w, const struct drain_times *when)
{
	relay_drain(w->relay, when);
}

void
worker_end(struct worker *w)
{
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_mutex_unlock(&w->lock);
	wake(w);
}

void
worker_stop(struct worker *w)
{
	worker_end(w);
	pthread_join(w->thread, NULL);
	free_worker(w);
}
