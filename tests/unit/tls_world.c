/* tls_world.c - see tls_world.h. */
#include "tls_world.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DAY_S 86400L
#define ROUNDS 1000000		/* a handshake that takes more has come to a standstill */

static char folder[64];

void
tls_world_begin(void)
{
	snprintf(folder, sizeof(folder), "/tmp/stent-tls-XXXXXX");
	if (mkdtemp(folder) == NULL)
		abort();
}

void
tls_world_end(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	if (system(command) != 0)
		abort();
}

const char *
tls_world_file(const char *name, const void *data, size_t len)
{
	static char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "w");
	if (f == NULL || fwrite(data, 1, len, f) != len || fclose(f) != 0)
		abort();
	return path;
}

static void
add_extension(X509 *x, const X509 *issuer, int nid, const char *value)
{
	X509V3_CTX context;
	X509_EXTENSION *e;

	X509V3_set_ctx(&context, (X509 *)(uintptr_t)issuer, x, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	if (e == NULL || X509_add_ext(x, e, -1) != 1)
		abort();
	X509_EXTENSION_free(e);
}

static X509 *
certificate(const struct identity_spec *spec, EVP_PKEY *key)
{
	static long serial;
	const X509 *issuer;
	X509 *x = X509_new();

	issuer = spec->issuer != NULL ? spec->issuer->x509 : x;
	X509_set_version(x, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(x), spec->from_s == 0 && spec->to_s == 0 ? -DAY_S : spec->from_s);
	X509_gmtime_adj(X509_getm_notAfter(x), spec->from_s == 0 && spec->to_s == 0 ? DAY_S : spec->to_s);
	X509_set_pubkey(x, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8, (const unsigned char *)spec->name, -1, -1, 0);
	X509_set_issuer_name(x, X509_get_subject_name(issuer));
	add_extension(x, issuer, NID_basic_constraints, spec->is_ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
	if (spec->names != NULL)
		add_extension(x, issuer, NID_subject_alt_name, spec->names);
	if (X509_sign(x, spec->issuer != NULL ? spec->issuer->pkey : key, EVP_sha256()) == 0)
		abort();
	return x;
}

void
identity_make(struct identity *ret, const struct identity_spec *spec)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = certificate(spec, key);
	FILE *f;

	ret->x509 = x;
	ret->pkey = key;
	snprintf(ret->cert, sizeof(ret->cert), "%s/%s.crt", folder, spec->name);
	snprintf(ret->key, sizeof(ret->key), "%s/%s.key", folder, spec->name);
	f = fopen(ret->cert, "w");
	if (f == NULL || PEM_write_X509(f, x) != 1 || fclose(f) != 0)
		abort();
	f = fopen(ret->key, "w");
	if (f == NULL || PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) != 1 || fclose(f) != 0)
		abort();
}

void
identity_free(struct identity *i)
{
	X509_free(i->x509);
	EVP_PKEY_free(i->pkey);
}

/* --- the link --- */

void
link_open(struct link *l, int buffer)
{
	memset(l, 0, sizeof(*l));
	for (int i = 0; i < 2; i++) {
		int fds[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
			abort();
		for (int k = 0; k < 2 && buffer > 0; k++)
			if (setsockopt(fds[k], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer)) != 0)
				abort();
		transport_init(&l->end[i], fds[0]);
		l->far[i] = fds[1];
	}
}

void
link_use_tcp(struct link *l)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(at);
	int accepted;

	if (bind(listener, (struct sockaddr *)&at, len) != 0 || listen(listener, 1) != 0 ||
	    getsockname(listener, (struct sockaddr *)&at, &len) != 0 || connect(fd, (struct sockaddr *)&at, len) != 0)
		abort();
	accepted = accept(listener, NULL, NULL);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	fcntl(accepted, F_SETFL, O_NONBLOCK);
	if (dup2(fd, l->end[AT_CLIENT].fd) < 0 || dup2(accepted, l->end[AT_SERVER].fd) < 0)
		abort();
	close(fd);
	close(accepted);
	close(listener);
	for (int i = 0; i < 2; i++) {
		close(l->far[i]);
		l->far[i] = -1;
	}
}

void
link_start(struct link *l, struct tls_context *client, struct tls_context *server, const char *name)
{
	if (transport_start_tls(&l->end[AT_CLIENT], client, name) != 0 || transport_start_tls(&l->end[AT_SERVER], server, NULL) != 0)
		abort();
}

size_t
link_carry(struct link *l, int from, size_t max)
{
	uint8_t buf[16 * 1024];
	size_t total = 0;

	while (total < max && l->far[from] >= 0 && l->far[!from] >= 0) {
		const size_t want = max - total < sizeof(buf) ? max - total : sizeof(buf);
		const ssize_t n = recv(l->far[from], buf, want, MSG_PEEK);
		ssize_t sent;

		if (n == 0 && !l->fin[from]) {
			l->fin[from] = true;
			shutdown(l->far[!from], SHUT_WR);
		}
		if (n <= 0)
			break;
		sent = send(l->far[!from], buf, (size_t)n, MSG_NOSIGNAL);
		if (sent <= 0)
			break;
		if (recv(l->far[from], buf, (size_t)sent, 0) != sent)
			abort();
		total += (size_t)sent;
	}
	l->carried[from] += total;
	return total;
}

void
link_handshake(struct link *l, size_t step, int result[2])
{
	int still = 0;		/* rounds without a byte */

	result[0] = result[1] = -EAGAIN;
	for (int i = 0; still < 3; i++) {
		size_t carried = 0;

		if (i == ROUNDS)
			abort();
		for (int k = 0; k < 2; k++)
			if (result[k] == -EAGAIN)
				result[k] = transport_handshake(&l->end[k]);
		for (int k = 0; k < 2; k++)
			carried += link_carry(l, k, step);
		still = carried == 0 ? still + 1 : 0;
		if (l->far[0] < 0 && i < 100)
			still = 0;	/* TCP: the kernel carries */
	}
}

void
link_close(struct link *l)
{
	for (int i = 0; i < 2; i++) {
		transport_close(&l->end[i], TRANSPORT_FIN);
		if (l->far[i] >= 0)
			close(l->far[i]);
	}
}

void
link_send(struct link *l, int from, const uint8_t *data, size_t len, size_t step)
{
	size_t sent = 0, got = 0;
	uint8_t buf[4096];

	for (int i = 0; got < len; i++) {
		ssize_t n = 0;

		if (i == ROUNDS)
			abort();
		if (sent < len)
			n = transport_write(&l->end[from], &(struct iovec){ (void *)(uintptr_t)(data + sent), len - sent }, 1);
		else if (transport_unsent(&l->end[from]) > 0)
			(void)transport_flush(&l->end[from]);
		if (n < 0 && n != -EAGAIN)
			abort();
		sent += n > 0 ? (size_t)n : 0;
		link_carry(l, from, step);
		while ((n = transport_read(&l->end[!from], buf, sizeof(buf))) > 0) {
			if (memcmp(buf, data + got, (size_t)n) != 0)
				abort();
			got += (size_t)n;
			if (!transport_is_pending(&l->end[!from]))
				break;
		}
		if (n <= 0 && n != -EAGAIN)
			abort();
	}
}
