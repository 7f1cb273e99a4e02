/* test_socket.c - facts about sockets that need no peer. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "stent/own_ends.h"
#include "stent/socket.h"

static int
bound(struct sockaddr_in *at)
{
	socklen_t len = sizeof(*at);
	const int fd = socket(AF_INET, SOCK_STREAM, 0);

	*at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)at, sizeof(*at)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)at, &len), 0);
	return fd;
}

/* A connection to a free port may get that port as its local one. */
static void
test_a_socket_connected_to_itself_is_detected(void **state)
{
	struct sockaddr_in own, other;
	const int self = bound(&own), listener = bound(&other), client = socket(AF_INET, SOCK_STREAM, 0);

	(void)state;
	assert_int_equal(connect(self, (struct sockaddr *)&own, sizeof(own)), 0);
	assert_true(socket_is_own_peer(self));
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(connect(client, (struct sockaddr *)&other, sizeof(other)), 0);
	assert_false(socket_is_own_peer(client));
	close(self);
	close(listener);
	close(client);
}

/* Another client may have the port of a connection of ours, to another destination. */
static void
test_an_own_connection_is_recognised_by_both_addresses(void **state)
{
	struct sockaddr_in at, from;
	const int listener = bound(&at), client = bound(&from);
	struct address local = address_from_sockaddr((struct sockaddr *)&from);
	const struct address remote = address_from_sockaddr((struct sockaddr *)&at);
	struct address other = remote, peer;
	struct own_end e;
	int fd;

	(void)state;
	other.port ^= 1;
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(connect(client, (struct sockaddr *)&at, sizeof(at)), 0);
	fd = socket_accept(listener, &peer);
	assert_true(fd >= 0);
	assert_false(own_ends_find(fd, &peer, &e));
	own_ends_add(client, &local, &other, (struct own_end){ 3, 2 });
	assert_false(own_ends_find(fd, &peer, &e));
	own_ends_add(client, &local, &remote, (struct own_end){ 3, 2 });
	assert_true(own_ends_find(fd, &peer, &e));
	assert_int_equal(e.route, 3);
	assert_int_equal(e.hops, 2);
	local.port ^= 1;
	assert_false(own_ends_find(fd, &local, &e));
	local.port ^= 1;
	own_ends_add(listener, &local, &remote, (struct own_end){ 3, 2 });	/* ours is closed: another client has the port now */
	assert_false(own_ends_find(fd, &peer, &e));
	own_ends_add(-1, &local, &remote, (struct own_end){ 3, 2 });
	assert_false(own_ends_find(fd, &peer, &e));
	close(fd);
	close(listener);
	close(client);
}

/* A socket from systemd may have it on. */
static void
test_keepalive_off_turns_it_off(void **state)
{
	static const struct keepalive off = { .idle_s = 0 };
	struct sockaddr_in at;
	const int fd = bound(&at), on = 1;
	int found = -1;
	socklen_t len = sizeof(found);

	(void)state;
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(socket_adopt(fd, &off), 0);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &found, &len), 0);
	assert_int_equal(found, 0);
	close(fd);
}

static int
linear(int fd)
{
	int on = -1;
	socklen_t len = sizeof(on);

	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, &on, &len), 0);
	return on;
}

/* What detect asks of retransmissions is on accepted sockets, too, and is undone when detect is gone; others are left as they are. */
static void
test_retransmissions_are_set_and_undone(void **state)
{
	static const struct keepalive with = { .idle_s = 2, .interval_s = 1, .probes = 7, .user_timeout_ms = 9000, .retransmit_ms = 1125 };
	static const struct keepalive without = { .idle_s = 25, .interval_s = 10, .probes = 6, .user_timeout_ms = 85000 };
	struct sockaddr_in at;
	const int listener = bound(&at), client = socket(AF_INET, SOCK_STREAM, 0);
	int rto_max = 60000, fd;
	socklen_t len = sizeof(rto_max);
	bool has_rto_max;

	(void)state;
	assert_int_equal(socket_keep_alive(listener, &with), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(connect(client, (struct sockaddr *)&at, sizeof(at)), 0);
	fd = accept(listener, NULL, NULL);
	assert_true(fd >= 0);
	assert_int_equal(linear(fd), 1);
	has_rto_max = setsockopt(client, IPPROTO_TCP, 44, &rto_max, len) == 0;	/* since Linux 6.15 */
	if (has_rto_max) {
		assert_int_equal(getsockopt(fd, IPPROTO_TCP, 44, &rto_max, &len), 0);
		assert_in_range(rto_max, 1125, 1135);	/* ticks of the kernel */
	}
	assert_int_equal(socket_change_keepalive(fd, &without), 0);
	assert_int_equal(linear(fd), 0);
	assert_int_equal(socket_change_keepalive(client, &without), 0);
	if (has_rto_max) {
		assert_int_equal(getsockopt(fd, IPPROTO_TCP, 44, &rto_max, &len), 0);
		assert_int_equal(rto_max, 120000);
		assert_int_equal(getsockopt(client, IPPROTO_TCP, 44, &rto_max, &len), 0);
		assert_int_equal(rto_max, 60000);
	}
	close(fd);
	close(client);
	close(listener);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_socket_connected_to_itself_is_detected),
		cmocka_unit_test(test_an_own_connection_is_recognised_by_both_addresses),
		cmocka_unit_test(test_keepalive_off_turns_it_off),
		cmocka_unit_test(test_retransmissions_are_set_and_undone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
