/* test_tls.c - transports with TLS: handshakes cut anywhere, what is carried, how it ends, why it fails. */
#include <errno.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "stent/tls.h"
#include "stent/transport.h"
#include "tls_world.h"
#include "transport/tls_engine.h"

static struct identity ca, server;

static struct tls_context *
context(const struct tls_settings *settings, bool is_server, const char *alpn)
{
	char error[TLS_ERROR_MAX];
	struct tls_context *c = tls_context_new(settings, is_server, alpn, error);

	if (c == NULL)
		fail_msg("%s", error);
	return c;
}

/* Contexts that fit each other, and a link between them. */
struct pair {
	struct tls_context *client, *server;
	struct link link;
};

static void
pair_open(struct pair *p, int version, int buffer)
{
	const struct tls_settings client = { .mode = TLS_VERIFY, .ca = ca.cert };
	const struct tls_settings own = { .mode = TLS_REQUIRE, .min_version = version, .cert = server.cert, .key = server.key };

	p->client = context(&client, false, NULL);
	p->server = context(&own, true, NULL);
	link_open(&p->link, buffer);
	link_start(&p->link, p->client, p->server, "localhost");
	if (version == TLS1_2_VERSION)
		SSL_set_max_proto_version(p->link.end[AT_SERVER].tls->ssl, TLS1_2_VERSION);
}

static void
pair_close(struct pair *p)
{
	link_close(&p->link);
	tls_context_release(p->client);
	tls_context_release(p->server);
}

static void
pair_handshake(struct pair *p, size_t step)
{
	int r[2];

	link_handshake(&p->link, step, r);
	for (int i = 0; i < 2; i++)
		if (r[i] != 0)
			fail_msg("%s: %d, %s", i == AT_CLIENT ? "client" : "server", r[i], transport_tls_cause(&p->link.end[i]));
}

static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

static void
test_a_handshake_may_be_cut_anywhere(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		for (size_t step = 1; step < 10000; step = step * 3 + 1) {
			struct transport_tls facts;
			struct pair p;

			pair_open(&p, versions[i], 0);
			pair_handshake(&p, step);
			transport_tls_facts(&p.link.end[AT_CLIENT], &facts);
			assert_string_equal(facts.version, i == 0 ? "TLSv1.2" : "TLSv1.3");
			assert_string_equal(facts.cipher, i == 0 ? "ECDHE-ECDSA-AES128-GCM-SHA256" : "TLS_AES_128_GCM_SHA256");
			assert_false(facts.resumed);
			link_send(&p.link, AT_CLIENT, (const uint8_t *)"ping", 4, step);
			link_send(&p.link, AT_SERVER, (const uint8_t *)"pong!", 5, step);
			assert_false(transport_is_pending(&p.link.end[AT_CLIENT]));
			assert_int_equal(transport_unsent(&p.link.end[AT_CLIENT]), 0);
			pair_close(&p);
		}
	}
}

static void
test_bulk_arrives_unchanged_through_small_buffers(void **state)
{
	const size_t len = 3 * 1024 * 1024;
	uint8_t *data = malloc(len);

	(void)state;
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 7 + i / 251);
	for (size_t i = 0; i < 2; i++) {
		struct pair p;

		pair_open(&p, versions[i], 4096);
		pair_handshake(&p, SIZE_MAX);
		link_send(&p.link, AT_SERVER, data, len, 7000);
		link_send(&p.link, AT_CLIENT, data, len, SIZE_MAX);
		pair_close(&p);
	}
	free(data);
}

static int
set_up(void **state)
{
	(void)state;
	tls_world_begin();
	identity_make(&ca, &(struct identity_spec){ .name = "Test CA", .is_ca = true });
	identity_make(&server, &(struct identity_spec){ .name = "server", .names = "DNS:localhost,IP:127.0.0.1,IP:::1", .issuer = &ca });
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	identity_free(&ca);
	identity_free(&server);
	tls_world_end();
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_handshake_may_be_cut_anywhere),
		cmocka_unit_test(test_bulk_arrives_unchanged_through_small_buffers),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
