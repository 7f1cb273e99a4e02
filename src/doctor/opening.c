/*
 * opening.c - the options of a measurement, and what a protocol needs before its first heartbeat.
 *
 * The doctor is a client and logs in nowhere. So it has the heartbeats of protocols that allow them without a login:
 * WebSocket after its handshake, Redis, and lines of text (--send). For the others TCP probes are measured alone.
 * MySQL and MariaDB cannot be measured directly at all: they count connections that end before the login.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "doctor/measurement.h"
#include "stent/utf8.h"

#define LISTEN_NOWHERE "unix:@stent-doctor"	/* a route needs a listener; nothing is opened */
#define MYSQL "MySQL and MariaDB count connections that end before the login, and block their client's address after " \
	"max_connect_errors of them (100): measure against another port of that host, such as one of `stent doctor --listen`"

#define UPGRADE "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
	"Sec-WebSocket-Key: c3RlbnQgZG9jdG9yIC4uLg==\r\nSec-WebSocket-Version: 13\r\n\r\n"

static const struct opening {
	const char *protocol;
	const char *request;	/* what the client sends first; NULL: nothing */
	const char *why_none;	/* it has no heartbeats here; NULL: it has */
} openings[] = {
	{ "tcp", NULL, "no protocol is given (--protocol)" },
	{ "websocket", UPGRADE, NULL },
	{ "redis", "*1\r\n$4\r\nPING\r\n", NULL },
	{ "line", NULL, NULL },
	{ "postgres", NULL, "a heartbeat of PostgreSQL is legal only after a login" },
};

void
doctor_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	utf8_print_line("stent doctor: ", fmt, ap, stderr);
	va_end(ap);
}

/* The errors of the settings, without the words of another command before them. */
static void
print_errors(char *text)
{
	static const char prefix[] = "stent relay: ";

	for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
		doctor_error("%s", strncmp(line, prefix, sizeof(prefix) - 1) == 0 ? line + sizeof(prefix) - 1 : line);
}

/* The options as a route to the target: its keys have the parsers, checks and defaults. */
static int
read_route(struct measurement *m, const struct doctor_options *o)
{
	char *words[3] = { NULL }, *errors = NULL;
	size_t n = 0, size = 0;
	FILE *out = open_memstream(&errors, &size);
	int r = out != NULL && asprintf(&words[n++], "--protocol=%s", m->protocol) > 0 ? 0 : -ENOMEM;

	if (r == 0 && o->send != NULL && asprintf(&words[n++], "--heartbeat_send=%s", o->send) < 0)
		r = -ENOMEM;
	if (r == 0 && o->expect != NULL && asprintf(&words[n++], "--heartbeat_expect=%s", o->expect) < 0)
		r = -ENOMEM;
	if (r == 0)
		r = config_from_args(&m->config, LISTEN_NOWHERE, o->target, words, n, out);
	if (out != NULL)
		fclose(out);
	if (r == -ENOMEM)
		doctor_error("out of memory");
	else if (r != 0)
		print_errors(errors);
	free(errors);
	for (size_t i = 0; i < n; i++)
		free(words[i]);
	return r;
}

static const struct opening *
find_opening(const char *protocol)
{
	for (size_t i = 0; i < sizeof(openings) / sizeof(openings[0]); i++)
		if (strcmp(openings[i].protocol, protocol) == 0)
			return &openings[i];
	return NULL;
}

static enum doctor_result
set_protocol(struct measurement *m, const struct doctor_options *o)
{
	const char *protocol = o->protocol != NULL ? o->protocol : o->send != NULL ? "line" : "tcp";
	const struct opening *opening = find_opening(protocol);

	if (strcmp(protocol, "mysql") == 0) {
		doctor_error("--protocol=mysql: " MYSQL);
		return DOCTOR_WRONG;
	}
	if ((o->send != NULL || o->expect != NULL) && strcmp(protocol, "line") != 0) {
		doctor_error("--send and --expect are for --protocol=line; leave them out, or --protocol");
		return DOCTOR_WRONG;
	}
	if (strcmp(protocol, "line") == 0 && o->send == NULL) {
		doctor_error("--protocol=line needs the text of a heartbeat: --send='TEXT'");
		return DOCTOR_WRONG;
	}
	if (o->path != NULL && (strcmp(protocol, "websocket") != 0 || o->path[0] != '/' || strpbrk(o->path, " \r\n\t") != NULL)) {
		doctor_error("--path is for --protocol=websocket, and begins with a slash: --path=/chat");
		return DOCTOR_WRONG;
	}
	snprintf(m->protocol, sizeof(m->protocol), "%s", protocol);
	if (opening == NULL)
		snprintf(m->note, sizeof(m->note), "the doctor has no heartbeats of %s: TCP probes alone are measured", protocol);
	else if (opening->why_none != NULL && o->protocol != NULL && strcmp(protocol, "tcp") != 0)
		snprintf(m->note, sizeof(m->note), "%s: TCP probes alone are measured", opening->why_none);
	return DOCTOR_DONE;
}

