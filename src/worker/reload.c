/*
 * reload.c - new settings for a stent that runs.
 *
 * On the main thread, while the workers relay: the file is read, what is new is
 * opened (listeners, the log), and only then is anything changed. Each worker
 * moves its open flows by itself, in slices. A reload that comes meanwhile waits
 * for nothing: flows that were not moved yet go to the newest settings at once.
 */
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "stent/confined.h"
#include "stent/events.h"
#include "stent/log.h"
#include "worker/running.h"

/* All that is opened, before anything changes. */
struct reload {
	struct config *next;
	struct relisten *listeners;
	struct log_change *log;
	const struct server_follower *follower;	/* it has prepared itself */
	void *follower_arg;
};

static int
read_again(const struct server *s, struct config **ret, FILE *errors)
{
	const char *path = s->config->path;
	int r;

	if (server_is_draining(s)) {
		fputs("stent is stopping: the settings are not read again\n", errors);
		return -ESHUTDOWN;
	}
	if (path == NULL) {
		fputs("this stent was started by `stent relay`: there is no settings file to read again\n", errors);
		return -ENOENT;
	}
	r = config_read(ret, s->config->is_environment ? NULL : path, errors);
	if (r == -EACCES)
		fprintf(errors, "stent runs as user %u now, which must be able to read its settings and the directories above them\n",
		    (unsigned)geteuid());
	return r;
}

static void
abandon(struct reload *r)
{
	if (r->listeners != NULL)
		relisten_abandon(r->listeners);
	log_abandon(r->log);
	if (r->follower != NULL)
		r->follower->abandon(r->follower_arg);
	config_release(r->next);
}

static void
report_log(const struct log_settings *log, int err, FILE *errors)
{
	const char *const why = log->path != NULL && err == EACCES ? confined_error(err, log->path, W_OK) : log_open_hint(err);

	fprintf(errors, "log: %s cannot be opened: %s; stent runs as user %u now\n", log->path != NULL ? log->path : "syslog", why,
	    (unsigned)geteuid());
}

/* Opens what is new. 0, or -errno: the errors have been written. */
static int
prepare(struct server *s, struct reload *r, FILE *errors)
{
	const struct log_settings *log = &r->next->log;
	int result = config_keep(r->next, s->config);

	if (result == 0 && capability_check_reload(s->config, r->next, errors) != 0)
		return -EPERM;
	if (result == 0)
		result = relay_shared_adopt(s->shared, r->next);
	if (result == -ENOSPC)
		fputs("too many names of routes since the start: a restart is needed\n", errors);
	else if (result == 0) {
		result = relisten_prepare(&r->listeners, s->acceptor, r->next, pause_is_on, s, errors);
		if (result == -ENOMEM)
			fputs("not enough memory for the listeners\n", errors);
	} else {
		fputs("not enough memory for the settings\n", errors);
	}
	if (result == 0 && s->follower != NULL) {
		result = s->follower->prepare(s->follower_arg, r->next, errors);
		r->follower = result == 0 ? s->follower : NULL;
		r->follower_arg = s->follower_arg;
	}
	if (result != 0)
		return result;
	result = log_prepare(&r->log, log);
	if (result != 0)
		report_log(log, -result, errors);
	return result;
}

static void
adopt_there(struct worker *w, void *arg)
{
	worker_adopt(w, arg);
}

/* Nothing here can fail, but for the memory of a list. */
static int
commit(struct server *s, struct reload *r, FILE *errors)
{
	const struct config *before = s->config;
	const int max_flows = server_find_max_flows(r->next, s->descriptors);

	s->config = r->next;
	relay_shared_use(s->shared, r->next);
	/* Workers first: a flow that one of them is given must not have newer settings than itself. */
	for (size_t i = 0; i < s->n_workers; i++)
		worker_call(s->workers[i], adopt_there, r->next);
	if (relisten_commit(r->listeners, max_flows) != 0) {
		s->config = before;
		relay_shared_use(s->shared, before);
		for (size_t i = 0; i < s->n_workers; i++)
			worker_call(s->workers[i], adopt_there, (void *)(uintptr_t)before);
		fputs("not enough memory for the listeners\n", errors);
		return -ENOMEM;
	}
	r->listeners = NULL;
	s->max_flows = max_flows;
	relay_shared_limit_waiting(s->shared, (unsigned)(max_flows + 1) / 2);
	log_commit(r->log);
	r->log = NULL;
	if (r->follower != NULL)
		r->follower->commit(r->follower_arg);
	r->follower = NULL;
	r->next = NULL;
	if (health_adopt(s->health, s->config) != 0)
		log_say(LEVEL_ERROR, "not enough memory to check backends: they stay as they are known");
	pause_forget_removed(s);
	config_release(before);
	return 0;
}

