/*
 * test_tls_cause.c - handshakes that fail, and what is said of them; contexts that cannot be made; and bytes to both
 * handshakes that nobody would send.
 */
#include <errno.h>
#include <openssl/pem.h>
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

#define DAY_S 86400L

static struct identity ca, other_ca, server, expired, future, self_signed, client, other_client;

static struct tls_context *
context(const struct tls_settings *settings, bool is_server, const char *alpn)
{
	char error[TLS_ERROR_MAX];
	struct tls_context *c = tls_context_new(settings, is_server, alpn, error);

	if (c == NULL)
		fail_msg("%s", error);
	return c;
}

/* One handshake that fails. */
struct failing {
	struct tls_settings client, server;
	const char *name, *client_alpn, *server_alpn;
	int at;				/* the end that says: */
	enum tls_cause kind;
	const char *words;		/* a part of them */
	enum tls_cause other;		/* what the other end says; TLS_CAUSE_NONE: not looked at */
	const char *other_words;
};

static void
check(const struct failing *f, const char *what)
{
	struct tls_context *c = context(&f->client, false, f->client_alpn), *s = context(&f->server, true, f->server_alpn);
	struct link l;
	char buf[16];
	int r[2];

	link_open(&l, 0);
	link_start(&l, c, s, f->name != NULL ? f->name : "localhost");
	link_handshake(&l, SIZE_MAX, r);
	for (int i = 0; i < 2; i++)	/* TLS 1.3: the client was done before the server refused */
		if (r[i] == 0)
			r[i] = (int)transport_read(&l.end[i], buf, sizeof(buf));
	for (int i = 0; i < 2; i++) {
		const char *cause = transport_tls_cause(&l.end[i]), *words = i == f->at ? f->words : f->other_words;
		const enum tls_cause kind = i == f->at ? f->kind : f->other;

		if (kind == TLS_CAUSE_NONE)
			continue;
		if (r[i] != -EPROTO || transport_tls_cause_kind(&l.end[i]) != kind || strstr(cause, words) == NULL)
			fail_msg("%s: the %s got %d, %s: %s", what, i == AT_CLIENT ? "client" : "server", r[i],
			    tls_cause_name(transport_tls_cause_kind(&l.end[i])), cause);
	}
	link_close(&l);
	tls_context_release(c);
	tls_context_release(s);
}

#define SHOWS(i) { .mode = TLS_REQUIRE, .cert = (i).cert, .key = (i).key }
#define VERIFIES { .mode = TLS_VERIFY, .ca = ca.cert }
#define CHECK(what, ...) check(&(struct failing){ __VA_ARGS__ }, what)

static void
test_a_certificate_is_refused_with_the_reason(void **state)
{
	(void)state;
	CHECK("wrong CA", .client = { .mode = TLS_VERIFY, .ca = other_ca.cert }, .server = SHOWS(server), .at = AT_CLIENT,
	    .kind = TLS_CAUSE_UNKNOWN_CA, .words = "issued by \"CN=Test CA\"", .other = TLS_CAUSE_UNKNOWN_CA,
	    .other_words = "alert 48, unknown_ca: it does not know the CA of our certificate");
	CHECK("system's CAs", .client = { .mode = TLS_VERIFY }, .server = SHOWS(server), .at = AT_CLIENT,
	    .kind = TLS_CAUSE_UNKNOWN_CA, .words = "unknown CA");
	CHECK("self-signed", .client = VERIFIES, .server = SHOWS(self_signed), .at = AT_CLIENT,
	    .kind = TLS_CAUSE_SELF_SIGNED, .words = "self-signed (\"CN=alone\")");
	CHECK("name", .name = "db.example", .client = VERIFIES, .server = SHOWS(server), .at = AT_CLIENT, .kind = TLS_CAUSE_WRONG_NAME,
	    .words = "the name is \"db.example\", but the certificate is for \"localhost, 127.0.0.1, 0:0:0:0:0:0:0:1\"");
	CHECK("address", .name = "127.0.0.2", .client = VERIFIES, .server = SHOWS(server), .at = AT_CLIENT,
	    .kind = TLS_CAUSE_WRONG_NAME, .words = "the name is \"127.0.0.2\"");
	CHECK("expired", .client = VERIFIES, .server = SHOWS(expired), .at = AT_CLIENT, .kind = TLS_CAUSE_EXPIRED,
	    .words = "the server's certificate expired on 20", .other = TLS_CAUSE_EXPIRED, .other_words = "our certificate (tls_cert) has expired");
	CHECK("future", .client = VERIFIES, .server = SHOWS(future), .at = AT_CLIENT, .kind = TLS_CAUSE_NOT_YET_VALID,
	    .words = "the server's certificate is not valid before 20");
}

