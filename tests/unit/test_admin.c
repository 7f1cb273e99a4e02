/* test_admin.c - tests of the control socket and HTTP, on a fake server. */
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin/serve.h"
#include "fake_server.h"
#include "stent/admin.h"
#include "stent/log.h"

#include <event2/buffer.h>

static struct server server;
static struct event_base *base;
static struct admin *admin;
static char dir[64], control[128], http[32];

/* --- requests, in one thread: the event loop runs while we wait --- */

static int64_t
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void
turn(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
}

static int
connect_to(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%.*s", (int)sizeof(addr.sun_path) - 1, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static int
connect_http(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	addr.sin_port = htons((uint16_t)atoi(strchr(http, ':') + 1));
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

/* Everything up to the end of file; closes fd. The text is good until the next call. */
static const char *
receive(int fd)
{
	static char text[512 * 1024];
	int64_t until = now_ms() + 5000;
	size_t got = 0;
	ssize_t n;

	for (;;) {
		turn();
		n = recv(fd, text + got, sizeof(text) - 1 - got, MSG_DONTWAIT);
		if (n == 0)
			break;
		if (n > 0)
			got += (size_t)n;
		else if (errno != EAGAIN)
			fail_msg("%s", strerror(errno));
		assert_true(now_ms() < until);
	}
	close(fd);
	turn();
	text[got] = '\0';
	return text;
}

static json_t *
parse(const char *text)
{
	json_error_t error;
	json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, &error);

	if (j == NULL)
		fail_msg("%s: %s", error.text, text);
	return j;
}

static json_t *
ask(const char *request)
{
	int fd = connect_to(control);

	assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
	return parse(receive(fd));
}

static void
assert_error(const char *request, const char *expected)
{
	json_t *j = ask(request);
	const char *text = json_string_value(json_object_get(j, "error"));

	assert_non_null(text);
	if (strstr(text, expected) == NULL)
		fail_msg("%s: not %s", text, expected);
	json_decref(j);
}

/* The connection ends with the reply. */
static const char *
ask_http(const char *request)
{
	static char text[32 * 1024];
	const int line = (int)strcspn(request, "\r\n"), fd = connect_http();

	snprintf(text, sizeof(text), "%.*s\r\nConnection: close%s", line, request, request + line);
	assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
	return receive(fd);
}

static const char *
get(const char *path)
{
	char request[256];

	snprintf(request, sizeof(request), "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", path, http);
	return ask_http(request);
}

static const char *
body(const char *response)
{
	return strstr(response, "\r\n\r\n") + 4;
}

static void
assert_status(const char *response, int status)
{
	if (strncmp(response, "HTTP/1.1 ", 9) != 0 || atoi(response + 9) != status)
		fail_msg("not %d: %.200s", status, response);
}

static json_int_t
number(const json_t *j, const char *name)
{
	assert_true(json_is_integer(json_object_get(j, name)));
	return json_integer_value(json_object_get(j, name));
}

static const char *
string(const json_t *j, const char *name)
{
	return json_string_value(json_object_get(j, name));
}

static void
ids_of(const json_t *list, char *text, size_t size)
{
	size_t used = 0, i;
	json_t *flow;

	text[0] = '\0';
	json_array_foreach(list, i, flow)
		used += (size_t)snprintf(text + used, size - used, "%lld ", (long long)number(flow, "id"));
}

/* --- set-up --- */

static int
start(void **state)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/stent-admin-XXXXXX");
	if (mkdtemp(dir) == NULL || bind(fd, (struct sockaddr *)&addr, len) < 0 ||
	    getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
		return -1;
	close(fd);	/* a port that was free a moment ago */
	snprintf(http, sizeof(http), "127.0.0.1:%d", ntohs(addr.sin_port));
	snprintf(control, sizeof(control), "%s/run/control.sock", dir);
	fake_server_init(&server);
	server.config.control = control;
	server.config.admin = http;
	base = event_base_new();
	alarm(60);
	return admin_start(&admin, &server, base);
}

static int
stop(void **state)
{
	char folder[80];

	(void)state;
	admin_free(admin);
	admin = NULL;
	event_base_free(base);
	libevent_global_shutdown();
	snprintf(folder, sizeof(folder), "%s/run", dir);
	rmdir(folder);
	return rmdir(dir);
}

/* --- the control socket --- */

static void
test_status_sums_the_workers(void **state)
{
	json_t *j = ask("status\n"), *ended = json_object_get(j, "ended");

	(void)state;
	assert_string_equal(string(j, "version"), STENT_VERSION);
	assert_string_equal(string(j, "settings"), "/etc/stent.ini");
	assert_int_equal(number(j, "pid"), getpid());
	assert_int_equal(number(j, "max_flows"), 4000);
	assert_int_equal(number(j, "flows_open"), 3);
	assert_int_equal(number(j, "flows_total"), 1010);
	assert_int_equal(number(json_object_get(j, "bytes"), "client"), 202);
	assert_int_equal(number(json_object_get(j, "bytes"), "backend"), 303);
	assert_int_equal(number(json_object_get(j, "heartbeats"), "client"), 404);
	assert_int_equal(number(json_object_get(j, "heartbeats"), "backend"), 505);
	assert_int_equal(number(json_object_get(j, "replies"), "client"), 606);
	assert_int_equal(number(json_object_get(j, "replies"), "backend"), 707);
	assert_int_equal(json_object_size(json_object_get(j, "passthrough")), 2);
	assert_int_equal(number(json_object_get(j, "passthrough"), "TLS"), 810);
	assert_int_equal(number(json_object_get(j, "passthrough"), "bad \"length\""), 1);
	assert_int_equal(json_object_size(ended), 2);
	assert_int_equal(number(ended, "client-fin"), 909);
	assert_int_equal(number(ended, "drain"), 1);
	assert_true(json_is_false(json_object_get(j, "draining")));
	json_decref(j);
}

static void
test_status_lists_the_routes(void **state)
{
	json_t *j = ask("status\n"), *routes = json_object_get(j, "routes");
	json_t *pg = json_array_get(routes, 0), *ws = json_array_get(routes, 1);
	json_t *client = json_object_get(pg, "client"), *backend = json_object_get(pg, "backend");

	(void)state;
	assert_int_equal(json_array_size(routes), 2);
	assert_string_equal(string(pg, "name"), "pg");
	assert_int_equal(json_array_size(json_object_get(pg, "backends")), 2);
	assert_int_equal(number(json_object_get(client, "keepalive"), "idle_seconds"), 60);
	assert_true(json_real_value(json_object_get(client, "user_timeout_seconds")) == 120);
	assert_string_equal(string(client, "heartbeat_kind"), "oneway");
	assert_true(json_real_value(json_object_get(backend, "heartbeat_seconds")) == 2.5);
	assert_true(json_is_null(json_object_get(backend, "keepalive")));
	assert_string_equal(string(ws, "name"), "w\"<i>?");		/* bytes that are no UTF-8 */
	assert_true(json_is_true(json_object_get(json_object_get(ws, "client"), "heartbeat_is_auto")));
	json_decref(j);
}

static void
test_flows_show_both_legs(void **state)
{
	json_t *list = ask("flows\n"), *flow = json_array_get(list, 0);
	json_t *client = json_object_get(flow, "client"), *backend = json_object_get(flow, "backend");

	(void)state;
	assert_int_equal(json_array_size(list), 3);
	assert_int_equal(number(flow, "id"), 3);	/* the oldest first */
	assert_string_equal(string(flow, "route"), "pg");
	assert_string_equal(string(flow, "state"), "half-closed");
	assert_string_equal(string(flow, "backend_name"), "db1:5432");
	assert_string_equal(string(client, "address"), "192.0.2.1:5003");
	assert_int_equal(number(client, "bytes"), 333333);
	assert_int_equal(number(client, "heartbeats"), 3);
	assert_int_equal(number(client, "replies"), 2);
	assert_true(json_real_value(json_object_get(client, "rtt_ms")) == 1.234);
	assert_true(json_real_value(json_object_get(client, "idle_seconds")) == 1.5);
	assert_true(json_is_null(json_object_get(backend, "rtt_ms")));
	assert_true(json_is_true(json_object_get(backend, "fin")));
	flow = json_array_get(list, 1);
	assert_string_equal(string(flow, "state"), "connecting");
	assert_true(json_is_null(json_object_get(flow, "backend_name")));
	assert_string_equal(string(json_array_get(list, 2), "state"), "ending");
	json_decref(list);
}

static void
test_flows_have_the_requested_order_and_limit(void **state)
{
	static const struct { const char *request, *ids; } cases[] = {
		{ "flows sort=age\n", "3 2 1 " }, { "flows sort=new\n", "1 2 3 " },
		{ "flows sort=bytes\n", "1 2 3 " }, { "flows sort=idle\n", "3 2 1 " },
		{ "flows sort=rtt\n", "1 2 3 " },	/* all the same: by id */
		{ "flows limit=2\n", "3 2 " }, { "flows limit=0\n", "" },
		{ "flows sort=new limit=1\r\n", "1 " }, { "flows limit=99999999999999\n", "3 2 1 " },
	};
	char ids[64];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *list = ask(cases[i].request);

		ids_of(list, ids, sizeof(ids));
		assert_string_equal(ids, cases[i].ids);
		json_decref(list);
	}
	assert_error("flows sort=color\n", "\"sort=color\" is unknown");
	assert_error("flows limit=-1\n", "\"limit=-1\" is unknown");
	assert_error("flows limit=\n", "\"limit=\" is unknown");
	assert_error("flows limit=1x\n", "\"limit=1x\" is unknown");
}

