/* relay_world.c - a relay in this process, with clients and a server of the test. */
#include "relay_world.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "stent/log.h"

struct relay *relay;
struct config *config;
struct relay_counters **counters;
int listener, ended;

static struct event_base *base;
static struct relay_shared *shared;
static char log_path[] = "/tmp/stent-test-log.XXXXXX";

static void
on_end(void *arg, unsigned slot)
{
	(void)arg;
	(void)slot;
	ended++;
}

int
listen_somewhere(struct sockaddr_in *at, int buffer)
{
	socklen_t len = sizeof(*at);
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	*at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	if (buffer > 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
	assert_int_equal(bind(fd, (struct sockaddr *)at, len), 0);
	assert_int_equal(listen(fd, 10), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)at, &len), 0);
	return fd;
}

int
open_backend(void)
{
	struct sockaddr_in at;

	listener = listen_somewhere(&at, 0);
	return ntohs(at.sin_port);
}

void
world_begin(struct config *settings)
{
	config = settings;
	base = event_base_new();
	shared = relay_shared_new(config);
	counters = counters_new(relay_shared_room(shared));
	relay = relay_new(base, config, shared, counters, 0, on_end, NULL);
	assert_non_null(relay);
	ended = 0;
}

void
world_end(void)
{
	relay_free(relay);
	counters_free(counters, relay_shared_room(shared));
	relay_shared_free(shared);
	config_release(config);
	event_base_free(base);
	close(listener);
}

void
turn(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
	relay_work(relay);
}

void
relay_client(const struct route *route, int door)
{
	const struct address nobody = { .family = AF_UNIX };

	relay_open(relay, accept4(door, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), route, &nobody, ADMITTED);
	close(door);
}

int
open_client(const struct route *route)
{
	struct sockaddr_in at;
	const int door = listen_somewhere(&at, 0), fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	relay_client(route, door);
	return fd;
}

int
accept_server(void)
{
	const int64_t began_us = clock_us();
	int fd = -1;

	while (fd < 0 && clock_us() - began_us < LONGEST_US) {
		turn();
		fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	}
	assert_true(fd >= 0);
	return fd;
}

struct pair
open_flow(const struct route *route)
{
	struct pair p = { .client = open_client(route) };

	p.server = accept_server();
	return p;
}

void
end_pair(struct pair p)
{
	close(p.client);
	close(p.server);
}

ssize_t
hear(int fd, char *buf, size_t size)
{
	const int64_t began_us = clock_us();
	ssize_t n = -1;

	errno = EAGAIN;
	while (n < 0 && errno == EAGAIN && clock_us() - began_us < LONGEST_US) {
		turn();
		n = recv(fd, buf, size, MSG_DONTWAIT);
	}
	return n < 0 ? -errno : n;
}

void
passes(struct pair p, const char *text)
{
	char buf[64];

	assert_int_equal(send(p.client, text, strlen(text), 0), strlen(text));
	assert_int_equal(hear(p.server, buf, sizeof(buf)), strlen(text));
	assert_memory_equal(buf, text, strlen(text));
}

void
log_to_file(void)
{
	int fd;

	strcpy(log_path + sizeof(log_path) - sizeof("XXXXXX"), "XXXXXX");
	fd = mkstemp(log_path);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(log_open(&(struct log_settings){ .target = TARGET_FILE, .path = log_path, .level = LEVEL_INFO }), 0);
}

const char *
logged(char *text, size_t size)
{
	FILE *f;
	size_t n;

	log_close();
	f = fopen(log_path, "re");
	assert_non_null(f);
	n = fread(text, 1, size - 1, f);
	text[n] = '\0';
	fclose(f);
	unlink(log_path);
	return text;
}