static void
test_no_common_alpn_is_recognised(void **state)
{
	(void)state;
	CHECK("ALPN", .client = VERIFIES, .server = SHOWS(server), .client_alpn = "h2,h3", .server_alpn = "http/1.1", .at = AT_SERVER,
	    .kind = TLS_CAUSE_NO_ALPN, .words = "ALPN", .other = TLS_CAUSE_NO_ALPN, .other_words = "alert 120, no_application_protocol");
}

static void
test_a_client_certificate_is_demanded(void **state)
{
	struct tls_settings demands = { .mode = TLS_REQUIRE, .cert = server.cert, .key = server.key, .ca = ca.cert };

	(void)state;
	for (int i = 0; i < 2; i++) {	/* 1: TLS 1.3 alone */
		demands.min_version = i == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;
		CHECK("missing", .client = VERIFIES, .server = demands, .at = AT_SERVER, .kind = TLS_CAUSE_CLIENT_CERTIFICATE,
		    .words = "the client sent no certificate", .other = TLS_CAUSE_CLIENT_CERTIFICATE,
		    .other_words = "alert 116, certificate_required: it wants a client certificate");
		CHECK("of another CA", .client = { .mode = TLS_VERIFY, .ca = ca.cert, .cert = other_client.cert, .key = other_client.key },
		    .server = demands, .at = AT_SERVER, .kind = TLS_CAUSE_UNKNOWN_CA, .words = "issued by \"CN=Other CA\"",
		    .other = TLS_CAUSE_CLIENT_CERTIFICATE, .other_words = "alert 48, unknown_ca: it does not know the CA");
	}
}

/* --- handshakes that succeed --- */

static void
succeed(const struct tls_settings *own, const struct tls_settings *peer, const char *name, const char *alpn)
{
	struct tls_context *c = context(own, false, alpn), *s = context(peer, true, alpn);
	struct link l;
	int r[2];

	link_open(&l, 0);
	link_start(&l, c, s, name);
	link_handshake(&l, SIZE_MAX, r);
	if (r[0] != 0 || r[1] != 0)
		fail_msg("%s, %s", transport_tls_cause(&l.end[0]), transport_tls_cause(&l.end[1]));
	link_send(&l, AT_CLIENT, (const uint8_t *)"x", 1, SIZE_MAX);
	link_close(&l);
	tls_context_release(c);
	tls_context_release(s);
}

static void
test_what_fits_succeeds(void **state)
{
	const struct tls_settings verifies = VERIFIES, insecure = { .mode = TLS_INSECURE }, shows = SHOWS(server), alone = SHOWS(self_signed);
	const struct tls_settings has_one = { .mode = TLS_VERIFY, .ca = ca.cert, .cert = client.cert, .key = client.key };
	const struct tls_settings demands = { .mode = TLS_REQUIRE, .cert = server.cert, .key = server.key, .ca = ca.cert };
	const struct tls_settings pins = { .mode = TLS_VERIFY, .ca = self_signed.cert };

	(void)state;
	succeed(&verifies, &shows, "localhost", NULL);
	succeed(&verifies, &shows, "localhost.", NULL);
	succeed(&verifies, &shows, "127.0.0.1", "http/1.1");
	succeed(&verifies, &shows, "::1", "postgresql,http/1.1");
	succeed(&insecure, &alone, "somewhere.example", NULL);
	succeed(&insecure, &alone, NULL, NULL);
	succeed(&pins, &alone, "alone", NULL);
	succeed(&has_one, &demands, "localhost", NULL);
}

/* --- peers that do not speak TLS, or not to the end --- */

