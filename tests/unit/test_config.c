/*
 * test_config.c - tests of the settings: what a file means.
 *
 * The protocols here are the test's own: a table of rows, each with another
 * set of heartbeats, instead of the real one. How errors are printed is tested
 * at the program (tests/e2e/test_settings.py).
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/keys.h"
#include "config/make.h"
#include "config/profiles.h"
#include "stent/config.h"

#define ANY (HEARTBEAT_ONEWAY | HEARTBEAT_PING | HEARTBEAT_EARLY)

static const struct codec codecs[] = {
	{ .name = "auto", .traits = CODEC_MAY_BE_ANY, .leg = { { ANY, HEARTBEAT_ONEWAY, 30000 }, { ANY, HEARTBEAT_ONEWAY, 30000 } } },
	{ .name = "line", .traits = CODEC_TAKES_TEXTS, .leg = { { HEARTBEAT_ONEWAY | HEARTBEAT_PING, 0, 25000 }, { HEARTBEAT_ONEWAY | HEARTBEAT_PING, 0, 25000 } } },
	{ .name = "both", .leg = { { HEARTBEAT_ONEWAY, HEARTBEAT_ONEWAY, 40000 }, { HEARTBEAT_ONEWAY | HEARTBEAT_PING, HEARTBEAT_PING, 50000 } } },
	{ .name = "server", .leg = { { 0, 0, 0 }, { HEARTBEAT_ONEWAY | HEARTBEAT_PING, HEARTBEAT_ONEWAY, 60000 } } },
	{ .name = "http", .traits = CODEC_HAS_COMMENTS },
	{ .name = "demand", .leg = { { HEARTBEAT_EARLY, 0, 0 }, { HEARTBEAT_ONEWAY, HEARTBEAT_ONEWAY, 60000 } } },
};

const struct codec *
codec_at(size_t i)
{
	return i < sizeof(codecs) / sizeof(codecs[0]) ? &codecs[i] : NULL;
}

const struct codec *
codec_find(const char *name)
{
	for (size_t i = 0; codec_at(i) != NULL; i++)
		if (strcmp(codec_at(i)->name, name) == 0)
			return codec_at(i);
	return NULL;
}

/* --- reading a text as a file --- */

static char path[] = "/tmp/stent-test-config-XXXXXX";
static char *told;		/* the errors of the last read_text() */

static struct config *
read_bytes(const char *text, size_t len)
{
	FILE *file = fopen(path, "w"), *errors;
	struct config *c = NULL;
	size_t n;
	int r;

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
	free(told);
	errors = open_memstream(&told, &n);
	r = config_read(&c, path, errors);
	fclose(errors);
	assert_int_equal(r == 0, c != NULL);
	assert_int_equal(r == 0, n == 0);
	return c;
}

static struct config *
read_text(const char *text)
{
	return read_bytes(text, strlen(text));
}

/* One route, `r`, with these lines. */
static struct config *
read_route(const char *lines)
{
	char text[8192];

	snprintf(text, sizeof(text), "[route r]\nlisten = :80\nbackend = db:80\n%s", lines);
	return read_text(text);
}

static struct config *
good_route(const char *lines)
{
	struct config *c = read_route(lines);

	if (c == NULL)
		fail_msg("%s", told);
	return c;
}

/* The one error that a route's lines have, without its FILE. */
static const char *
route_error(const char *lines)
{
	struct config *c = read_route(lines);
	char *end;

	assert_null(c);
	assert_int_equal(strncmp(told, path, strlen(path)), 0);
	end = strchr(told, '\n');
	if (end[1] != '\0')
		fail_msg("more than one error:\n%s", told);
	*end = '\0';
	return told + strlen(path) + 1;
}

static void
assert_error(const char *lines, const char *expected)
{
	const char *error = route_error(lines);

	if (strcmp(error, expected) != 0)
		fail_msg("lines:\n%s\nerror:    %s\nexpected: %s", lines, error, expected);
}

/* --- the table --- */

static void
test_every_default_is_good(void **state)
{
	(void)state;
	for (const struct key *k = keys; k->name != NULL; k++) {
		static struct errors errors;
		const struct spot spot = { .errors = &errors, .name = k->name };

		if (k->def != NULL)
			assert_int_equal(value_check(k, k->def, &spot), 0);
		assert_int_equal(errors.n, 0);
		assert_true(strlen(k->help) > 10 && k->help[strlen(k->help) - 1] != '.');
		assert_true(k->legs == 0 || k->scope == SCOPE_LEG);
	}
}

static void
test_every_key_is_found_by_its_name(void **state)
{
	char buf[KEY_NAME_MAX];
	int side;

	(void)state;
	for (const struct key *k = keys; k->name != NULL; k++) {
		assert_ptr_equal(key_read(k->name, k->scope, &side), key_needs_leg(k) ? NULL : k);
		assert_int_equal(side, -1);
		for (int s = CLIENT; k->scope == SCOPE_LEG && s <= BACKEND; s++) {
			assert_ptr_equal(key_read(key_text(k, s, buf), SCOPE_ROUTE, &side), key_find_leg(k->name, (enum side)s));
			assert_true((key_find_leg(k->name, (enum side)s) == k) == key_has_leg(k, (enum side)s));
			assert_int_equal(side, s);
		}
	}
	assert_null(key_read("client.listen", SCOPE_ROUTE, &side));
	assert_null(key_read("client.", SCOPE_ROUTE, &side));
	assert_null(key_read("client.heartbeat_in_transaction", SCOPE_ROUTE, &side));
	assert_null(key_read("client.client.heartbeat", SCOPE_ROUTE, &side));
	assert_null(key_read("", SCOPE_ROUTE, &side));
	assert_null(key_read("tls", SCOPE_ROUTE, &side));	/* there are two, with other values */
	assert_null(key_read("client.tls_name", SCOPE_ROUTE, &side));
}

static int
online_cores(void)
{
	cpu_set_t set;

	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	return CPU_COUNT(&set);
}

