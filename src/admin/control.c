/*
 * control.c - the control socket: a UNIX stream socket that only its owner may
 * open. A client sends one line, gets one line of JSON and EOF:
 *
 *	status				counters, routes and their settings
 *	flows [limit=N] [sort=KEY] [FILTER...]	a list
 *	kill ID | FILTER...		ends flows with the reason admin-kill
 *	log LEVEL			from now on
 *	reload [dry-run]		reads the settings again, or says what that would change
 *	pause [for=MS] ROUTE		new clients of a route wait
 *	resume ROUTE
 *	drain [now]			as SIGTERM does; now: without waiting for flows
 *	health				{"healthy": true}, or false and why
 *	ready				{"ready": true}, or false and why
 *	events [route=R] [kind=K,...]	events, a line each, until the client closes
 *
 * Errors are {"error": "..."}.
 *
 * A socket file left by a stent that died is replaced; whether it is dead is
 * found out by connecting to it (unix_file_bind()).
 */
#include "admin/control.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "admin/census.h"
#include "admin/control_settings.h"
#include "admin/listing.h"
#include "admin/ready.h"
#include "admin/serve.h"
#include "admin/status.h"
#include "admin/stream.h"
#include "admin/view.h"
#include "stent/counters.h"
#include "stent/endpoint.h"
#include "stent/folder.h"
#include "stent/log.h"
#include "stent/server.h"
#include "stent/unix_file.h"

#define MAX_WORDS 16

struct control {
	struct server *server;
	struct stream *events;
	struct census *census;
	char events_why[STREAM_WHY_MAX];	/* the last request for events was refused */
	struct serve *serve;
	struct event *drain;	/* runs after the response was sent */
	bool drain_now;
	char *path;
	struct unix_file file;
};

/* --- the commands; words[0] is the command, the list ends in NULL --- */

static json_t *
error_json(const char *what)
{
	json_t *text = json_string(what);

	return json_pack("{s:o}", "error", text != NULL ? text : json_string("the request is not UTF-8"));
}

static json_t *
do_status(struct control *c, char *const words[])
{
	(void)words;
	return status_json(c->server, c->census);
}

/* value: NULL, or what followed the = of the word. */
static json_t *
wrong_word(const char *word, const char *value, const char *takes)
{
	char text[512];

	snprintf(text, sizeof(text), "\"%.128s%s%.128s\" is unknown or has a wrong value; write some of %s", word, value != NULL ? "=" : "",
	    value != NULL ? value : "", takes);
	return error_json(text);
}

static json_t *
do_flows(struct control *c, char *const words[])
{
	struct flow_query q = FLOW_QUERY_DEFAULT;

	for (size_t i = 1; words[i] != NULL; i++) {
		char *value = strchr(words[i], '=');

		if (value != NULL)
			*value++ = '\0';
		if (value == NULL || flow_query_read(&q, words[i], value) < 0)
			return wrong_word(words[i], value, "limit=N, sort=age|new|bytes|idle|rtt|heartbeats|protection|route, " FILTER_NAMES);
	}
	return listing_json(c->server, &q);
}

struct kill {
	uint64_t id;			/* 0: by the filter */
	struct flow_filter filter;
	uint64_t n;
};

static void
kill_there(struct worker *w, void *arg)
{
	struct kill *k = arg;

	k->n += worker_kill(w, k->id, REASON_ADMIN_KILL);
}

/* On the worker's thread. */
static void
kill_matching(struct flow_info *info, void *arg)
{
	struct kill *k = arg;

	if (flow_filter_matches(&k->filter, info) && flow_info_kill(info, REASON_ADMIN_KILL))
		k->n++;
}

/* NULL, or what is wrong with the words. */
static json_t *
read_kill(struct kill *k, char *const words[])
{
	static const char takes[] = "kill takes the id of a flow, or " FILTER_NAMES;
	char *end;

	if (words[1] == NULL)
		return error_json(takes);
	if (words[1][0] >= '0' && words[1][0] <= '9') {
		errno = 0;
		k->id = strtoull(words[1], &end, 10);
		return errno == 0 && *end == '\0' && words[2] == NULL ? NULL : error_json(takes);
	}
	for (size_t i = 1; words[i] != NULL; i++) {
		char *value = strchr(words[i], '=');

		if (value != NULL)
			*value++ = '\0';
		if (value == NULL || !flow_filter_read(&k->filter, words[i], value))
			return wrong_word(words[i], value, FILTER_NAMES);
	}
	return NULL;
}