/* What one end says of a peer that sends these bytes, and then its FIN. */
static void
check_bytes(int at, const void *bytes, size_t len, bool fin, enum tls_cause kind, const char *words)
{
	const struct tls_settings verifies = VERIFIES, shows = SHOWS(server);
	struct tls_context *c = context(at == AT_CLIENT ? &verifies : &shows, at == AT_SERVER, NULL);
	struct link l;
	int r;

	link_open(&l, 0);
	assert_int_equal(transport_start_tls(&l.end[at], c, at == AT_CLIENT ? "localhost" : NULL), 0);
	assert_int_equal(send(l.far[at], bytes, len, MSG_NOSIGNAL), len);
	if (fin)
		shutdown(l.far[at], SHUT_WR);
	r = transport_handshake(&l.end[at]);
	if (r != -EPROTO || transport_tls_cause_kind(&l.end[at]) != kind || strstr(transport_tls_cause(&l.end[at]), words) == NULL)
		fail_msg("%d, %s: %s", r, tls_cause_name(transport_tls_cause_kind(&l.end[at])), transport_tls_cause(&l.end[at]));
	assert_int_equal(transport_handshake(&l.end[at]), -EPROTO);
	link_close(&l);
	tls_context_release(c);
}

static void
test_a_peer_without_tls_is_recognised(void **state)
{
	static const char request[] = "\0\0\0\x08\x04\xd2\x16\x2f", greeting[] = "\x4a\0\0\0\x0a" "11.4.2-MariaDB";

	(void)state;
	check_bytes(AT_SERVER, "GET / HTTP/1.1\r\n\r\n", 18, false, TLS_CAUSE_NO_TLS, "the client does not speak TLS: it sent HTTP without TLS");
	check_bytes(AT_CLIENT, "HTTP/1.1 400 Bad Request\r\n", 26, false, TLS_CAUSE_NO_TLS, "the server does not speak TLS: it sent HTTP without TLS");
	check_bytes(AT_SERVER, request, 8, true, TLS_CAUSE_NO_TLS, "PostgreSQL's request for TLS");
	check_bytes(AT_CLIENT, greeting, sizeof(greeting) - 1, false, TLS_CAUSE_NO_TLS, "MySQL's greeting");
	check_bytes(AT_CLIENT, "hi \"you\"\n", 9, true, TLS_CAUSE_NO_TLS, "it sent \"hi \\x22you\\x22\"");
	check_bytes(AT_CLIENT, "", 0, true, TLS_CAUSE_CLOSED, "the server closed the connection in the middle of the handshake, before it sent anything");
}

/* An old peer: only its beginning is needed. */
static void
test_an_old_version_is_refused(void **state)
{
	static const uint8_t hello[] = { 22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
		20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 0, 0, 2, 0, 0x2f, 1, 0 };
	static const uint8_t alert[] = { 21, 3, 1, 0, 2, 2, 70 }, refusal[] = { 21, 3, 1, 0, 2, 2, 40 }, unknown[] = { 21, 3, 1, 0, 2, 2, 113 };

	(void)state;
	check_bytes(AT_SERVER, hello, sizeof(hello), false, TLS_CAUSE_NO_VERSION, "no common version of TLS");
	check_bytes(AT_CLIENT, alert, sizeof(alert), false, TLS_CAUSE_NO_VERSION, "alert 70, protocol_version");
	check_bytes(AT_CLIENT, refusal, sizeof(refusal), false, TLS_CAUSE_ALERT, "alert 40, handshake_failure: no common cipher, or");
	check_bytes(AT_CLIENT, unknown, sizeof(unknown), false, TLS_CAUSE_ALERT, "alert 113");
}

static void
test_no_common_cipher_is_recognised(void **state)
{
	const struct tls_settings verifies = VERIFIES, shows = SHOWS(server);
	struct tls_context *c = context(&verifies, false, NULL), *s = context(&shows, true, NULL);
	struct link l;
	int r[2];

	(void)state;
	link_open(&l, 0);
	link_start(&l, c, s, "localhost");
	SSL_set_max_proto_version(l.end[AT_CLIENT].tls->ssl, TLS1_2_VERSION);
	assert_int_equal(SSL_set_cipher_list(l.end[AT_CLIENT].tls->ssl, "AES256-SHA"), 1);
	link_handshake(&l, SIZE_MAX, r);
	assert_int_equal(r[AT_SERVER], -EPROTO);
	assert_int_equal(transport_tls_cause_kind(&l.end[AT_SERVER]), TLS_CAUSE_NO_CIPHER);
	assert_int_equal(transport_tls_cause_kind(&l.end[AT_CLIENT]), TLS_CAUSE_ALERT);
	link_close(&l);
	tls_context_release(c);
	tls_context_release(s);
}

