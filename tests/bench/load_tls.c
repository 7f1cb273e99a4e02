/*
 * load_tls.c - the load's ends inside TLS, by OpenSSL: reading and writing as
 * recv() and send() do, also while the handshake is still under way.
 *
 * The certificate is self-signed and not verified. A client that resumes uses
 * the first session that any of them got: servers of TLS 1.3 accept a ticket
 * more than once.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define FDS 65536

static SSL *ends[FDS];
static SSL_CTX *contexts[2];	/* [client] */
static SSL_SESSION *session;
static uint64_t resumed;

static int
on_session(SSL *ssl, SSL_SESSION *s)
{
	(void)ssl;
	if (session != NULL)
		return 0;
	session = s;
	return 1;
}

void
tls_setup(const char *pem, bool resumes)
{
	SSL_CTX *server = SSL_CTX_new(TLS_server_method()), *client = SSL_CTX_new(TLS_client_method());

	if (server == NULL || client == NULL)
		fail("no TLS context");
	if (SSL_CTX_use_certificate_chain_file(server, pem) != 1 || SSL_CTX_use_PrivateKey_file(server, pem, SSL_FILETYPE_PEM) != 1)
		fail("the certificate cannot be read");
	for (int i = 0; i < 2; i++) {
		SSL_CTX_set_mode(i ? client : server, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
		SSL_CTX_set_options(i ? client : server, SSL_OP_IGNORE_UNEXPECTED_EOF);
		contexts[i] = i ? client : server;
	}
	if (resumes) {
		SSL_CTX_set_session_cache_mode(client, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(client, on_session);
	}
}

void
tls_begin(int fd, bool client)
{
	SSL *ssl = SSL_new(contexts[client]);

	if (fd >= FDS || ssl == NULL || SSL_set_fd(ssl, fd) != 1)
		fail("no TLS for a socket");
	if (client) {
		SSL_set_connect_state(ssl);
		if (session != NULL) {	/* a copy: OpenSSL marks one whose connection failed */
			SSL_SESSION *copy = SSL_SESSION_dup(session);

			SSL_set_session(ssl, copy);
			SSL_SESSION_free(copy);
		}
	} else {
		SSL_set_accept_state(ssl);
	}
	ends[fd] = ssl;
}

uint64_t
tls_resumed(void)
{
	return resumed;
}

/* What a call of OpenSSL returned, as of recv(). */
static ssize_t
result(SSL *ssl, int n)
{
	if (n > 0)
		return n;
	switch (SSL_get_error(ssl, n)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		errno = EAGAIN;
		return -1;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SYSCALL:
		if (errno == 0)
			errno = EPROTO;
		return -1;
	default:
		ERR_print_errors_fp(stderr);
		errno = EPROTO;
		return -1;
	}
}

ssize_t
end_recv(int fd, void *buf, size_t len)
{
	if (ends[fd] == NULL)
		return recv(fd, buf, len, 0);
	ERR_clear_error();
	return result(ends[fd], SSL_read(ends[fd], buf, (int)len));
}

ssize_t
end_send_some(int fd, const void *buf, size_t len)
{
	if (ends[fd] == NULL)
		return send(fd, buf, len, MSG_NOSIGNAL);
	ERR_clear_error();
	return result(ends[fd], SSL_write(ends[fd], buf, (int)len));
}

void
end_fin(int fd)
{
	if (ends[fd] != NULL)
		SSL_shutdown(ends[fd]);
	shutdown(fd, SHUT_WR);
}

void
end_gone(int fd)
{
	if (ends[fd] != NULL) {
		resumed += SSL_is_server(ends[fd]) == 0 && SSL_session_reused(ends[fd]);
		SSL_free(ends[fd]);
	}
	ends[fd] = NULL;
	close(fd);
}