static json_t *
do_kill(struct control *c, char *const words[])
{
	struct kill k = { 0 };
	const bool is_id = words[1] != NULL && words[1][0] >= '0' && words[1][0] <= '9';
	json_t *wrong = read_kill(&k, words);
	char text[64];

	if (wrong != NULL)
		return wrong;
	for (size_t i = 0; i < server_workers(c->server) && (!is_id || k.n == 0); i++)
		if (is_id)
			worker_call(server_worker(c->server, i), kill_there, &k);
		else
			worker_each_flow(server_worker(c->server, i), kill_matching, &k);
	if (!is_id)
		return json_pack("{s:I}", "flows", (json_int_t)k.n);
	if (k.n > 0)
		return json_pack("{s:I, s:I}", "flows", (json_int_t)1, "killed", (json_int_t)k.id);
	snprintf(text, sizeof(text), "no flow with id %" PRIu64, k.id);
	return error_json(text);
}

static json_t *
do_log(struct control *c, char *const words[])
{
	static const char *const levels[] = {
		[LEVEL_ERROR] = "error", [LEVEL_WARN] = "warn", [LEVEL_INFO] = "info", [LEVEL_DEBUG] = "debug",
	};

	(void)c;
	for (size_t i = 0; words[1] != NULL && i < sizeof(levels) / sizeof(levels[0]); i++)
		if (strcmp(words[1], levels[i]) == 0) {
			log_set_level((enum log_level)i);
			return json_pack("{s:s}", "log_level", levels[i]);
		}
	return error_json("log takes error, warn, info or debug");
}

static void
on_drain(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;

	(void)fd;
	(void)what;
	if (!server_is_draining(c->server))
		server_drain(c->server);
	if (c->drain_now)
		server_drain(c->server);
}

static json_t *
do_drain(struct control *c, char *const words[])
{
	struct relay_counters sum;

	if (words[1] != NULL && strcmp(words[1], "now") != 0)
		return error_json("drain takes no argument, or now");
	c->drain_now = words[1] != NULL;
	event_active(c->drain, EV_TIMEOUT, 0);
	view_sum(c->server, &sum);
	return json_pack("{s:b, s:I, s:f}", "draining", 1, "flows_open", (json_int_t)sum.flows_open,
	    "drain_timeout_seconds",
	    c->drain_now ? 0.0 : (double)server_config(c->server)->drain_timeout_ms / 1000);
}

static json_t *
do_health(struct control *c, char *const words[])
{
	(void)words;
	if (server_is_draining(c->server))
		return json_pack("{s:b, s:s}", "healthy", 0, "why", "draining");
	return json_pack("{s:b}", "healthy", 1);
}

static json_t *
do_ready(struct control *c, char *const words[])
{
	char why[READY_WHY_MAX];

	(void)words;
	if (ready_is(c->server, why))
		return json_pack("{s:b}", "ready", 1);
	return json_pack("{s:b, s:o}", "ready", 0, "why", view_text(why));
}

/* Only when take() did not: says why not. */
static json_t *
do_events(struct control *c, char *const words[])
{
	(void)words;
	return error_json(c->events_why);
}

static json_t *
do_reload(struct control *c, char *const words[])
{
	return control_reload(c->server, words);
}

static json_t *
do_pause(struct control *c, char *const words[])
{
	return control_pause(c->server, words);
}

static json_t *
do_resume(struct control *c, char *const words[])
{
	return control_resume(c->server, words);
}

static const struct command {
	const char *name;
	int most_words;		/* after it */
	json_t *(*run)(struct control *c, char *const words[]);
} commands[] = {
	{ "status", 0, do_status },
	{ "flows", 8, do_flows },
	{ "kill", 6, do_kill },
	{ "reload", 1, do_reload },
	{ "pause", MAX_WORDS, do_pause },
	{ "resume", MAX_WORDS, do_resume },
	{ "drain", 1, do_drain },
	{ "health", 0, do_health },
	{ "ready", 0, do_ready },
	{ "log", 1, do_log },
	{ "events", 2, do_events },
};