/* At each byte of both directions the peer stops: with a FIN. */
static void
test_a_handshake_may_end_at_any_byte(void **state)
{
	const struct tls_settings verifies = VERIFIES;
	const struct tls_settings shows = SHOWS(server);

	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		struct tls_context *c = context(&verifies, false, NULL), *s = context(&shows, true, NULL);

		for (int from = 0; from < 2; from++) {
			size_t total = SIZE_MAX;

			for (size_t cut = 0; cut < total; cut++) {
				struct link l;
				int r[2], left = 0;

				link_open(&l, 0);
				link_start(&l, c, s, cut == 0 ? "127.0.0.1" : "localhost");
				SSL_set_max_proto_version(l.end[AT_SERVER].tls->ssl, version);
				SSL_set_session(l.end[AT_CLIENT].tls->ssl, NULL);
				for (r[0] = r[1] = -EAGAIN; left < 4; left++) {
					const size_t room = cut - l.carried[from];

					for (int k = 0; k < 2; k++)
						if (r[k] == -EAGAIN)
							r[k] = transport_handshake(&l.end[k]);
					if (link_carry(&l, !from, SIZE_MAX) + (room > 0 ? link_carry(&l, from, room) : 0) > 0)
						left = 0;
				}
				if (l.carried[from] < cut) {
					total = cut;
					assert_int_equal(r[0], 0);
					assert_int_equal(r[1], 0);
				} else if (r[!from] == -EAGAIN) {
					shutdown(l.far[!from], SHUT_WR);
					assert_int_equal(transport_handshake(&l.end[!from]), -EPROTO);
					assert_int_equal(transport_tls_cause_kind(&l.end[!from]), TLS_CAUSE_CLOSED);
				}
				link_close(&l);
			}
			assert_true(total > 100);
		}
		tls_context_release(c);
		tls_context_release(s);
	}
}

/* A thousand handshakes of which a byte is another, and as many of bytes that are no handshake. */
static void
test_random_flights_do_no_harm(void **state)
{
	const struct tls_settings verifies = VERIFIES, shows = SHOWS(server);
	struct tls_context *c = context(&verifies, false, NULL), *s = context(&shows, true, NULL);
	unsigned seed = 1;
	int intact = 0;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		const int at = i % 2;
		uint8_t flight[2048];
		size_t len = sizeof(flight);
		struct link l;
		ssize_t n;

		link_open(&l, 0);
		link_start(&l, c, s, "localhost");
		SSL_set_session(l.end[AT_CLIENT].tls->ssl, NULL);
		(void)transport_handshake(&l.end[AT_CLIENT]);
		if (at == AT_CLIENT) {
			link_carry(&l, AT_CLIENT, SIZE_MAX);
			(void)transport_handshake(&l.end[AT_SERVER]);
		}
		n = recv(l.far[!at], flight, sizeof(flight), 0);
		assert_true(n > 0);
		len = (size_t)n;
		for (size_t k = 0; k < len; k++)
			if (i % 4 < 2 ? k == (size_t)rand_r(&seed) % len : k > 5)
				flight[k] = (uint8_t)rand_r(&seed);
		flight[(size_t)rand_r(&seed) % len] ^= (uint8_t)(1U << (rand_r(&seed) % 8));
		assert_int_equal(send(l.far[at], flight, len, MSG_NOSIGNAL), len);
		shutdown(l.far[at], SHUT_WR);
		for (int k = 0; k < 3; k++) {
			const int r = transport_handshake(&l.end[at]);

			/* The version in the record of TLS 1.3's ChangeCipherSpec means nothing and is not protected. */
			intact += r == 0 && k == 0;
			if (r == 0 && intact <= 5)
				break;
			if (r != -EPROTO || transport_tls_cause(&l.end[at])[0] == '\0')
				fail_msg("%d: call %d: %d, %s", i, k, r, transport_tls_cause(&l.end[at]));
		}
		link_close(&l);
	}
	tls_context_release(c);
	tls_context_release(s);
}

/* --- files --- */

static void
expect_error(struct tls_settings settings, const char *words)
{
	char error[TLS_ERROR_MAX];
	struct tls_context *c;

	settings.mode = TLS_VERIFY;
	c = tls_context_new(&settings, false, NULL, error);
	assert_null(c);
	if (strstr(error, words) == NULL)
		fail_msg("%s", error);
}