static void
test_kernel_facts_are_read_only_for_shown_flows(void **state)
{
	json_t *list;

	(void)state;
	for (uint64_t id = 100; id < 200; id++)
		fake_server_add_flow(&server, id % 2, id);
	fake_server_asked = 0;
	list = ask("flows limit=5\n");
	assert_int_equal(fake_server_asked, 5);
	for (int i = 0; i < 5; i++) {
		json_t *flow = json_array_get(list, (size_t)i);

		assert_int_equal(number(flow, "id"), 199 - i);
		assert_true(json_real_value(json_object_get(json_object_get(flow, "backend"), "rtt_ms")) == (199 - i) / 1000.0);
	}
	json_decref(list);
	fake_server_asked = 0;
	json_decref(ask("flows limit=5 sort=rtt\n"));
	assert_int_equal(fake_server_asked, 103);	/* it decides */
}

static void
test_many_flows_pass_whole(void **state)
{
	json_t *list;

	(void)state;
	for (uint64_t id = 10; id < 500; id++)
		fake_server_add_flow(&server, id % 2, id);
	list = ask("flows limit=1000\n");
	assert_int_equal(json_array_size(list), 493);
	json_decref(list);
	list = ask("flows\n");
	assert_int_equal(json_array_size(list), 100);
	json_decref(list);
}