static void
log_change_of(const struct config_change *c, void *arg)
{
	const bool is_of_route = c->route != NULL;
	size_t *n = arg;

	++*n;
	if (c->key == NULL)
		log_say(LEVEL_INFO, "reload: route %s is %s", c->route, c->from == NULL ? "new" : "removed; its open flows continue");
	else
		log_say(LEVEL_INFO, "reload: %s%s%s%s = %s (was %s)%s", is_of_route ? "route " : "", is_of_route ? c->route : "",
		    is_of_route ? ": " : "", c->key, c->to != NULL ? c->to : "not set", c->from != NULL ? c->from : "not set",
		    c->needs_restart ? ": needs a restart, unchanged until then" : "");
}

static void
note_result(struct server *s, int result)
{
	if (events_want(EVENT_RELOAD))
		events_say(EVENT_RELOAD, &LOG_TEXT("result", result == 0 ? "ok" : "failed"), 1);
	s->load.failed = result != 0;
	s->load.reloads++;
	if (result == 0)
		s->load.at = time(NULL);
	else
		s->load.failed_at = time(NULL);
}

/* Reads, opens and uses the settings. */
static int
reload(struct server *s, FILE *errors, void (*visit)(const struct config_change *change, void *arg), void *arg)
{
	struct reload r = { NULL };
	size_t changes = 0;
	int result = read_again(s, &r.next, errors);

	if (result == 0)
		result = visit != NULL ? config_compare(s->config, r.next, visit, arg) : 0;
	if (result == 0)
		result = config_compare(s->config, r.next, log_change_of, &changes);
	if (result == 0)
		result = prepare(s, &r, errors);
	if (result == 0)
		result = commit(s, &r, errors);
	if (result == 0 && quit_watch(s) != 0)
		log_say(LEVEL_ERROR, "out of memory: quit_when_idle has no effect");
	if (result == 0) {
		for (size_t i = 0; i < s->config->n_warnings; i++)
			log_say(LEVEL_WARN, "%s", s->config->warnings[i]);
		log_say(LEVEL_INFO, "settings reloaded from %s: %zu change%s", s->config->path, changes, changes == 1 ? "" : "s");
	}
	abandon(&r);
	return result;
}

int
server_reload(struct server *s, FILE *errors, void (*visit)(const struct config_change *change, void *arg), void *arg)
{
	int result;

	state_reloading();
	result = reload(s, errors, visit, arg);
	note_result(s, result);
	if (result != 0)
		log_say(LEVEL_ERROR, "reload failed: nothing has changed");
	if (server_is_draining(s))
		state_stopping(s);
	else
		state_ready(s);
	return result;
}

int
server_reload_dry(struct server *s, FILE *errors, void (*visit)(const struct config_change *change, void *arg), void *arg)
{
	struct config *next = NULL;
	int r = read_again(s, &next, errors);

	if (r == 0)
		r = config_compare(s->config, next, visit, arg);
	config_release(next);
	return r;
}

bool
server_is_adopting(const struct server *s)
{
	for (size_t i = 0; i < s->n_workers; i++)
		if (worker_is_adopting(s->workers[i]))
			return true;
	return false;
}

const struct server_load *
server_last_load(const struct server *s)
{
	return &s->load;
}

void
server_follow(struct server *s, const struct server_follower *f, void *arg)
{
	s->follower = f;
	s->follower_arg = arg;
}
