/*
 * test_goodbye.c - ends that a client must hear rightly, or must not hold up.
 *
 * A codec has seen a reply whole, and says that the protocol's close message may follow; but the socket has taken half
 * of it, and there is no memory for the other half. Whatever the client hears then: it is the beginning of the reply,
 * and a reset. At the moment at which memory fails the client reads, so that its socket would take a close message.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "relay/ending.h"
#include "relay/retire.h"
#include "relay_world.h"

#define REPLY_MAX (1024 * 1024)
#define COMMAND "*1\r\n$4\r\nTIME\r\n"

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);

static int client = -1, server = -1;
static char reply[REPLY_MAX], heard[REPLY_MAX + 1000];
static size_t reply_len, n_heard;
static int client_error;
static bool is_armed, has_failed;
static int skipped;		/* allocations that succeed first: that of a pipe */

static void
listen_to_client(void)
{
	ssize_t n = 1;

	while (n > 0 && n_heard < sizeof(heard)) {
		n = recv(client, heard + n_heard, sizeof(heard) - n_heard, MSG_DONTWAIT);
		if (n > 0)
			n_heard += (size_t)n;
	}
	if (n < 0 && errno != EAGAIN)
		client_error = errno;
	else if (n == 0)
		client_error = EPIPE;	/* a FIN: no reset */
}

void *
__wrap_calloc(size_t n, size_t size)
{
	if (!is_armed || skipped-- > 0)
		return __real_calloc(n, size);
	is_armed = false;
	has_failed = true;
	for (int i = 0; i < 50; i++) {		/* acknowledgements take a moment, also on loopback */
		listen_to_client();
		usleep(200);
	}
	errno = ENOMEM;
	return NULL;
}

/* The socket towards the client takes about `buffer` bytes that it has not read. */
static void
open_reader(const struct route *route, int buffer)
{
	const int small = 4096;
	struct sockaddr_in at;
	const int door = listen_somewhere(&at, buffer);

	client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void)setsockopt(client, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	assert_int_equal(connect(client, (struct sockaddr *)&at, sizeof(at)), 0);
	relay_client(route, door);
	server = accept_server();
}

/* Two commands; the first one is replied to, by a bulk string. */
static void
converse(void)
{
	const int64_t began_us = clock_us();
	size_t sent = 0, got = 0;
	char buf[256];

	assert_int_equal(send(client, COMMAND COMMAND, 2 * strlen(COMMAND), 0), 2 * strlen(COMMAND));
	while (got < 2 * strlen(COMMAND) && clock_us() - began_us < LONGEST_US) {
		const ssize_t n = recv(server, buf, sizeof(buf), MSG_DONTWAIT);

		got += n > 0 ? (size_t)n : 0;
		turn();
	}
	/* As much of it as its own kernel takes is there before the relay looks. */
	is_armed = true;
	while (ended == 0 && client_error == 0 && clock_us() - began_us < LONGEST_US) {
		const ssize_t n = sent < reply_len ? send(server, reply + sent, reply_len - sent, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

		sent += n > 0 ? (size_t)n : 0;
		turn();
		if (has_failed)
			listen_to_client();
	}
	while (client_error == 0 && clock_us() - began_us < LONGEST_US)
		listen_to_client();
}

static size_t
make_reply(size_t value_len)
{
	const size_t n = (size_t)snprintf(reply, sizeof(reply), "$%zu\r\n", value_len);

	memset(reply + n, 'v', value_len);
	memcpy(reply + n + value_len, "\r\n", 2);
	return n + value_len + 2;
}

/* True: memory failed within the reply. */
static bool
try_reply(const struct route *route, size_t value_len, int buffer, int skip)
{
	reply_len = make_reply(value_len);
	ended = client_error = 0;
	n_heard = 0;
	is_armed = has_failed = false;
	skipped = skip;
	open_reader(route, buffer);
	converse();
	is_armed = false;
	if (has_failed) {
		assert_true(n_heard < reply_len);
		assert_memory_equal(heard, reply, n_heard);
		assert_int_equal(client_error, ECONNRESET);
		assert_int_equal(ended, 1);
	}
	close(client);
	close(server);
	for (int i = 0; i < 100 && ended == 0; i++) {
		turn();
		usleep(1000);
	}
	return has_failed;
}

static void
begin(void)
{
	char *options[] = { "--protocol=redis" };
	struct config *settings;
	char backend[32];

	snprintf(backend, sizeof(backend), "127.0.0.1:%d", open_backend());
	assert_int_equal(config_from_args(&settings, "127.0.0.1:1", backend, options, 1, stderr), 0);
	world_begin(settings);
}

/* Short writes of what was read, and of what goes by splice(), which takes over in a long value. */
static void
test_nothing_follows_half_a_reply(void **state)
{
	static const struct { size_t value; int buffer, skip; } cases[] = {
		{ 60000, 4096, 0 }, { 100000, 4096, 0 }, { 120000, 30000, 0 }, { 120000, 50000, 0 },
		{ 400000, 200000, 1 }, { 700000, 200000, 1 }, { 900000, 200000, 1 },
	};
	int failures = 0;

	(void)state;
	begin();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		failures += try_reply(&config->routes[0], cases[i].value, cases[i].buffer, cases[i].skip);
	assert_true(failures >= 5);
	assert_int_equal(counters[0]->flows_ended[REASON_MEMORY], failures);
	world_end();
}

/* It has had its FIN, and takes what was sent before little by little: not for longer than others when all flows end. */
static void
test_a_slow_reader_does_not_hold_up_the_end(void **state)
{
	int64_t killed_us = 0;
	size_t sent = 0;
	char buf[512];

	(void)state;
	begin();
	reply_len = make_reply(600000);
	ended = client_error = 0;
	is_armed = false;
	open_reader(&config->routes[0], 1000000);
	assert_int_equal(send(client, COMMAND, strlen(COMMAND), 0), strlen(COMMAND));
	for (int64_t began_us = clock_us(); ended == 0 && clock_us() - began_us < 2 * LONGEST_US;) {
		const ssize_t n = sent < reply_len ? send(server, reply + sent, reply_len - sent, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

		sent += n > 0 ? (size_t)n : 0;
		turn();
		if (killed_us == 0 && clock_us() - began_us > US_PER_S / 2) {
			assert_int_equal(sent, reply_len);
			flow_retire(TAILQ_FIRST(&relay->flows), REASON_DRAIN, clock_us());
			turn();
			assert_int_equal(TAILQ_FIRST(&relay->flows)->state, FLOW_ENDING);
			killed_us = clock_us();
		}
		if (killed_us != 0)
			(void)relay_kill_all(relay, REASON_DRAIN);
		(void)recv(client, buf, sizeof(buf), MSG_DONTWAIT);
		usleep(5000);
	}
	assert_int_equal(ended, 1);
	assert_true(clock_us() - killed_us < 3 * US_PER_S);
	close(client);
	close(server);
	world_end();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_follows_half_a_reply),
		cmocka_unit_test(test_a_slow_reader_does_not_hold_up_the_end),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