static void
test_kill_finds_the_worker(void **state)
{
	json_t *j = ask("kill 2\n");

	(void)state;
	assert_int_equal(number(j, "killed"), 2);
	json_decref(j);
	assert_int_equal(server.workers[1].killed_for, REASON_ADMIN_KILL);
	assert_int_equal(server.workers[1].n_flows, 0);
	assert_int_equal(server.workers[0].n_flows, 2);
	assert_error("kill 2\n", "no flow with id 2");
	assert_error("kill\n", "kill takes the id");
	assert_error("kill -1\n", "\"-1\" is unknown");
	assert_error("kill 1x\n", "kill takes the id");
	assert_error("kill 99999999999999999999\n", "kill takes the id");
	assert_int_equal(server.workers[0].n_flows, 2);
}

static void
test_reload_answers_with_the_changes_or_with_every_error(void **state)
{
	json_t *j = ask("reload\n"), *change = json_array_get(json_object_get(j, "changes"), 0);

	(void)state;
	assert_true(json_is_true(json_object_get(j, "reloaded")));
	assert_string_equal(string(change, "key"), "client.heartbeat");
	assert_string_equal(string(change, "to"), "2m");
	assert_true(json_is_false(json_object_get(change, "needs_restart")));
	json_decref(j);
	j = ask("reload dry-run\n");
	assert_true(json_is_false(json_object_get(j, "reloaded")));
	assert_int_equal(json_array_size(json_object_get(j, "changes")), 1);
	json_decref(j);
	server.reload_fails = true;
	j = ask("reload\n");
	assert_int_equal(json_array_size(json_object_get(j, "errors")), 2);
	assert_string_equal(json_string_value(json_array_get(json_object_get(j, "errors"), 1)), "/etc/stent.ini:7: no such value");
	assert_null(json_object_get(j, "changes"));
	json_decref(j);
	assert_error("reload later\n", "reload takes");
}

