/*
 * fuzz_tls.c - bytes to both handshakes that nobody would send.
 *
 * The first byte chooses: which end gets the rest, as it is or as changes to
 * what the other end sends; the version; how much is carried at a time. The
 * random numbers of OpenSSL are always the same, so that an input does the
 * same again. Whatever comes: nobody is taken for the peer whose certificate
 * he has not got, and what arrives is what was sent.
 */
#define OPENSSL_SUPPRESS_DEPRECATED	/* RAND_set_rand_method() */
#include <assert.h>
#include <errno.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "stent/tls.h"
#include "tls_world.h"
#include "transport/tls_engine.h"

#define CHOICE_TO_SERVER 1
#define CHOICE_CHANGES 2
#define CHOICE_OLD 4
#define CHOICE_SLOW 8
#define STANDSTILL 2	/* rounds without a byte */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t seed;
static struct tls_context *client, *server;

static int
random_bytes(unsigned char *buf, int n)
{
	for (int i = 0; i < n; i++) {
		seed = seed * 6364136223846793005U + 1442695040888963407U;
		buf[i] = (unsigned char)(seed >> 33);
	}
	return 1;
}

static int
random_status(void)
{
	return 1;
}

static void
set_up(void)
{
	static const RAND_METHOD same = { .bytes = random_bytes, .pseudorand = random_bytes, .status = random_status };
	struct identity ca, own;
	char error[TLS_ERROR_MAX];

	RAND_set_rand_method(&same);
	tls_world_begin();
	identity_make(&ca, &(struct identity_spec){ .name = "CA", .is_ca = true });
	identity_make(&own, &(struct identity_spec){ .name = "server", .names = "DNS:localhost", .issuer = &ca });
	client = tls_context_new(&(struct tls_settings){ .mode = TLS_VERIFY, .ca = ca.cert }, false, "http/1.1", error);
	server = tls_context_new(&(struct tls_settings){ .mode = TLS_REQUIRE, .cert = own.cert, .key = own.key }, true, "http/1.1", error);
	assert(client != NULL && server != NULL);
	identity_free(&ca);
	identity_free(&own);
	tls_world_end();
}

/* Carries a few bytes, of which those that the input names (distance from the last one, value) are changed. */
static size_t
carry_changed(struct link *l, int from, size_t max, const uint8_t **data, size_t *size, size_t *until)
{
	uint8_t buf[1024];
	const ssize_t n = recv(l->far[from], buf, max < sizeof(buf) ? max : sizeof(buf), 0);

	for (ssize_t i = 0; i < n; i++) {
		if (*size < 2)
			break;
		if (++*until <= (*data)[0])
			continue;
		buf[i] ^= (*data)[1];
		*until = 0;
		*data += 2;
		*size -= 2;
	}
	if (n > 0 && send(l->far[!from], buf, (size_t)n, MSG_NOSIGNAL) != n)
		abort();
	return n > 0 ? (size_t)n : 0;
}

/* Reads what there is, and what is said of it. */
static void
read_all(struct transport *t)
{
	char buf[256];
	ssize_t n;

	do
		n = transport_read(t, buf, sizeof(buf));
	while (n > 0 || transport_is_pending(t));
	assert(n == 0 || n == -EAGAIN || n == -EPROTO || n == -ECONNRESET);
	assert(n != -EPROTO || transport_tls_cause(t)[0] != '\0');
}

static void
alone(struct link *l, int at, const uint8_t *data, size_t size)
{
	int r;

	if (size > 0 && send(l->far[at], data, size, MSG_NOSIGNAL) != (ssize_t)size)
		abort();
	(void)transport_handshake(&l->end[at]);
	shutdown(l->far[at], SHUT_WR);
	r = transport_handshake(&l->end[at]);
	assert(r == -EPROTO && transport_tls_cause(&l->end[at])[0] != '\0');
}

static void
together(struct link *l, int at, const uint8_t *data, size_t size, size_t step)
{
	int r[2] = { -EAGAIN, -EAGAIN };
	size_t until = 0;

	for (int still = 0; still < STANDSTILL && (r[0] == -EAGAIN || r[1] == -EAGAIN); still++) {
		for (int k = 0; k < 2; k++)
			if (r[k] == -EAGAIN)
				r[k] = transport_handshake(&l->end[k]);
		if (link_carry(l, at, SIZE_MAX) + carry_changed(l, !at, step, &data, &size, &until) > 0)
			still = -1;
	}
	for (int k = 0; k < 2; k++)
		if (r[k] == 0)
			(void)transport_write(&l->end[k], &(struct iovec){ (void *)"hello", 5 }, 1);
	link_carry(l, at, SIZE_MAX);
	while (carry_changed(l, !at, step, &data, &size, &until) > 0)
		;
	for (int k = 0; k < 2; k++)
		if (r[k] == 0)
			read_all(&l->end[k]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct link l;
	int at;

	if (client == NULL)
		set_up();
	if (size == 0)
		return 0;
	seed = 1;
	at = data[0] & CHOICE_TO_SERVER ? AT_SERVER : AT_CLIENT;
	link_open(&l, 0);
	link_start(&l, client, server, "localhost");
	SSL_set_session(l.end[AT_CLIENT].tls->ssl, NULL);
	if (data[0] & CHOICE_OLD)
		SSL_set_max_proto_version(l.end[AT_SERVER].tls->ssl, TLS1_2_VERSION);
	if (data[0] & CHOICE_CHANGES)
		together(&l, at, data + 1, size - 1, data[0] & CHOICE_SLOW ? 20 : SIZE_MAX);
	else
		alone(&l, at, data + 1, size - 1);
	link_close(&l);
	return 0;
}
