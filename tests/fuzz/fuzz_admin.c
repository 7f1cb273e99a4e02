/*
 * fuzz_admin.c - requests that nobody would send to the control socket (FUZZ_HTTP undefined) or the HTTP server, on a made-up
 * server, over real sockets.
 *
 * Each input is one connection's bytes. The control socket answers with JSON, a line, and the end of file, or streams
 * events, a JSON text a line. HTTP answers with HTTP, and nothing that came over it changes the server.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <event2/event.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fake_server.h"
#include "stent/admin.h"
#include "stent/log.h"

#define IDLE_TURNS 4	/* of the event loop without a byte: no more will come */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct server server;
static struct event_base *base;
static union { struct sockaddr any; struct sockaddr_in in; struct sockaddr_un un; } to;
static socklen_t to_len;

#ifdef FUZZ_HTTP
/* Free a moment ago. */
static void
set_address(void)
{
	static char text[32];
	const int fd = socket(AF_INET, SOCK_STREAM, 0);

	to.in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	to_len = sizeof(to.in);
	if (bind(fd, &to.any, to_len) < 0 || getsockname(fd, &to.any, &to_len) < 0)
		abort();
	close(fd);
	snprintf(text, sizeof(text), "127.0.0.1:%d", ntohs(to.in.sin_port));
	server.config.admin = text;
}
#else
static char path[64];

static void
remove_socket(void)
{
	unlink(path);
}

static void
set_address(void)
{
	snprintf(path, sizeof(path), "/tmp/stent-fuzz-%d.sock", (int)getpid());
	to.un.sun_family = AF_UNIX;
	snprintf(to.un.sun_path, sizeof(to.un.sun_path), "%s", path);
	to_len = sizeof(to.un);
	server.config.control = path;
	atexit(remove_socket);
}
#endif

static void
set_up(void)
{
	static struct admin *admin;
	const struct log_settings quiet = { .target = TARGET_FILE, .path = "/dev/null", .level = LEVEL_ERROR };

	if (log_open(&quiet) < 0)
		abort();
	fake_server_init(&server);
	set_address();
	base = event_base_new();
	if (base == NULL || admin_start(&admin, &server, base) < 0)
		abort();
}

static void
turn(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
}

/* The answer as far as it has come, with a NUL behind it; *ended: with the end of file. */
static size_t
receive(int fd, char *text, size_t room, bool *ended)
{
	size_t got = 0;
	ssize_t n;

	*ended = false;
	for (int idle = 0; idle < IDLE_TURNS && got < room - 1 && !*ended; idle++) {
		turn();
		n = recv(fd, text + got, room - 1 - got, MSG_DONTWAIT);
		if (n > 0) {
			got += (size_t)n;
			idle = -1;
		}
		*ended = n == 0;
	}
	text[got] = '\0';
	return got;
}

#ifdef FUZZ_HTTP
static void
judge(const char *text, size_t got, bool ended, const uint8_t *request, size_t size)
{
	(void)ended;
	(void)request;
	(void)size;
	if (got >= 13)
		assert(strncmp(text, "HTTP/1.", 7) == 0 && atoi(text + 9) >= 100 && atoi(text + 9) < 600);
	assert(server.drains == 0 && server.workers[0].n_flows == 2 && server.workers[1].n_flows == 1 && !server.is_paused);
}
#else
static void
judge(const char *text, size_t got, bool ended, const uint8_t *request, size_t size)
{
	const char *end = memchr(text, '\n', got);
	json_t *j;

	if (memchr(request, '\n', size) == NULL && size <= 512)
		return;		/* it is no request yet */
	if (got == 0) {
		assert(size >= 6 && memcmp(request, "events", 6) == 0);		/* none has happened */
		return;
	}
	j = json_loadb(text, got, JSON_REJECT_DUPLICATES | JSON_DISABLE_EOF_CHECK, NULL);
	assert(j != NULL && json_is_object(j) == (text[0] == '{') && end != NULL && (!ended || text[got - 1] == '\n'));
	json_decref(j);
}
#endif

/* What a request can change. */
static void
restore(void)
{
	server.draining = server.is_paused = server.reload_fails = false;
	server.drains = 0;
	if (server.workers[0].n_flows == 2 && server.workers[1].n_flows == 1)
		return;
	for (size_t i = 0; i < FAKE_WORKERS; i++)
		server.workers[i].n_flows = 0;
	fake_server_add_flow(&server, 0, 1);
	fake_server_add_flow(&server, 1, 2);
	fake_server_add_flow(&server, 0, 3);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char text[256 * 1024];
	const struct linger at_once = { .l_onoff = 1 };
	bool ended;
	size_t got;
	int fd;

	if (base == NULL)
		set_up();
	fd = socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, &to.any, to_len) < 0)
		abort();
	turn();
	if (size > 0)
		(void)send(fd, data, size, MSG_NOSIGNAL);
	shutdown(fd, SHUT_WR);
	got = receive(fd, text, sizeof(text), &ended);
	judge(text, got, ended, data, size);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(fd);
	turn();
	restore();
	return 0;
}