static void
test_pause_and_resume(void **state)
{
	json_t *j = ask("pause for=2500 pg\n"), *pause;

	(void)state;
	assert_true(json_real_value(json_object_get(j, "for_seconds")) == 2.5);
	assert_int_equal(server.paused_ms, 2500);
	json_decref(j);
	j = ask("status\n");
	pause = json_object_get(json_array_get(json_object_get(j, "routes"), 0), "paused");
	assert_int_equal(number(pause, "clients_waiting"), 3);
	assert_true(json_is_null(json_object_get(json_array_get(json_object_get(j, "routes"), 1), "paused")));
	json_decref(j);
	j = ask("resume pg\n");
	assert_int_equal(number(j, "waited"), 3);
	json_decref(j);
	assert_error("resume pg\n", "not paused");
	assert_error("resume a route\n", "there is no route \"a route\"");
	assert_error("pause\n", "pause takes");
}

/* A second `drain` must not end the flows at once, as a second SIGTERM would. */
static void
test_drain_once_and_now(void **state)
{
	json_t *j = ask("drain\n");

	(void)state;
	assert_true(json_is_true(json_object_get(j, "draining")));
	assert_int_equal(number(j, "flows_open"), 3);
	assert_true(json_real_value(json_object_get(j, "drain_timeout_seconds")) == 30);
	json_decref(j);
	assert_int_equal(server.drains, 1);
	json_decref(ask("drain\n"));
	assert_int_equal(server.drains, 1);
	assert_error("drain later\n", "drain takes");
	json_decref(ask("drain now\n"));
	assert_int_equal(server.drains, 2);
}

static void
test_health(void **state)
{
	json_t *j = ask("health\n");

	(void)state;
	assert_true(json_is_true(json_object_get(j, "healthy")));
	json_decref(j);
	server.draining = true;
	j = ask("health\n");
	assert_true(json_is_false(json_object_get(j, "healthy")));
	assert_string_equal(string(j, "why"), "draining");
	json_decref(j);
}

static void
test_an_invalid_request_gets_an_error(void **state)
{
	char nonsense[600];

	(void)state;
	assert_error("\n", "empty");
	assert_error("explode\n", "unknown command \"explode\"");
	assert_error("status now\n", "too many arguments");
	assert_error("flows a b c d e f g h i\n", "too many arguments");
	assert_error("\xff\xfe\n", "not UTF-8");
	memset(nonsense, 'x', sizeof(nonsense));
	nonsense[512] = '\0';
	assert_error(nonsense, "too long");
}

static void
test_a_request_may_come_byte_by_byte(void **state)
{
	int fd = connect_to(control);
	json_t *j;

	(void)state;
	for (const char *s = "health\n"; *s != '\0'; s++) {
		assert_int_equal(send(fd, s, 1, 0), 1);
		turn();
	}
	j = parse(receive(fd));
	assert_true(json_is_true(json_object_get(j, "healthy")));
	json_decref(j);
}

static bool
is_closed(int fd)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, 0) == 1 && (p.revents & POLLHUP) != 0;
}

/* At the limit of clients, a new one replaces the oldest whose request is incomplete. */
static void
test_a_request_is_served_beside_idle_clients(void **state)
{
	int fds[32], fd;
	json_t *j;

	(void)state;
	for (size_t i = 0; i < 32; i++) {
		fds[i] = connect_to(control);
		turn();
	}
	assert_int_equal(send(fds[0], "heal", 4, 0), 4);	/* the oldest has begun to */
	turn();
	fd = connect_to(control);
	assert_int_equal(send(fd, "health\n", 7, 0), 7);
	turn();						/* at once, not in a round to come */
	j = parse(receive(fd));
	assert_true(json_is_true(json_object_get(j, "healthy")));
	json_decref(j);
	assert_true(is_closed(fds[0]));
	for (size_t i = 1; i < 32; i++)
		assert_false(is_closed(fds[i]));
	for (size_t i = 0; i < 32; i++)
		close(fds[i]);
	turn();
}