/* False: it is too long. */
static bool
write_request(struct measurement *m, const struct doctor_options *o, const char *host, const char *request)
{
	const size_t room = sizeof(m->request);
	const int n = strcmp(m->protocol, "websocket") != 0 ? snprintf(m->request, room, "%s", request) :
	    snprintf(m->request, room, UPGRADE, o->path != NULL ? o->path : "/", host);

	m->course.request = m->request;
	return n > 0 && (size_t)n < room;
}

/* Where to connect to, and what to say there first. */
static enum doctor_result
set_course(struct measurement *m, const struct doctor_options *o)
{
	const struct route *route = &m->config->routes[0];
	const struct endpoint *ep = &route->backend[0];
	const struct opening *opening = find_opening(m->protocol);

	if (route->n_backend != 1 || (ep->kind != ENDPOINT_ADDRESS && ep->kind != ENDPOINT_NAME)) {
		doctor_error("cannot measure \"%s\"; write one HOST:PORT", o->target);
		return DOCTOR_WRONG;
	}
	if (opening == NULL || opening->why_none != NULL)
		return DOCTOR_DONE;
	m->course.codec = route->codec;
	m->course.settings = &route->codec_settings;
	if (opening->request != NULL && !write_request(m, o, ep->text, opening->request)) {
		doctor_error("--path or HOST is too long; a request of at most %zu bytes is sent", sizeof(m->request));
		return DOCTOR_WRONG;
	}
	return DOCTOR_DONE;
}

enum doctor_result
measurement_open(struct measurement *m, const struct doctor_options *o)
{
	static const struct search_settings thorough = { .first_ms = 8000, .max_ms = 20 * 60 * 1000, .tolerance_ms = 1000, .samples = 5,
	    .points = 7 }, quick = { .first_ms = 1000, .max_ms = 2 * 60 * 1000, .tolerance_ms = 1000, .samples = 2, .points = 3 };
	struct search_settings settings = o->quick ? quick : thorough;
	enum doctor_result result;

	m->options = o;
	if (o->max_ms > 0)
		settings.max_ms = o->max_ms;
	if (settings.max_ms < settings.first_ms)
		settings.first_ms = settings.max_ms;
	m->course.interval_s = o->quick ? 1 : 3;
	m->course.connect_ms = 5000;
	m->course.patience_ms = o->quick ? 2500 : 8000;
	result = set_protocol(m, o);
	if (result == DOCTOR_DONE && read_route(m, o) != 0)
		result = DOCTOR_WRONG;
	if (result == DOCTOR_DONE)
		result = set_course(m, o);
	settings.has_heartbeats = m->course.codec != NULL;
	search_open(&m->search, &settings);
	return result;
}

void
measurement_close(struct measurement *m)
{
	config_release(m->config);
}

/* MySQL's greeting: a packet with the number 0 that begins with the protocol's version, 10. */
static bool
is_mysql(const struct fate *fate)
{
	return fate->said_len > 5 && fate->said[2] == 0 && fate->said[3] == 0 && fate->said[4] == 10;
}

/* The first line that the server has said, for an error. */
static const char *
first_line(const struct fate *fate, char buf[SAID_MAX])
{
	snprintf(buf, SAID_MAX, "%.*s", (int)strcspn(fate->said, "\r\n"), fate->said);
	return buf;
}

static void
report_unusable(const struct measurement *m, const struct fate *fate)
{
	char line[SAID_MAX], address[ADDRESS_TEXT_MAX + 4];

	snprintf(address, sizeof(address), "%s", m->address);
	if (fate->stage == STAGE_CONNECTING && fate->error == ETIMEDOUT)
		doctor_error("%s does not answer: no connection within 5 s; is its port open to this machine?", address);
	else if (fate->stage == STAGE_CONNECTING)
		doctor_error("%s: %s; is a server listening there?", address, strerror(fate->error));
	else if (fate->outcome == OUTCOME_SILENT)
		doctor_error("%s accepts a connection and does not answer %s on it; %s", address, m->course.codec != NULL ? "a heartbeat" :
		    "a TCP probe", m->course.codec != NULL ? "does it speak this protocol?" : "give a protocol (--protocol)");
	else if (fate->stage == STAGE_OPENING && m->course.request != NULL)
		doctor_error("%s does not accept the beginning of %s (%s\"%s\"); choose --protocol as the server has it, or leave it out%s", address,
		    m->protocol, fate->said_len > 0 ? "it says " : "it closed, or says nothing: ", first_line(fate, line),
		    strcmp(m->protocol, "websocket") == 0 ? ", and --path" : "");
	else
		doctor_error("%s closes a connection at once (after %.1f s): measure against a port whose server keeps idle clients, "
		    "such as one of `stent doctor --listen` on that host", address, (double)fate->lived_ms / 1000);
}

enum doctor_result
measurement_judge_first(struct measurement *m, const struct fate *fate)
{
	if (is_mysql(fate)) {
		doctor_error("%s is a MySQL or MariaDB server. " MYSQL, m->address);
		return DOCTOR_FAILED;
	}
	if (fate->outcome != OUTCOME_SURVIVED) {
		report_unusable(m, fate);
		return DOCTOR_FAILED;
	}
	m->course.needs_reply = fate->is_replied;
	m->round_trip_us = fate->round_trip_us;
	return DOCTOR_DONE;
}