static void
test_defaults(void **state)
{
	struct config *c = good_route("");
	const struct route *r = c->routes;

	(void)state;
	assert_int_equal(c->workers, online_cores());
	assert_int_equal(c->log.target, TARGET_STDERR);
	assert_int_equal(c->log.format, FORMAT_TEXT);
	assert_int_equal(c->log.level, LEVEL_INFO);
	assert_string_equal(c->control, "/run/stent/control.sock");
	assert_true(c->control_is_default);
	assert_string_equal(c->admin, "127.0.0.1:9464");
	assert_true(c->admin_is_default);
	assert_string_equal(c->user, "nobody");
	assert_int_equal(c->max_flows, 0);
	assert_int_equal(c->drain_timeout_ms, 30000);
	assert_string_equal(c->path, path);
	assert_int_equal(c->n_routes, 1);
	assert_string_equal(r->name, "r");
	assert_int_equal(r->line, 1);
	assert_string_equal(r->protocol, "tcp");
	assert_null(r->codec);
	assert_int_equal(r->n_listen, 1);
	assert_int_equal(r->n_backend, 1);
	assert_int_equal(r->connect_timeout_ms, 5000);
	assert_int_equal(r->dns_ttl_ms, 10000);
	assert_int_equal(r->on_dead, ON_DEAD_NOTIFY);
	assert_true(r->urgent);
	assert_true(r->cancel_on_death);
	assert_false(r->codec_settings.in_transaction);
	assert_int_equal(r->codec_settings.comment.len, 0);
	assert_false(r->codec_settings.comment_at_start);
	for (int s = CLIENT; s <= BACKEND; s++) {
		const struct leg_settings *leg = &r->leg[s];

		assert_int_equal(leg->keepalive.idle_s, 25);
		assert_int_equal(leg->keepalive.interval_s, 10);
		assert_int_equal(leg->keepalive.probes, 6);
		assert_int_equal(leg->keepalive.user_timeout_ms, 85000);
		assert_int_equal(leg->heartbeat_ms, 0);		/* tcp has none */
		assert_false(leg->heartbeat_is_auto);
		assert_int_equal(leg->heartbeat_kind, 0);
		assert_int_equal(leg->heartbeat_timeout_ms, 30000);
		assert_int_equal(leg->heartbeat_misses, -1);
		assert_int_equal(leg->heartbeat_limit_ms, 12 * 3600 * 1000);
		assert_int_equal(leg->idle_timeout_ms, 0);
		assert_false(r->codec_settings.heartbeats[s]);
	}
	config_release(c);
}

static void
test_process_keys(void **state)
{
	struct config *c = read_text("[stent]\nworkers = 3\nlog = file:/tmp/x.log\nlog_format = json\nlog_level = debug\n"
	    "control = off\nadmin = [::1]:9000\nuser = root\nmax_flows = 500\ndrain_timeout = 0\n"
	    "[route r]\nlisten = :80\nbackend = db:80\n");

	(void)state;
	assert_non_null(c);
	assert_int_equal(c->workers, 3);
	assert_int_equal(c->log.target, TARGET_FILE);
	assert_string_equal(c->log.path, "/tmp/x.log");
	assert_int_equal(c->log.format, FORMAT_JSON);
	assert_int_equal(c->log.level, LEVEL_DEBUG);
	assert_null(c->control);
	assert_false(c->control_is_default);
	assert_string_equal(c->admin, "[::1]:9000");
	assert_false(c->admin_is_default);
	assert_string_equal(c->user, "root");
	assert_int_equal(c->max_flows, 500);
	assert_int_equal(c->drain_timeout_ms, 0);
	config_release(c);

	c = read_text("[stent]\nlog = syslog\nadmin = off\nuser = off\n[route r]\nlisten = :80\nbackend = db:80\n");
	assert_non_null(c);
	assert_int_equal(c->log.target, TARGET_SYSLOG);
	assert_null(c->admin);
	assert_null(c->user);
	config_release(c);
}

/* --- precedence --- */