static json_t *
run(struct control *c, char *request)
{
	char *words[MAX_WORDS + 1] = { NULL }, *save = NULL;
	char text[128];
	int n = 0;

	for (char *w = strtok_r(request, " \t\r\n", &save); w != NULL; w = strtok_r(NULL, " \t\r\n", &save)) {
		if (n == MAX_WORDS)
			return error_json("too many arguments");
		words[n++] = w;
	}
	if (n == 0)
		return error_json("empty request");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(words[0], commands[i].name) != 0)
			continue;
		if (n - 1 > commands[i].most_words)
			return error_json("too many arguments");
		return commands[i].run(c, words);
	}
	snprintf(text, sizeof(text), "unknown command \"%.40s\"", words[0]);
	return error_json(text);
}

/* --- the protocol --- */

static size_t
measure(const char *data, size_t len)
{
	const char *end = memchr(data, '\n', len);

	return end == NULL ? 0 : (size_t)(end - data) + 1;
}

static bool
take(void *arg, const char *request, int fd)
{
	struct control *c = arg;
	const size_t word = strcspn(request, " \t\r\n");

	return word == 6 && strncmp(request, "events", 6) == 0 && stream_add_reader(c->events, request, fd, c->events_why) == 0;
}

static void
on_request(void *arg, char *request, struct evbuffer *out)
{
	json_t *j = request == NULL ? error_json("the request is too long") : run(arg, request);

	if (view_write(out, j) < 0)
		evbuffer_add_printf(out, "{\"error\":\"out of memory\"}\n");
}

static const struct serve_protocol protocol = {
	.max_request = 512, .request_ms = 2000, .response_ms = 10000, .measure = measure, .take = take,
	.respond = on_request,
};

/* --- the socket --- */

/* Makes the directory of the socket, one level only: if more is missing, the path is likely wrong. */
static void
make_folder(const char *path)
{
	char folder[PATH_MAX], name[NAME_MAX + 1];
	const char *slash = strrchr(path, '/');
	int above;

	if (slash == NULL || slash == path || (size_t)(slash - path) >= sizeof(folder))
		return;
	memcpy(folder, path, (size_t)(slash - path));
	folder[slash - path] = '\0';
	above = folder_open(folder, FOLDER_NO_LINK, name);
	if (above < 0)
		return;
	(void)mkdirat(above, name, 0755);	/* bind() has the error */
	close(above);
}

/* Returns a descriptor, or -errno and why. */
static int
open_socket(const char *path, const char **why)
{
	struct endpoint ep = { .kind = ENDPOINT_UNIX, .addr_len = sizeof(struct sockaddr_un) };
	struct sockaddr_un *sun = (struct sockaddr_un *)&ep.addr;

	*why = NULL;
	if (strlen(path) >= sizeof(sun->sun_path))
		return -ENAMETOOLONG;
	sun->sun_family = AF_UNIX;
	memcpy(sun->sun_path, path, strlen(path) + 1);
	make_folder(path);
	return serve_listen(&ep, why);
}

int
control_start(struct control **ret, struct server *s, struct stream *events, struct event_base *base,
    const char *path, const char **why)
{
	struct control *c = calloc(1, sizeof(*c));
	int r, fd;

	*why = NULL;
	if (c == NULL)
		return -ENOMEM;
	c->server = s;
	c->events = events;
	fd = open_socket(path, why);
	if (fd < 0) {
		free(c);
		return fd;
	}
	r = -ENOMEM;
	unix_file_remember(&c->file, path);
	c->path = strdup(path);
	c->drain = event_new(base, -1, 0, on_drain, c);
	c->census = census_new();
	if (c->path != NULL && c->drain != NULL && c->census != NULL)
		r = serve_start(&c->serve, base, fd, &protocol, c);
	if (r < 0) {
		close(fd);
		control_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void
control_free(struct control *c)
{
	if (c == NULL)
		return;
	if (c->path != NULL)
		unix_file_remove(&c->file, c->path);
	serve_free(c->serve);
	if (c->drain != NULL)
		event_free(c->drain);
	census_free(c->census);
	free(c->path);
	free(c);
}