static void
test_socket_is_its_owners_alone(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(lstat(control, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(umask(022), 022);	/* what it was before */
}

static void
test_live_socket_is_not_taken(void **state)
{
	struct admin *second = NULL;
	json_t *j;

	(void)state;
	server.config.admin = NULL;
	assert_int_equal(admin_start(&second, &server, base), -EADDRINUSE);
	server.config.control_is_default = true;	/* a default that is unavailable is no error */
	assert_int_equal(admin_start(&second, &server, base), 0);
	admin_free(second);
	j = ask("health\n");				/* and the first still has it */
	assert_true(json_is_true(json_object_get(j, "healthy")));
	json_decref(j);
}

static void
test_stale_socket_is_replaced(void **state)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char path[80];
	struct admin *second;
	struct stat st;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	snprintf(path, sizeof(path), "%s/stale", dir);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%.*s", (int)sizeof(addr.sun_path) - 1, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	close(fd);
	server.config.admin = NULL;
	server.config.control = path;
	assert_int_equal(admin_start(&second, &server, base), 0);
	fd = connect_to(path);
	close(fd);
	admin_free(second);
	assert_int_equal(lstat(path, &st), -1);		/* and gone at the end */
}

static void
test_what_is_no_socket_is_left_alone(void **state)
{
	char path[80];
	struct admin *second;
	struct stat st;

	(void)state;
	snprintf(path, sizeof(path), "%s/file", dir);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	server.config.admin = NULL;
	server.config.control = path;
	assert_int_equal(admin_start(&second, &server, base), -EEXIST);
	assert_int_equal(lstat(path, &st), 0);
	unlink(path);
	server.config.control = "/nonexistent/folder/control.sock";
	assert_int_equal(admin_start(&second, &server, base), -ENOENT);
}

/* A socket that another process made at the same path is not removed. */
static void
test_only_our_own_socket_is_removed(void **state)
{
	struct admin *second;
	struct stat st;

	(void)state;
	server.config.admin = NULL;
	assert_int_equal(unlink(control), 0);
	assert_int_equal(admin_start(&second, &server, base), 0);
	admin_free(admin);
	admin = second;
	assert_int_equal(lstat(control, &st), 0);
}

/* --- HTTP --- */

static void
test_page(void **state)
{
	const char *response = get("/");

	(void)state;
	assert_status(response, 200);
	assert_non_null(strstr(response, "Content-Type: text/html; charset=utf-8\r\n"));
	assert_non_null(strstr(response, "Content-Security-Policy: default-src 'none'; style-src 'sha256-"));
	assert_non_null(strstr(response, "X-Content-Type-Options: nosniff\r\n"));
	assert_null(strcasestr(response, "Access-Control"));
	assert_non_null(strstr(body(response), "</script>"));
	assert_int_equal(atoi(strstr(response, "Content-Length: ") + 16), strlen(body(response)));
}

static void
test_json_over_http(void **state)
{
	json_t *j = parse(body(get("/status")));
	char ids[64];

	(void)state;
	assert_int_equal(number(j, "flows_total"), 1010);
	json_decref(j);
	j = parse(body(get("/flows?limit=2&sort=new")));
	ids_of(j, ids, sizeof(ids));
	assert_string_equal(ids, "1 2 ");
	json_decref(j);
	assert_status(get("/flows?limit=x"), 400);
	assert_status(get("/flows?kill=1"), 400);
}

static void
test_health_over_http(void **state)
{
	const char *response = get("/healthz");

	(void)state;
	assert_status(response, 200);
	assert_string_equal(body(response), "ok\n");
	server.draining = true;
	response = get("/healthz");
	assert_status(response, 503);
	assert_string_equal(body(response), "draining\n");
}

/* The same text is one reason wherever it is stored; what does not fit is "other". */
static void
test_passthrough_is_counted_by_reason(void **state)
{
	static char reasons[PASSTHROUGH_ROWS + 9][8];
	static char again[] = "r0";
	struct passthrough_count counts[PASSTHROUGH_ROWS] = { 0 };
	const struct passthrough_count *last = &counts[PASSTHROUGH_ROWS - 1];

	(void)state;
	assert_null(passthrough_reason(&counts[0]));
	for (size_t i = 0; i < PASSTHROUGH_ROWS + 9; i++) {
		snprintf(reasons[i], sizeof(reasons[i]), "r%zu", i);
		passthrough_add(counts, reasons[i], 2);
	}
	passthrough_add(counts, again, 5);
	assert_string_equal(passthrough_reason(&counts[0]), "r0");
	assert_int_equal(counts[0].flows, 7);
	assert_int_equal(counts[PASSTHROUGH_ROWS - 2].flows, 2);
	assert_string_equal(passthrough_reason(last), "other");
	assert_int_equal(last->flows, 20);
	passthrough_add(counts, "other", 1);
	assert_int_equal(last->flows, 21);
}

/* Each sample belongs to the family announced before it, and each family has HELP and TYPE. */
static void
test_metrics(void **state)
{
	static char text[64 * 1024];
	char family[64] = "";
	int families = 0, samples = 0;
	bool is_histogram = false;

	(void)state;
	snprintf(text, sizeof(text), "%s", body(get("/metrics")));
	assert_non_null(strstr(text, "\nstent_flows_ended_total{route=\"pg\",reason=\"client-fin\"} 909\n"));
	assert_non_null(strstr(text, "\nstent_flows_ended_total{route=\"pg\",reason=\"backend-refused\"} 0\n"));
	assert_non_null(strstr(text, "\nstent_worker_flows{worker=\"0\"} 2\n"));
	assert_non_null(strstr(text, "\nstent_worker_flows{worker=\"1\"} 1\n"));
	assert_non_null(strstr(text, "\nstent_heartbeat_replies_total{route=\"pg\",side=\"backend\"} 707\n"));
	assert_non_null(strstr(text, "\nstent_passthrough_flows_total{route=\"pg\",reason=\"TLS\"} 810\n"));
	assert_non_null(strstr(text, "\nstent_passthrough_flows_total{route=\"pg\",reason=\"bad \\\"length\\\"\"} 1\n"));
	assert_non_null(strstr(text, "\nstent_passthrough_flows_total{route=\"pg\",reason=\"other\"} 0\n"));
	assert_non_null(strstr(text, "\nstent_flows_total{route=\"w\\\"<i>?\"} 0\n"));
	assert_non_null(strstr(text, "\nstent_backend_up{route=\"pg\",backend=\"db1:5432\"} 1\n"));
	assert_non_null(strstr(text, "\nstent_backend_up{route=\"pg\",backend=\"db2:5432\"} 0\n"));
	assert_non_null(strstr(text, "\nstent_uptime_seconds 12.345\n"));
	for (char *save, *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		char name[64], type[16];

		if (sscanf(line, "# HELP %63s ", family) == 1)
			continue;
		if (sscanf(line, "# TYPE %63s %15s", name, type) == 2) {
			assert_string_equal(name, family);
			assert_true(strcmp(type, "gauge") == 0 || strcmp(type, "counter") == 0 || strcmp(type, "histogram") == 0);
			is_histogram = strcmp(type, "histogram") == 0;
			if (strcmp(type, "counter") == 0)
				assert_string_equal(name + strlen(name) - 6, "_total");
			families++;
			continue;
		}
		if (!is_histogram)
			assert_int_equal(strcspn(line, "{ "), strlen(family));
		assert_memory_equal(line, family, strlen(family));
		samples++;
	}
	assert_true(families >= 10);
	assert_true(samples > 30);
}

static void
test_accepted_hosts(void **state)
{
	static const struct { const char *host; int status; } cases[] = {
		{ "127.0.0.1", 200 }, { "127.0.0.1:9464", 200 }, { "192.0.2.77:80", 200 }, { "[::1]:9464", 200 },
		{ "[2001:db8::1]", 200 }, { "localhost", 200 }, { "LocalHost:9464", 200 }, { "stent:9464", 200 },
		{ "evil.example:9464", 403 }, { "127.0.0.1.evil.example", 403 }, { "localhost.evil.example", 403 },
		{ "[::1].evil.example", 403 }, { "", 403 }, { "[]", 403 }, { "[evil.example]", 403 }, { ":80", 403 },
	};
	char request[256];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(request, sizeof(request), "GET /status HTTP/1.1\r\nAccept: */*\r\nhOST: \t%s\r\n\r\n",
		    cases[i].host);
		assert_status(ask_http(request), cases[i].status);
	}
	assert_non_null(strstr(ask_http("GET / HTTP/1.1\r\nHost: db1.example:1\r\n\r\n"),
	    "write admin_hosts = db1.example in [stent]"));
	assert_null(strchr(ask_http("GET / HTTP/1.1\r\nHost: \033[31m.example\r\n\r\n"), '\033'));
	server.config.admin_hosts = "a.example, db1.example";
	assert_status(ask_http("GET /healthz HTTP/1.1\r\nHost: DB1.example.:1\r\n\r\n"), 200);
	assert_status(ask_http("GET /healthz HTTP/1.1\r\nHost: a.example\r\n\r\n"), 200);
	assert_status(ask_http("GET /healthz HTTP/1.1\r\nHost: example\r\n\r\n"), 200);
	assert_status(ask_http("GET /healthz HTTP/1.1\r\nHost: b.example\r\n\r\n"), 403);
	assert_status(ask_http("GET /healthz HTTP/1.1\r\nHost: a.example, db1.example\r\n\r\n"), 403);
	assert_status(ask_http("GET /status HTTP/1.1\r\n\r\n"), 400);
	assert_status(ask_http("GET /status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"), 400);
	assert_status(ask_http("GET /healthz HTTP/1.0\r\n\r\n"), 200);
}