static void
test_what_wins(void **state)
{
	static const struct {
		const char *defaults, *route;
		int64_t client, backend;
	} rows[] = {
		{ "", "idle_timeout = 1s\n", 1000, 1000 },
		{ "", "client.idle_timeout = 1s\n", 1000, 0 },
		{ "", "client.idle_timeout = 1s\nidle_timeout = 2s\n", 1000, 2000 },
		{ "", "idle_timeout = 2s\nclient.idle_timeout = 1s\n", 1000, 2000 },
		{ "idle_timeout = 3s\n", "", 3000, 3000 },
		{ "idle_timeout = 3s\n", "backend.idle_timeout = 1s\n", 3000, 1000 },
		{ "client.idle_timeout = 3s\n", "idle_timeout = 1s\n", 1000, 1000 },
		{ "client.idle_timeout = 3s\nidle_timeout = 4s\n", "", 3000, 4000 },
		{ "client.idle_timeout = 3s\nidle_timeout = 4s\n", "backend.idle_timeout = off\n", 3000, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (int last = 0; last < 2; last++) {	/* [defaults] may stand anywhere */
			char text[1024], route[256];
			struct config *c;

			snprintf(route, sizeof(route), "[route r]\nlisten = :80\nbackend = db:80\n%s", rows[i].route);
			snprintf(text, sizeof(text), "%s[defaults]\n%s%s", last ? route : "", rows[i].defaults, last ? "" : route);
			c = read_text(text);
			assert_non_null(c);
			assert_int_equal(c->routes->leg[CLIENT].idle_timeout_ms, rows[i].client);
			assert_int_equal(c->routes->leg[BACKEND].idle_timeout_ms, rows[i].backend);
			config_release(c);
		}
	}
}

/* --- detect --- */

/* The leg's values in the order of the printed keys: "keepalive user_timeout heartbeat heartbeat_timeout heartbeat_misses". */
static const char *
values(const struct leg_settings *l, char buf[128])
{
	snprintf(buf, 128, "%d/%d/%d %d %d %d %d", l->keepalive.idle_s, l->keepalive.interval_s, l->keepalive.probes,
	    (int)l->keepalive.user_timeout_ms, (int)l->heartbeat_ms, (int)l->heartbeat_timeout_ms, l->heartbeat_misses);
	return buf;
}

static void
test_what_follows_from_detect(void **state)
{
	static const struct {
		const char *defaults, *route, *client, *backend;
	} rows[] = {
		{ "", "detect = 6s\n", "1/1/5 6000 1200 1200 4", "1/1/5 6000 1200 1200 4" },
		{ "", "detect = 9s\n", "2/1/7 9000 1800 1800 4", "2/1/7 9000 1800 1800 4" },
		{ "", "detect = 40s\n", "8/2/16 40000 8000 8000 4", "8/2/16 40000 8000 8000 4" },
		{ "", "detect = 1h\n", "25/29/123 3592000 40000 890000 4", "25/29/123 3592000 50000 887500 4" },
		{ "", "client.detect = 40s\n", "8/2/16 40000 8000 8000 4", "25/10/6 85000 50000 30000 -1" },
		{ "detect = 40s\n", "backend.detect = off\n", "8/2/16 40000 8000 8000 4", "25/10/6 85000 50000 30000 -1" },
		/* What is set by hand wins, in its own section and in the route, and the rest follows from it. */
		{ "", "detect = 40s\nbackend.keepalive = 4s/4s/4\n", "8/2/16 40000 8000 8000 4", "4/4/4 20000 8000 8000 4" },
		{ "detect = 40s\n", "heartbeat = 20s\n", "8/2/16 40000 20000 5000 4", "8/2/16 40000 20000 5000 4" },
		{ "detect = 40s\nheartbeat_misses = 2\n", "", "8/2/16 40000 8000 16000 2", "8/2/16 40000 8000 16000 2" },
		{ "detect = 40s\n", "user_timeout = 12s\n", "8/2/16 12000 8000 8000 4", "8/2/16 12000 8000 8000 4" },
		/* A detect of the route wins over [defaults], except where that turns heartbeats off. */
		{ "keepalive = off\nheartbeat_timeout = 60s\nheartbeat = 30s\n", "detect = 40s\n", "8/2/16 40000 8000 8000 4", "8/2/16 40000 8000 8000 4" },
		{ "client.heartbeat = off\n", "detect = 40s\n", "8/2/16 40000 0 30000 -1", "8/2/16 40000 8000 8000 4" },
		{ "detect = 10s\n", "detect = 40s\nuser_timeout = auto\nheartbeat = auto\n", "8/2/16 40000 8000 8000 4", "8/2/16 40000 8000 8000 4" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[1024], buf[128];
		struct config *c;

		snprintf(text, sizeof(text), "[defaults]\n%s[route r]\nlisten = :80\nbackend = db:80\nprotocol = both\n%s", rows[i].defaults, rows[i].route);
		c = read_text(text);
		if (c == NULL)
			fail_msg("%s%s", told, text);
		assert_string_equal(values(&c->routes->leg[CLIENT], buf), rows[i].client);
		assert_string_equal(values(&c->routes->leg[BACKEND], buf), rows[i].backend);
		config_release(c);
	}
}

/* Whatever the number: at least four chances, and found in time. */
static void
test_each_detect_leaves_chances(void **state)
{
	(void)state;
	for (int64_t ms = 6000; ms <= 3600000; ms += 500) {
		const struct keepalive k = detect_keepalive(ms);

		assert_true(k.idle_s >= 1 && k.idle_s <= 25 && k.interval_s >= 1 && k.interval_s < 30);
		assert_true(k.probes >= DETECT_CHANCES && k.probes <= 127);
		assert_true((k.idle_s + k.interval_s * k.probes) * INT64_C(1000) <= ms);
		assert_true((k.idle_s + k.interval_s * k.probes) * 1000 > ms * 4 / 5);
	}
}

static void
test_detect_of_a_protocol_to_be_found(void **state)
{
	struct config *c = good_route("protocol = auto\ndetect = 40s\n");

	(void)state;
	assert_true(c->routes->leg[CLIENT].heartbeat_is_auto);
	assert_int_equal(c->routes->leg[CLIENT].heartbeat_max_ms, 8000);
	assert_int_equal(c->routes->leg[CLIENT].heartbeat_timeout_ms, 8000);
	config_release(c);
}

static void
test_values_by_hand_that_are_too_late_for_detect(void **state)
{
	static const struct {
		const char *route, *error;
	} rows[] = {
		{ "keepalive = off\n", "keepalive: with \"off\" a dead host is never found, and detect = 40s asks for it" },
		{ "keepalive = 25s/10s/6\n", "is found after 85s, and detect = 40s asks for less" },
		{ "client.user_timeout = 41s\n", "client.user_timeout: with \"41s\" a host that dies while bytes are under way is found after 41s" },
		{ "user_timeout = off\n", "is never found" },
		{ "heartbeat = 40s\n", "heartbeat: with \"40s\" a hung program is found after" },
		{ "heartbeat_timeout = 30s\n", "heartbeat_timeout: with \"30s\" a hung program is found after 128s" },
		{ "heartbeat_timeout = 30s\nheartbeat_misses = 2\n", "a hung program is found after 68s" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[512], *first;

		snprintf(text, sizeof(text), "[route r]\nlisten = :80\nbackend = db:80\nprotocol = both\ndetect = 40s\n%s", rows[i].route);
		assert_null(read_text(text));
		if (strstr(told, rows[i].error) == NULL)
			fail_msg("%s: %s", rows[i].route, told);
		first = strchr(told, '\n');
		assert_true(first != NULL && first[1] == '\0');	/* told once */
	}
}

/* --- profiles --- */

/* The default probes, and all that follow from detect, keep a flow in every table that counts packets. */
static void
test_probes_are_below_every_limit(void **state)
{
	struct config *c = good_route("");
	const struct profile *p;
	size_t n = 0;

	(void)state;
	assert_int_equal(c->routes->leg[CLIENT].keepalive.idle_s, 25);
	assert_true(25 < 60);	/* half-closed flows in connection tracking of Linux: nf_conntrack_tcp_timeout_close_wait */
	for (; (p = profile_at(n)) != NULL; n++) {
		assert_true(p->limit_ms > 25000 + 10000);	/* the first probe may be lost */
		assert_true(p->limit_ms > detect_keepalive(3600000).idle_s * 1000 + detect_keepalive(3600000).interval_s * 1000 || p->counts_data);
		assert_true(profile_quiet_ms(p) <= p->limit_ms / 2 && profile_quiet_ms(p) >= 25000);
		assert_true(strncmp(p->source, "https://", 8) == 0 || strncmp(p->source, "/etc/", 5) == 0);
		assert_int_equal(strlen(p->read), 10);
		assert_null(strpbrk(p->what, "\"\\"));		/* so that JSON needs no escapes */
		assert_null(strpbrk(p->detail, "\"\\"));
		assert_true(n == 0 || strcmp(profile_at(n - 1)->name, p->name) < 0);
	}
	assert_true(n >= 13);
	config_release(c);
}

static void
test_what_follows_from_a_profile(void **state)
{
	static const struct {
		const char *route, *client, *backend;
		size_t warnings;
	} rows[] = {
		{ "profile = aws-alb\n", "25/10/6 85000 30000 30000 -1", "25/10/6 85000 30000 30000 -1", 0 },
		{ "client.profile = heroku\n", "25/10/6 85000 27000 30000 -1", "25/10/6 85000 50000 30000 -1", 0 },
		{ "profile = aws-nlb\n", "25/10/6 85000 40000 30000 -1", "25/10/6 85000 50000 30000 -1", 0 },
		/* With detect the smaller of both. */
		{ "profile = aws-alb\ndetect = 40s\n", "8/2/16 40000 8000 8000 4", "8/2/16 40000 8000 8000 4", 0 },
		{ "profile = aws-alb\ndetect = 1h\n", "25/29/123 3592000 30000 890000 4", "25/29/123 3592000 30000 887500 4", 0 },
		/* By hand wins. */
		{ "profile = aws-alb\nheartbeat = 59s\n", "25/10/6 85000 59000 30000 -1", "25/10/6 85000 59000 30000 -1", 0 },
		{ "profile = aws-alb\nheartbeat = 60s\n", "25/10/6 85000 60000 30000 -1", "25/10/6 85000 60000 30000 -1", 2 },
		{ "profile = azure\nkeepalive = 240s/10s/3\n", "240/10/3 270000 40000 30000 -1", "240/10/3 270000 50000 30000 -1", 2 },
		{ "profile = azure\nkeepalive = 239s/10s/3\n", "239/10/3 269000 40000 30000 -1", "239/10/3 269000 50000 30000 -1", 0 },
		/* Heartbeats where there are no probes. */
		{ "backend.profile = azure\nkeepalive = off\n", "0/0/0 0 40000 30000 -1", "0/0/0 0 50000 30000 -1", 0 },
		{ "backend.profile = azure\nkeepalive = off\nheartbeat = off\n", "0/0/0 0 0 30000 -1", "0/0/0 0 0 30000 -1", 1 },
		{ "profile = cloudflare\nclient.heartbeat = off\n", "25/10/6 85000 0 30000 -1", "25/10/6 85000 50000 30000 -1", 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[1024], buf[128];
		struct config *c;

		snprintf(text, sizeof(text), "[route r]\nlisten = :80\nbackend = db:80\nprotocol = both\n%s", rows[i].route);
		c = read_text(text);
		if (c == NULL)
			fail_msg("%s%s", told, text);
		assert_string_equal(values(&c->routes->leg[CLIENT], buf), rows[i].client);
		assert_string_equal(values(&c->routes->leg[BACKEND], buf), rows[i].backend);
		assert_int_equal(c->n_warnings, rows[i].warnings);
		config_release(c);
	}
}

static void
test_a_protocol_without_heartbeats_behind_what_counts_data(void **state)
{
	struct config *c = good_route("client.profile = nginx\nbackend.profile = aws-nlb\n");

	(void)state;
	assert_int_equal(c->n_warnings, 1);
	assert_non_null(strstr(c->warnings[0], "nginx counts data alone, and protocol = tcp has no heartbeats toward the client"));
	config_release(c);
	assert_null(read_text("[route r]\nlisten = :80\nbackend = db:80\nprofile = aws-nbl\n"));
	assert_non_null(strstr(told, "there is no profile \"aws-nbl\"; did you mean \"aws-nlb\"?"));
}

static void
test_routes_are_apart(void **state)
{
	struct config *c = read_text("[defaults]\nbackend = db:1\nconnect_timeout = 1s\n"
	    "[route a]\nlisten = :81\nconnect_timeout = 2s\n[route b]\nlisten = :82, unix:/x\nbackend = db:2, db:3\n");

	(void)state;
	assert_non_null(c);
	assert_int_equal(c->n_routes, 2);
	assert_int_equal(c->routes[0].connect_timeout_ms, 2000);
	assert_int_equal(c->routes[1].connect_timeout_ms, 1000);
	assert_string_equal(c->routes[0].backend[0].text, "db:1");
	assert_int_equal(c->routes[1].n_listen, 2);
	assert_string_equal(c->routes[1].backend[1].text, "db:3");
	assert_int_equal(c->routes[1].line, 7);
	config_release(c);
}

/* --- probes --- */

static void
test_keepalive(void **state)
{
	struct config *c = good_route("keepalive = 1s/32767s/127\nbackend.keepalive = off\n");

	(void)state;
	assert_int_equal(c->routes->leg[CLIENT].keepalive.idle_s, 1);
	assert_int_equal(c->routes->leg[CLIENT].keepalive.interval_s, 32767);
	assert_int_equal(c->routes->leg[CLIENT].keepalive.probes, 127);
	assert_int_equal(c->routes->leg[BACKEND].keepalive.idle_s, 0);
	assert_int_equal(c->routes->leg[BACKEND].keepalive.user_timeout_ms, 0);	/* auto, and no probes: the kernel's own */
	config_release(c);
	c = good_route("keepalive = 2m/1.5m/3\nbackend.user_timeout = off\n");
	assert_int_equal(c->routes->leg[CLIENT].keepalive.user_timeout_ms, 120000 + 90000 * 3);
	assert_int_equal(c->routes->leg[BACKEND].keepalive.user_timeout_ms, 0);
	config_release(c);
	c = good_route("keepalive = 1s/32767s/127\n");	/* the kernel's int holds 24 days */
	assert_int_equal(c->routes->leg[CLIENT].keepalive.user_timeout_ms, INT32_MAX);
	config_release(c);

	assert_error("keepalive = 500ms/10s/6\n", "4: keepalive: the idle time \"500ms\" is not in whole seconds, as "
	    "the kernel needs it; write 1s");
	assert_error("keepalive = 1s/1500ms/6\n", "4: keepalive: the interval \"1500ms\" is not in whole seconds, as "
	    "the kernel needs it; write 2s");
	assert_error("keepalive = 0/10s/6\n", "4: keepalive: the idle time \"0\" is out of the kernel's range; write 1s "
	    "to 32767s");
	assert_error("keepalive = 32768s/10s/6\n", "4: keepalive: the idle time \"32768s\" is out of the kernel's "
	    "range; write 1s to 32767s");
	assert_error("keepalive = 60s/10s/128\n", "4: keepalive: the number of probes \"128\" is out of the kernel's "
	    "range; write 1 to 127");
	assert_error("keepalive = 60/10s/6\n", "4: keepalive: the idle time \"60\" has no unit; write 60ms, 60s, 60m, "
	    "60h or 60d");
	assert_error("keepalive = 60s/10s\n", "4: keepalive: \"60s/10s\" is not IDLE/INTERVAL/PROBES; write a value such as "
	    "25s/10s/6, or off");
	assert_error("keepalive = 60s/10s/6/7\n", "4: keepalive: \"60s/10s/6/7\" is not IDLE/INTERVAL/PROBES; write "
	    "a value such as 25s/10s/6, or off");
	assert_error("user_timeout = 25d\n", "4: user_timeout: \"25d\" is out of range; write 1ms to 2147483647ms");
}

/* --- heartbeats --- */

/* What a route's lines make of its heartbeats. */
static const struct {
	const char *lines;
	struct {
		int64_t ms;
		unsigned kind;
	} leg[2];
} heartbeats[] = {
	{ "protocol = both\n", { { 40000, 0 }, { 50000, 0 } } },
	{ "protocol = both\nheartbeat = off\n", { { 0, 0 }, { 0, 0 } } },
	{ "protocol = both\nheartbeat = 0\n", { { 0, 0 }, { 0, 0 } } },
	{ "protocol = both\nheartbeat = 5s\n", { { 5000, 0 }, { 5000, 0 } } },
	{ "protocol = both\nheartbeat_kind = oneway\n", { { 40000, HEARTBEAT_ONEWAY }, { 50000, HEARTBEAT_ONEWAY } } },
	{ "protocol = both\nbackend.heartbeat_kind = ping\n", { { 40000, 0 }, { 50000, HEARTBEAT_PING } } },
	/* A kind that a leg cannot have does not matter where that leg is not beaten. */
	{ "protocol = both\nheartbeat_kind = ping\nclient.heartbeat = off\n", { { 0, HEARTBEAT_PING }, { 50000, HEARTBEAT_PING } } },
	/* A key for both legs is content with the one that has heartbeats. */
	{ "protocol = server\nheartbeat = 5s\nheartbeat_kind = ping\n", { { 0, 0 }, { 5000, HEARTBEAT_PING } } },
	{ "protocol = server\nclient.heartbeat = off\n", { { 0, 0 }, { 60000, 0 } } },
	/* On demand alone. */
	{ "protocol = demand\n", { { 0, 0 }, { 60000, 0 } } },
	{ "protocol = demand\nheartbeat = 5s\n", { { 0, 0 }, { 5000, 0 } } },
	{ "protocol = demand\nclient.heartbeat_kind = early\n", { { 60000, HEARTBEAT_EARLY }, { 60000, 0 } } },
	{ "protocol = demand\nclient.heartbeat_kind = early\nheartbeat = 5s\n", { { 5000, HEARTBEAT_EARLY }, { 5000, 0 } } },
	/* Plain bytes. */
	{ "protocol = tcp\nheartbeat = auto\nheartbeat_kind = auto\n", { { 0, 0 }, { 0, 0 } } },
	{ "protocol = tcp\nheartbeat = off\n", { { 0, 0 }, { 0, 0 } } },
	/* The generic line. */
	{ "protocol = line\nclient.heartbeat_send = PING\\n\n", { { 25000, 0 }, { 0, 0 } } },
	{ "protocol = line\nheartbeat_send = PING\\n\nbackend.heartbeat_expect = PONG\\n\nheartbeat = 1s\n", { { 1000, 0 }, { 1000, 0 } } },
	{ "protocol = line\nheartbeat_send = PING\\n\nclient.heartbeat_kind = oneway\n", { { 25000, HEARTBEAT_ONEWAY }, { 25000, 0 } } },
	{ "protocol = line\nheartbeat = off\n", { { 0, 0 }, { 0, 0 } } },
};

static void
test_heartbeats(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(heartbeats) / sizeof(heartbeats[0]); i++) {
		struct config *c = good_route(heartbeats[i].lines);

		for (int s = CLIENT; s <= BACKEND; s++) {
			const struct leg_settings *leg = &c->routes->leg[s];

			if (leg->heartbeat_ms != heartbeats[i].leg[s].ms || leg->heartbeat_kind != heartbeats[i].leg[s].kind)
				fail_msg("%s%s: %d ms, kind %u", heartbeats[i].lines, side_name((enum side)s),
				    (int)leg->heartbeat_ms, leg->heartbeat_kind);
			assert_false(leg->heartbeat_is_auto);
			assert_int_equal(c->routes->codec_settings.heartbeats[s], leg->heartbeat_ms > 0);
			assert_int_equal(c->routes->codec_settings.kind[s], leg->heartbeat_kind);
		}
		config_release(c);
	}
}

static void
test_heartbeats_of_a_protocol_to_be_found(void **state)
{
	struct config *c = good_route("protocol = auto\nbackend.heartbeat = 5s\nheartbeat_kind = ping\n");

	(void)state;
	assert_true(c->routes->leg[CLIENT].heartbeat_is_auto);
	assert_int_equal(c->routes->leg[CLIENT].heartbeat_ms, 30000);
	assert_int_equal(c->routes->leg[CLIENT].heartbeat_kind, HEARTBEAT_PING);
	assert_true(c->routes->codec_settings.heartbeats[CLIENT]);
	assert_false(c->routes->leg[BACKEND].heartbeat_is_auto);
	assert_int_equal(c->routes->leg[BACKEND].heartbeat_ms, 5000);
	config_release(c);
}

static void
test_heartbeats_that_cannot_be(void **state)
{
	static const struct {
		const char *lines, *error;
	} rows[] = {
		{ "heartbeat = 5s\n", "4: heartbeat: protocol = tcp has no heartbeats; name the protocol, such as "
		    "protocol = websocket, or remove this: TCP probes do not need it" },
		{ "client.heartbeat = 5s\n", "4: client.heartbeat: protocol = tcp has no heartbeats; name the protocol, "
		    "such as protocol = websocket, or remove this: TCP probes do not need it" },
		{ "heartbeat_kind = ping\n", "4: heartbeat_kind: protocol = tcp has no heartbeats; name the protocol, "
		    "such as protocol = websocket, or remove this: TCP probes do not need it" },
		{ "heartbeat_in_transaction = on\n", "4: heartbeat_in_transaction: protocol = tcp has no heartbeats; "
		    "name the protocol, such as protocol = websocket, or remove this: TCP probes do not need it" },
		{ "heartbeat_text = :x\\n\n", "4: heartbeat_text: with protocol = tcp there are no event streams; remove this, "
		    "or write protocol = http" },
		{ "protocol = both\nclient.heartbeat_at_start = on\n", "5: client.heartbeat_at_start: with protocol = both "
		    "there are no event streams; remove this, or write protocol = http" },
		{ "protocol = server\nclient.heartbeat = 5s\n", "5: client.heartbeat: protocol = server has no "
		    "heartbeats toward the client; remove this" },
		{ "protocol = server\nclient.heartbeat_kind = oneway\n", "5: client.heartbeat_kind: protocol = server has "
		    "no heartbeats toward the client; remove this" },
		{ "protocol = server\nheartbeat_kind = early\n", "5: heartbeat_kind: protocol = server has no \"early\" "
		    "toward the backend; write backend.heartbeat_kind = oneway or ping" },
		{ "protocol = both\nheartbeat_kind = ping\n", "5: heartbeat_kind: protocol = both has no \"ping\" toward "
		    "the client; write client.heartbeat_kind = oneway" },
		{ "protocol = demand\nclient.heartbeat = 5s\n", "5: client.heartbeat: with protocol = demand heartbeats to "
		    "the client are opt-in; write also client.heartbeat_kind = early" },
		{ "protocol = line\n", "4: protocol: \"line\" needs a text to send; write client.heartbeat_send or "
		    "backend.heartbeat_send, or heartbeat = off" },
		{ "protocol = line\nheartbeat = 5s\n", "5: heartbeat: protocol = line has no heartbeat without a text; "
		    "write client.heartbeat_send or backend.heartbeat_send" },
		{ "protocol = line\nclient.heartbeat = 5s\nbackend.heartbeat_send = x\\n\n", "5: client.heartbeat: protocol = "
		    "line has no heartbeat without a text; write client.heartbeat_send" },
		{ "protocol = line\nclient.heartbeat_send = x\\n\nclient.heartbeat_kind = ping\n", "6: client.heartbeat_kind: "
		    "protocol = line has \"ping\" with client.heartbeat_expect, and \"oneway\" without; remove this" },
		{ "protocol = line\nclient.heartbeat_send = x\\n\nbackend.heartbeat_expect = y\\n\n", "6: backend.heartbeat_expect: no "
		    "heartbeat is sent, so no reply can come; write backend.heartbeat_send" },
		{ "protocol = both\nheartbeat_send = x\\n\n", "5: heartbeat_send: only protocol = line takes such a text; "
		    "remove this" },
		{ "backend.heartbeat_expect = x\n", "4: backend.heartbeat_expect: only protocol = line takes such a text; "
		    "remove this" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_error(rows[i].lines, rows[i].error);
}

/* [defaults] are for routes of several protocols: what one cannot have is ignored there. */
static void
test_defaults_are_ignored_where_useless(void **state)
{
	struct config *c = read_text("[defaults]\nheartbeat = 5s\nheartbeat_kind = ping\nheartbeat_send = x\\n\n"
	    "heartbeat_in_transaction = on\nheartbeat_text = :x\\n\nheartbeat_at_start = on\n"
	    "[route a]\nlisten = :81\nbackend = db:1\n"
	    "[route b]\nlisten = :82\nbackend = db:1\nprotocol = both\n"
	    "[route c]\nlisten = :83\nbackend = db:1\nprotocol = line\n"
	    "[route d]\nlisten = :84\nbackend = db:1\nprotocol = auto\n");

	(void)state;
	if (c == NULL)
		fail_msg("%s", told);
	assert_int_equal(c->routes[0].leg[CLIENT].heartbeat_ms, 0);
	assert_int_equal(c->routes[0].leg[CLIENT].heartbeat_kind, 0);
	assert_int_equal(c->routes[1].leg[CLIENT].heartbeat_ms, 5000);
	assert_int_equal(c->routes[1].leg[CLIENT].heartbeat_kind, 0);	/* it only tells */
	assert_int_equal(c->routes[1].leg[BACKEND].heartbeat_kind, HEARTBEAT_PING);
	assert_false(c->routes[1].codec_settings.in_transaction);	/* it has none */
	assert_int_equal(c->routes[2].leg[CLIENT].heartbeat_kind, 0);	/* no heartbeat_expect: it tells */
	assert_true(c->routes[3].codec_settings.in_transaction);	/* it may turn out to have them */
	assert_int_equal(c->routes[1].codec_settings.comment.len, 0);
	assert_false(c->routes[1].codec_settings.comment_at_start);
	assert_int_equal(c->routes[3].codec_settings.comment.len, 3);
	assert_true(c->routes[3].codec_settings.comment_at_start);
	config_release(c);
}

/* What goes into an event stream must be a comment, and nothing else. */
static void
test_text_of_comments(void **state)
{
	static const struct {
		const char *text, *error;
	} rows[] = {
		{ "auto", NULL }, { ":\\n", NULL }, { "\":\\n\\n\"", NULL }, { "\": a\\tb: c\\n\"", NULL },
		{ "data: x\\n", "data: x\\n does not begin with a colon, as a comment in an event stream does; write one such as "
		    "\":stent\\n\\n\"" },
		{ "\"\"", "\"\" does not begin with a colon, as a comment in an event stream does; write one such as "
		    "\":stent\\n\\n\"" },
		{ ":x", ":x does not end with a newline; write \\n at its end" },
		{ ":x\\ndata: y\\n", ":x\\ndata: y\\n is more than a comment and an empty line; write one line, then \\n or \\n\\n" },
		{ ":x\\n\\ndata: y", ":x\\n\\ndata: y is more than a comment and an empty line; write one line, then \\n or \\n\\n" },
		{ ":x\\n\\n\\n", ":x\\n\\n\\n is more than a comment and an empty line; write one line, then \\n or \\n\\n" },
		{ ":\\0\\n", ":\\0\\n contains a character that is not printable ASCII; remove it (\\n becomes what ends the "
		    "stream's own lines)" },
		{ ":\\r\\n", ":\\r\\n contains a character that is not printable ASCII; remove it (\\n becomes what ends the "
		    "stream's own lines)" },
		{ ":\\xc3\\xa9\\n", ":\\xc3\\xa9\\n contains a character that is not printable ASCII; remove it (\\n becomes "
		    "what ends the stream's own lines)" },
		{ ":\\q\\n", "\"\\q\\n\" is not an escape; use one of \\n \\r \\t \\0 \\xHH \\\\ \\\"" },
	};
	char lines[512], error[512], longest[CODEC_COMMENT_MAX + 8];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(lines, sizeof(lines), "protocol = auto\nheartbeat_text = %s\n", rows[i].text);
		snprintf(error, sizeof(error), "5: heartbeat_text: %s", rows[i].error != NULL ? rows[i].error : "");
		if (rows[i].error != NULL)
			assert_error(lines, error);
		else
			config_release(good_route(lines));
	}
	memset(longest, ':', sizeof(longest));
	for (int over = 0; over < 2; over++) {
		snprintf(lines, sizeof(lines), "protocol = auto\nheartbeat_text = %.*s\\n\n", CODEC_COMMENT_MAX - 1 + over, longest);
		snprintf(error, sizeof(error), "5: heartbeat_text: %d bytes is too long; the limit is %d", CODEC_COMMENT_MAX + 1,
		    CODEC_COMMENT_MAX);
		if (over)
			assert_error(lines, error);
		else
			config_release(good_route(lines));
	}
}

static void
test_misses(void **state)
{
	struct config *c = good_route("protocol = both\nheartbeat_misses = off\nclient.heartbeat_misses = 5\n");

	(void)state;
	assert_int_equal(c->routes->leg[CLIENT].heartbeat_misses, 5);
	assert_int_equal(c->routes->leg[BACKEND].heartbeat_misses, 0);
	config_release(c);
}

/* --- bytes --- */

static void
assert_bytes(const char *written, const void *data, size_t len)
{
	char lines[4096];
	struct config *c;
	const struct codec_bytes *expected;

	snprintf(lines, sizeof(lines), "protocol = line\nbackend.heartbeat_send = x\\n\nbackend.heartbeat_expect = %s\n", written);
	c = good_route(lines);
	expected = &c->routes->codec_settings.heartbeat_expect[BACKEND];
	assert_int_equal(expected->len, len);
	assert_memory_equal(expected->data, data, len);
	assert_int_equal(c->routes->codec_settings.heartbeat_expect[CLIENT].len, 0);
	config_release(c);
}

static void
test_bytes(void **state)
{
	char all[CODEC_HEARTBEAT_MAX * 4 + 1];
	uint8_t zeros[CODEC_HEARTBEAT_MAX] = { 0 };

	(void)state;
	assert_bytes("PING\\n", "PING\n", 5);
	assert_bytes("\"PING\\n\"", "PING\n", 5);
	assert_bytes("\" a b \"", " a b ", 5);
	assert_bytes("\\r\\n\\t\\0\\\\\\\"\\x3b\\xFf", "\r\n\t\0\\\";\xff", 8);
	assert_bytes("a;b", "a;b", 3);
	assert_bytes("\\\"quoted\\\"", "\"quoted\"", 8);
	assert_bytes("#1", "#1", 2);
	assert_bytes("PING #1", "PING #1", 7);
	for (size_t i = 0; i < CODEC_HEARTBEAT_MAX; i++)
		memcpy(all + i * 4, "\\x00", 5);
	assert_bytes(all, zeros, sizeof(zeros));

	assert_error("protocol = line\nheartbeat_send = \\q\n", "5: heartbeat_send: \"\\q\" is not an escape; use one of \\n \\r \\t \\0 "
	    "\\xHH \\\\ \\\"");
	assert_error("protocol = line\nheartbeat_send = \\x1\n", "5: heartbeat_send: \"\\x1\" is not an escape; use one of \\n \\r \\t \\0 "
	    "\\xHH \\\\ \\\"");
	assert_error("protocol = line\nheartbeat_send = \\012\n", "5: heartbeat_send: \"\\012\" is not an escape; use one of \\n \\r \\t "
	    "\\0 \\xHH \\\\ \\\"");
	assert_error("protocol = line\nheartbeat_send = a\\\n", "5: heartbeat_send: \"\\\" is not an escape; use one of \\n \\r \\t \\0 "
	    "\\xHH \\\\ \\\"");
	assert_error("protocol = line\nheartbeat_send = \"a ; b\"\n", "5: heartbeat_send: \"a has no closing quote; write one (a "
	    "\" ;\" inside is a comment: write \\x3b)");
	assert_error("protocol = line\nheartbeat_send = \"a\" b\n", "5: heartbeat_send: \"a\" b has text after the closing quote; "
	    "write a quote inside as \\\"");
	assert_error("protocol = line\nheartbeat_send = PING\n", "5: heartbeat_send: PING does not end with a newline; write \\n at its end");
	assert_error("protocol = line\nheartbeat_send = \"\"\n", "5: heartbeat_send: \"\" is empty; write some bytes or remove "
	    "the line");
}

/* --- the command line --- */

static struct config *
read_args(const char *listen, const char *backend, char **options)
{
	struct config *c = NULL;
	size_t n = 0, len;
	FILE *errors;
	int r;

	while (options[n] != NULL)
		n++;
	free(told);
	errors = open_memstream(&told, &len);
	r = config_from_args(&c, listen, backend, options, n, errors);
	fclose(errors);
	assert_int_equal(r == 0, c != NULL);
	assert_int_equal(c != NULL, len == 0);
	return c;
}

static void
test_from_args(void **state)
{
	char *options[] = { "--keepalive=30s/5s/3", "--client.keepalive=off", "--protocol=both", "--workers=2",
	    "--admin=off", NULL };
	char *none[] = { NULL };
	struct config *c = read_args("127.0.0.1:6432", "a:1, b:2", options);

	(void)state;
	assert_non_null(c);
	assert_null(c->path);
	assert_int_equal(c->n_routes, 1);
	assert_string_equal(c->routes->name, "relay");
	assert_int_equal(c->routes->n_backend, 2);
	assert_int_equal(c->routes->leg[CLIENT].keepalive.idle_s, 0);
	assert_int_equal(c->routes->leg[BACKEND].keepalive.idle_s, 30);
	assert_int_equal(c->routes->leg[BACKEND].heartbeat_ms, 50000);
	assert_int_equal(c->workers, 2);
	assert_null(c->admin);
	assert_false(c->admin_is_default);
	assert_true(c->control_is_default);
	config_release(c);
	c = read_args(":80", "db:80", none);
	assert_non_null(c);
	config_release(c);
}

/* Keys and values of earlier versions: the new one is suggested, also where another is as near. */
static void
test_former_names_are_suggested(void **state)
{
	static const struct {
		const char *lines, *error;
	} rows[] = {
		{ "lookup_age = 5s\n", "4: unknown key \"lookup_age\"; did you mean \"dns_ttl\"?" },
		{ "beat_send = x\n", "4: unknown key \"beat_send\"; did you mean \"heartbeat_send\"?" },
		{ "client.beat_send = x\n", "4: unknown key \"client.beat_send\"; did you mean \"client.heartbeat_send\"?" },
		{ "beat_expect = x\n", "4: unknown key \"beat_expect\"; did you mean \"heartbeat_expect\"?" },
		{ "backend.beat_expect = x\n", "4: unknown key \"backend.beat_expect\"; did you mean \"backend.heartbeat_expect\"?" },
		{ "clinet.beat_send = x\n", "4: unknown key \"clinet.beat_send\"; did you mean \"client.heartbeat_send\"?" },
		{ "client.lookup_age = 5s\n", "4: unknown key \"client.lookup_age\"; did you mean \"dns_ttl\"?" },
		{ "heartbeat_kind = tell\n", "4: heartbeat_kind: \"tell\" is not one of auto | oneway | ping | early; did you mean "
		    "\"oneway\"?" },
		{ "client.heartbeat_kind = ask\n", "4: client.heartbeat_kind: \"ask\" is not one of auto | oneway | ping | early; did "
		    "you mean \"ping\"?" },
		{ "backend.heartbeat_kind = ahead\n", "4: backend.heartbeat_kind: \"ahead\" is not one of auto | oneway | ping | early; "
		    "did you mean \"early\"?" },
		{ "on_dead = farewell\n", "4: on_dead: \"farewell\" is not one of notify | reset | close; did you mean \"notify\"?" },
	};
	char *options[] = { "--lookup_age=5s", "--client.beat_send=x", "--backend.beat_expect=x", "--beat_send=x",
	    "--heartbeat_kind=ask", "--client.heartbeat_kind=tell", "--on_dead=farewell", NULL };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_error(rows[i].lines, rows[i].error);
	assert_null(read_args(":80", "a:80", options));
	assert_string_equal(told,
	    "stent relay: unknown option \"--lookup_age\"; did you mean \"--dns_ttl\"?\n"
	    "stent relay: unknown option \"--client.beat_send\"; did you mean \"--client.heartbeat_send\"?\n"
	    "stent relay: unknown option \"--backend.beat_expect\"; did you mean \"--backend.heartbeat_expect\"?\n"
	    "stent relay: unknown option \"--beat_send\"; did you mean \"--heartbeat_send\"?\n"
	    "stent relay: --heartbeat_kind: \"ask\" is not one of auto | oneway | ping | early; did you mean \"ping\"?\n"
	    "stent relay: --client.heartbeat_kind: \"tell\" is not one of auto | oneway | ping | early; did you mean \"oneway\"?\n"
	    "stent relay: --on_dead: \"farewell\" is not one of notify | reset | close; did you mean \"notify\"?\n");
}

static void
test_all_wrong_args_are_reported(void **state)
{
	char *options[] = { "--keepalve=off", "--connect_timeout=5", "--urgent", "-x", "--urgent=on", "--urgent=off",
	    "--listen=:80", "--client.heartbeat=3s", "--zzz=1", NULL };

	(void)state;
	assert_null(read_args(":99999", "", options));
	assert_string_equal(told,
	    "stent relay: LISTEN: \":99999\" has a port out of range; write one from 1 to 65535\n"
	    "stent relay: BACKEND: has no value; write HOST:PORT | unix:PATH, ... | original\n"
	    "stent relay: unknown option \"--keepalve\"; did you mean \"--keepalive\"?\n"
	    "stent relay: --connect_timeout: \"5\" has no unit; write 5ms, 5s, 5m, 5h or 5d\n"
	    "stent relay: unexpected argument \"--urgent\"; write --KEY=VALUE\n"
	    "stent relay: unexpected argument \"-x\"; write --KEY=VALUE\n"
	    "stent relay: duplicate option --urgent (first at --urgent); remove one of them\n"
	    "stent relay: duplicate option --listen (first at LISTEN); remove one of them\n"
	    "stent relay: --client.heartbeat: protocol = tcp has no heartbeats; name the protocol, such as protocol = "
	    "websocket, or remove this: TCP probes do not need it\n"
	    "stent relay: unknown option \"--zzz\"; `stent help keys` lists them all\n");
}

/* --- printing --- */

static char *
print(const struct config *c)
{
	char *text;
	size_t n;
	FILE *out = open_memstream(&text, &n);

	config_print(c, out);
	fclose(out);
	return text;
}

/* What is printed reads back as the same. */
static void
test_printed_settings_read_back(void **state)
{
	static const char *const texts[] = {
		"[route a]\nlisten=:1\nbackend=original\nprotocol=auto\nheartbeat_text=\":\\x3b \\\\ \\t\\n\\n\"\nheartbeat_at_start=on\n"
		    "backend.heartbeat_in_transaction=on\n[route b]\nlisten = unix:@x, fd:y\nbackend = [::1]:2\n"
		    "protocol=line\nheartbeat_send = \" \\x3b\\\"\\\\\\x01\\xff\\0 \\n\"\nclient.heartbeat_expect=;a\nclient.user_timeout = off\n",
		"[stent]\nlog=file:/x y\ncontrol=off\nadmin=off\nuser=off\nmax_flows=7\n[defaults]\nkeepalive=off\nheartbeat=1ms\n"
		    "heartbeat_misses=off\nheartbeat_limit=off\nurgent=on\non_dead=reset\ncancel_on_death=off\n"
		    "[route a]\nlisten=:1\nbackend=b:1\n[route b]\nlisten=:2\nbackend=b:1\nprotocol=both\n"
		    "[route c]\nlisten=:3\nbackend=b:1\nprotocol=server\n[route d]\nlisten=:4\nbackend=b:1\nprotocol=demand\n"
		    "client.heartbeat_kind=early\nheartbeat_timeout=1s\ndns_ttl=0\n",
		"[defaults]\ndetect=9s\n[route a]\nlisten=:1\nbackend=b:1\n[route b]\nlisten=:2\nbackend=b:1\nprotocol=both\n"
		    "[route c]\nlisten=:3\nbackend=b:1\nprotocol=auto\nbackend.detect=1h\n[route d]\nlisten=:4\nbackend=b:1\nprotocol=server\n"
		    "client.detect=off\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct config *c = read_text(texts[i]), *again;
		char *first, *second;

		if (c == NULL)
			fail_msg("%s", told);
		first = print(c);
		again = read_text(first);
		if (again == NULL)
			fail_msg("%s%s", told, first);
		second = print(again);
		assert_string_equal(first, second);
		free(first);
		free(second);
		config_release(c);
		config_release(again);
	}
}

/* --- inih's traps --- */

static void
test_lines_end_as_they_like(void **state)
{
	static const char crlf[] = "\xef\xbb\xbf[route r]\r\n\r\n  listen = :80 \r\n\tbackend\t=\tdb:80\t; there\r\n# x\r\n ; y";
	struct config *c = read_text(crlf);

	(void)state;
	if (c == NULL)
		fail_msg("%s", told);
	assert_string_equal(c->routes->backend[0].text, "db:80");
	config_release(c);
}

/* A section without keys, a name and a line of the maximum length: nothing is cut. */
static void
test_nothing_is_cut(void **state)
{
	char text[16384], list[3900];
	struct config *c;
	size_t len = 0;

	(void)state;
	while (len + 20 < sizeof(list))
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%sbackend-%zu:5432", len > 0 ? "," : "", len);
	snprintf(text, sizeof(text), "[stent]\n[defaults]\n[route abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN]\nlisten = :80\n"
	    "backend = %s\n", list);
	c = read_text(text);
	if (c == NULL)
		fail_msg("%s", told);
	assert_string_equal(c->routes->name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN");
	assert_true(c->routes->n_backend > 150);
	assert_string_equal(c->routes->backend[c->routes->n_backend - 1].text, strrchr(list, ',') + 1);
	config_release(c);
}

static void
test_long_lines_are_refused(void **state)
{
	char text[8192];

	(void)state;
	for (int n = 4080; n < 4110; n++) {
		struct config *c;

		snprintf(text, sizeof(text), "[route r]\nlisten = :80\nbackend = db:80 ;%*s\n", n - 17, "x");
		c = read_text(text);
		config_release(c);
		if (n <= 4094)
			assert_non_null(c);
		else
			assert_non_null(strstr(told, ":3: the line has "));
	}
	snprintf(text, sizeof(text), "[route r]\nlisten = :80\nbackend = db:80\n;%*s\n", 8000, "x");
	config_release(read_text(text));
	assert_string_equal(told, "");		/* a comment may be as long as it likes */
}

static int
make_file(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	return fd < 0 ? -1 : close(fd);
}

static int
remove_file(void **state)
{
	(void)state;
	free(told);
	return unlink(path);
}

static void
add_change(const struct config_change *c, void *arg)
{
	fprintf(arg, "%s/%s: %s > %s%s\n", c->route != NULL ? c->route : "-", c->key != NULL ? c->key : "-",
	    c->from != NULL ? c->from : "-", c->to != NULL ? c->to : "-", c->needs_restart ? " (restart)" : "");
}

static void
test_changes_are_told_key_by_key(void **state)
{
	struct config *a = read_text("[stent]\nworkers = 2\nlog_level = warn\n[route r]\nlisten = :1\nbackend = h:2\nprotocol = both\n"
	    "[route gone]\nlisten = :3\nbackend = h:4\n");
	struct config *b = read_text("[stent]\nworkers = 3\nlog_level = warn\n[route new]\nlisten = :3\nbackend = h:4\n"
	    "[route r]\nlisten = :1\nbackend = h:2\nprotocol = both\nbackend.heartbeat = 7s\n");
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	(void)state;
	assert_non_null(a);
	assert_non_null(b);
	assert_int_equal(config_compare(a, b, add_change, out), 0);
	assert_int_equal(config_compare(b, b, add_change, out), 0);
	fclose(out);
	assert_string_equal(text, "-/workers: 2 > 3 (restart)\ngone/-: tcp > -\nnew/-: - > tcp\nr/backend.heartbeat: 50s > 7s\n");
	free(text);
	assert_int_equal(config_keep(b, a), 0);
	assert_int_equal(b->workers, 2);
	config_release(a);
	config_release(b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_default_is_good),
		cmocka_unit_test(test_every_key_is_found_by_its_name),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_process_keys),
		cmocka_unit_test(test_what_wins),
		cmocka_unit_test(test_what_follows_from_detect),
		cmocka_unit_test(test_each_detect_leaves_chances),
		cmocka_unit_test(test_detect_of_a_protocol_to_be_found),
		cmocka_unit_test(test_values_by_hand_that_are_too_late_for_detect),
		cmocka_unit_test(test_probes_are_below_every_limit),
		cmocka_unit_test(test_what_follows_from_a_profile),
		cmocka_unit_test(test_a_protocol_without_heartbeats_behind_what_counts_data),
		cmocka_unit_test(test_routes_are_apart),
		cmocka_unit_test(test_keepalive),
		cmocka_unit_test(test_heartbeats),
		cmocka_unit_test(test_heartbeats_of_a_protocol_to_be_found),
		cmocka_unit_test(test_heartbeats_that_cannot_be),
		cmocka_unit_test(test_defaults_are_ignored_where_useless),
		cmocka_unit_test(test_text_of_comments),
		cmocka_unit_test(test_misses),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_from_args),
		cmocka_unit_test(test_former_names_are_suggested),
		cmocka_unit_test(test_all_wrong_args_are_reported),
		cmocka_unit_test(test_printed_settings_read_back),
		cmocka_unit_test(test_lines_end_as_they_like),
		cmocka_unit_test(test_nothing_is_cut),
		cmocka_unit_test(test_long_lines_are_refused),
		cmocka_unit_test(test_changes_are_told_key_by_key),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