static void
test_what_is_wrong_with_a_file_is_said(void **state)
{
	static const char damaged[] = "-----BEGIN CERTIFICATE-----\nMIIBIjANBgkq\n-----END CERTIFICATE-----\n";
	char file[128];
	FILE *f;

	(void)state;
	expect_error((struct tls_settings){ .cert = "/nowhere/a.crt" }, "/nowhere/a.crt: cannot be read: No such file or directory");
	expect_error((struct tls_settings){ .cert = "/tmp" }, "/tmp: cannot be read: Is a directory");
	expect_error((struct tls_settings){ .cert = server.cert, .key = client.key }, "does not belong to the first certificate of");
	expect_error((struct tls_settings){ .cert = server.cert }, "server.crt: holds no private key in PEM");
	expect_error((struct tls_settings){ .cert = server.key, .key = server.key }, "server.key: holds no certificate in PEM");
	snprintf(file, sizeof(file), "%s", tls_world_file("empty", "", 0));
	expect_error((struct tls_settings){ .ca = file }, "holds no certificate: it is empty");
	snprintf(file, sizeof(file), "%s", tls_world_file("der", "\x30\x82\x01\x02", 4));
	expect_error((struct tls_settings){ .cert = file }, "is in DER, not in PEM: convert it with `openssl x509");
	expect_error((struct tls_settings){ .cert = server.cert, .key = file }, "`openssl pkey -inform der");
	snprintf(file, sizeof(file), "%s", tls_world_file("damaged", damaged, sizeof(damaged) - 1));
	expect_error((struct tls_settings){ .cert = file }, "the certificate is damaged");
	expect_error((struct tls_settings){ .ca = file }, "is damaged");
	snprintf(file, sizeof(file), "%s", tls_world_file("encrypted", "", 0));
	f = fopen(file, "w");
	assert_true(f != NULL && PEM_write_PKCS8PrivateKey(f, server.pkey, EVP_aes_128_cbc(), "secret", 6, NULL, NULL) == 1 && fclose(f) == 0);
	expect_error((struct tls_settings){ .cert = server.cert, .key = file }, "has a passphrase, and stent cannot ask for it");
}

static void
test_a_certificate_s_expiry_is_read(void **state)
{
	const int64_t now = (int64_t)time(NULL);

	(void)state;
	assert_true(llabs(tls_certificate_expiry(server.cert) - (now + DAY_S)) < 60);
	assert_true(llabs(tls_certificate_expiry(expired.cert) - (now - DAY_S)) < 60);
	assert_int_equal(tls_certificate_expiry(server.key), -1);
	assert_int_equal(tls_certificate_expiry("/nowhere"), -1);
}

static int
set_up(void **state)
{
	static const char names[] = "DNS:localhost,IP:127.0.0.1,IP:::1";

	(void)state;
	tls_world_begin();
	identity_make(&ca, &(struct identity_spec){ .name = "Test CA", .is_ca = true });
	identity_make(&other_ca, &(struct identity_spec){ .name = "Other CA", .is_ca = true });
	identity_make(&server, &(struct identity_spec){ .name = "server", .names = names, .issuer = &ca });
	identity_make(&expired, &(struct identity_spec){ .name = "expired", .names = names, .issuer = &ca, .from_s = -3 * DAY_S, .to_s = -DAY_S });
	identity_make(&future, &(struct identity_spec){ .name = "future", .names = names, .issuer = &ca, .from_s = DAY_S, .to_s = 3 * DAY_S });
	identity_make(&self_signed, &(struct identity_spec){ .name = "alone", .names = "DNS:alone" });
	identity_make(&client, &(struct identity_spec){ .name = "client", .issuer = &ca });
	identity_make(&other_client, &(struct identity_spec){ .name = "other-client", .issuer = &other_ca });
	return 0;
}

static int
tear_down(void **state)
{
	struct identity *const all[] = { &ca, &other_ca, &server, &expired, &future, &self_signed, &client, &other_client };

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		identity_free(all[i]);
	tls_world_end();
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_certificate_is_refused_with_the_reason),
		cmocka_unit_test(test_no_common_alpn_is_recognised),
		cmocka_unit_test(test_a_client_certificate_is_demanded),
		cmocka_unit_test(test_what_fits_succeeds),
		cmocka_unit_test(test_a_peer_without_tls_is_recognised),
		cmocka_unit_test(test_an_old_version_is_refused),
		cmocka_unit_test(test_no_common_cipher_is_recognised),
		cmocka_unit_test(test_a_handshake_may_end_at_any_byte),
		cmocka_unit_test(test_random_flights_do_no_harm),
		cmocka_unit_test(test_what_is_wrong_with_a_file_is_said),
		cmocka_unit_test(test_a_certificate_s_expiry_is_read),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