static void
test_nothing_can_be_changed_over_http(void **state)
{
	static const char *const methods[] = { "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "get", "CONNECT" };
	char request[128];

	(void)state;
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		snprintf(request, sizeof(request), "%s /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
		    methods[i]);
		assert_status(ask_http(request), 405);
	}
	assert_status(get("/kill"), 404);
	assert_status(get("/drain"), 404);
	assert_int_equal(server.drains, 0);
}

static void
test_head_has_no_body(void **state)
{
	const char *response = ask_http("HEAD /status HTTP/1.1\r\nHost: localhost\r\n\r\n");

	(void)state;
	assert_status(response, 200);
	assert_string_equal(body(response), "");
	assert_true(atoi(strstr(response, "Content-Length: ") + 16) > 100);
}

static void
test_what_is_no_http(void **state)
{
	static const char *const wrong[] = {
		"\r\n\r\n", "GET\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/2\r\n\r\n", "GET / HTTQ/1.1\r\nHost: localhost\r\n\r\n",
		"GET http://127.0.0.1/ HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
	};
	static char large[20000];

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		const char *response = ask_http(wrong[i]);

		if (response[0] != '\0' && atoi(response + 9) < 400)
			fail_msg("%s: %s", wrong[i], response);
	}
	assert_status(ask_http("GET /healthz HTTP/1.1\nHost: localhost\n\n"), 200);
	memset(large, 'x', sizeof(large) - 1);
	memcpy(large, "GET / HTTP/1.1\r\nX: ", 19);
	assert_status(ask_http(large), 431);
}

static void
test_admin_address_must_be_one(void **state)
{
	struct admin *second;

	(void)state;
	server.config.control = NULL;
	assert_int_equal(admin_start(&second, &server, base), -EADDRINUSE);
	server.config.admin = "nowhere";
	assert_int_equal(admin_start(&second, &server, base), -EINVAL);
	server.config.admin = "unix:/tmp/nowhere";
	assert_int_equal(admin_start(&second, &server, base), -EINVAL);
	server.config.admin_is_default = true;
	assert_int_equal(admin_start(&second, &server, base), 0);
	admin_free(second);
	server.config.admin = NULL;
	assert_int_equal(admin_start(&second, &server, base), 0);
	admin_free(second);
}

/* --- serve.c, which both use --- */

static size_t
whole_line(const char *data, size_t len)
{
	return memchr(data, '\n', len) != NULL ? len : 0;
}

static void
large_response(void *arg, char *request, struct evbuffer *out)
{
	static const char block[65536];

	(void)request;
	*(int *)arg += 1;
	for (int i = 0; i < 64; i++)
		evbuffer_add(out, block, sizeof(block));
}

/* A listener of its own with a protocol of its own. */
static struct serve *
start_serving(const struct serve_protocol *protocol, int *replies, struct sockaddr_un *addr, socklen_t *len)
{
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct serve *serve;

	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	*len = sizeof(*addr);
	assert_int_equal(bind(listener, (struct sockaddr *)addr, sizeof(sa_family_t)), 0);	/* a name of the kernel's */
	assert_int_equal(getsockname(listener, (struct sockaddr *)addr, len), 0);
	assert_int_equal(listen(listener, 100), 0);
	assert_int_equal(serve_start(&serve, base, listener, protocol, replies), 0);
	return serve;
}

static int
connect_there(const struct sockaddr_un *addr, socklen_t len)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_int_equal(connect(fd, (const struct sockaddr *)addr, len), 0);
	return fd;
}

/* One that sends nothing, one that sends slowly, and one that does not read its response: all are dropped in time. */
static void
test_slow_clients_are_dropped(void **state)
{
	static const struct serve_protocol protocol = {
		.max_request = 10, .request_ms = 200, .response_ms = 400, .measure = whole_line, .respond = large_response,
	};
	int64_t began = now_ms(), ended[3] = { 0 };
	struct sockaddr_un addr;
	struct serve *serve;
	int fds[3], replies = 0;
	socklen_t len;

	(void)state;
	serve = start_serving(&protocol, &replies, &addr, &len);
	for (size_t i = 0; i < 3; i++)
		fds[i] = connect_there(&addr, len);
	assert_int_equal(send(fds[2], "x\n", 2, 0), 2);
	for (; (ended[0] == 0 || ended[1] == 0 || ended[2] == 0) && now_ms() < began + 5000; usleep(20000)) {
		turn();
		send(fds[1], "y", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		for (size_t i = 0; i < 3; i++)
			if (ended[i] == 0 && is_closed(fds[i]))
				ended[i] = now_ms() - began;
	}
	for (size_t i = 0; i < 3; i++) {
		assert_true(ended[i] >= 150);
		close(fds[i]);
	}
	assert_true(ended[2] >= 350);
	serve_free(serve);
}

/* Also when there are many, before they are dropped. */
static void
test_those_that_do_not_read_keep_nobody_out(void **state)
{
	static const struct serve_protocol protocol = {
		.max_request = 10, .request_ms = 60000, .response_ms = 60000, .measure = whole_line, .respond = large_response,
	};
	struct sockaddr_un addr;
	struct serve *serve;
	int fds[100], replies = 0;
	socklen_t len;

	(void)state;
	serve = start_serving(&protocol, &replies, &addr, &len);
	for (int i = 0; i < 100; i++) {
		fds[i] = connect_there(&addr, len);
		assert_int_equal(send(fds[i], "x\n", 2, 0), 2);
		turn();
		turn();
		assert_int_equal(replies, i + 1);
	}
	for (int i = 0; i < 100; i++)
		close(fds[i]);
	serve_free(serve);
}

#define FACT(f) cmocka_unit_test_setup_teardown(f, start, stop)

int
main(void)
{
	const struct log_settings quiet = { .target = TARGET_FILE, .path = "/dev/null", .level = LEVEL_ERROR };
	const struct CMUnitTest tests[] = {
		FACT(test_status_sums_the_workers),
		FACT(test_status_lists_the_routes),
		FACT(test_flows_show_both_legs),
		FACT(test_flows_have_the_requested_order_and_limit),
		FACT(test_kernel_facts_are_read_only_for_shown_flows),
		FACT(test_many_flows_pass_whole),
		FACT(test_kill_finds_the_worker),
		FACT(test_reload_answers_with_the_changes_or_with_every_error),
		FACT(test_pause_and_resume),
		FACT(test_drain_once_and_now),
		FACT(test_health),
		FACT(test_an_invalid_request_gets_an_error),
		FACT(test_a_request_may_come_byte_by_byte),
		FACT(test_a_request_is_served_beside_idle_clients),
		FACT(test_socket_is_its_owners_alone),
		FACT(test_live_socket_is_not_taken),
		FACT(test_stale_socket_is_replaced),
		FACT(test_what_is_no_socket_is_left_alone),
		FACT(test_only_our_own_socket_is_removed),
		FACT(test_page),
		FACT(test_json_over_http),
		FACT(test_health_over_http),
		FACT(test_passthrough_is_counted_by_reason),
		FACT(test_metrics),
		FACT(test_accepted_hosts),
		FACT(test_nothing_can_be_changed_over_http),
		FACT(test_head_has_no_body),
		FACT(test_what_is_no_http),
		FACT(test_admin_address_must_be_one),
		FACT(test_slow_clients_are_dropped),
		FACT(test_those_that_do_not_read_keep_nobody_out),
	};

	setvbuf(stdout, NULL, _IOLBF, 0);	/* a test that hangs can be named */
	umask(022);
	if (log_open(&quiet) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
