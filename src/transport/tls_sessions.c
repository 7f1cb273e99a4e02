/*
 * tls_sessions.c - what the connections of a context as client share.
 *
 * Sessions, by the name that was verified. A ticket of TLS 1.3 is used once
 * (RFC 8446, appendix C.4), and servers send several; a session of TLS 1.2 is
 * used until it expires. The oldest goes when there are too many.
 *
 * Certificates: each connection that is not resumed parses those of its peer,
 * and OpenSSL keeps them as long as the connection. They are mostly the same
 * ones, and make up half of its memory; so equal ones are shared.
 */
#include <assert.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "transport/tls_context.h"

#define SESSIONS_MAX 1024
#define CERTIFICATES_MAX 64

struct entry {
	TAILQ_ENTRY(entry) link;
	SSL_SESSION *session;
	char name[];
};

struct tls_sessions {
	pthread_mutex_t lock;
	TAILQ_HEAD(entries, entry) entries;	/* the newest first */
	size_t n;
	X509 *certificates[CERTIFICATES_MAX];	/* NULL: free */
	size_t next;			/* the oldest of them */
};

struct tls_sessions *
tls_sessions_new(void)
{
	struct tls_sessions *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	TAILQ_INIT(&s->entries);
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

/* Takes it out; its session is the caller's. */
static SSL_SESSION *
take_out(struct tls_sessions *s, struct entry *e)
{
	SSL_SESSION *session = e->session;

	assert(s->n > 0 && s->n <= SESSIONS_MAX);
	TAILQ_REMOVE(&s->entries, e, link);
	s->n--;
	free(e);
	return session;
}

void
tls_sessions_free(struct tls_sessions *s)
{
	if (s == NULL)
		return;
	while (!TAILQ_EMPTY(&s->entries))
		SSL_SESSION_free(take_out(s, TAILQ_FIRST(&s->entries)));
	assert(s->n == 0);
	tls_sessions_share_no_more(s);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static bool
is_used_once(const SSL_SESSION *session)
{
	return SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION;
}

static bool
is_valid(const SSL_SESSION *session)
{
	return SSL_SESSION_is_resumable(session) && time(NULL) < SSL_SESSION_get_time(session) + SSL_SESSION_get_timeout(session);
}

static struct entry *
find(struct tls_sessions *s, const char *name)
{
	struct entry *e;

	TAILQ_FOREACH(e, &s->entries, link)
		if (strcmp(e->name, name) == 0)
			break;
	return e;
}

void
tls_sessions_add(struct tls_sessions *s, const char *name, SSL_SESSION *session)
{
	const size_t len = strlen(name != NULL ? name : "") + 1;
	struct entry *e = SSL_SESSION_is_resumable(session) ? malloc(sizeof(*e) + len) : NULL, *old;
	SSL_SESSION *dropped = session;

	if (e != NULL) {
		e->session = session;
		memcpy(e->name, name != NULL ? name : "", len);
		pthread_mutex_lock(&s->lock);
		old = is_used_once(session) ? NULL : find(s, e->name);
		if (old == NULL && s->n == SESSIONS_MAX)
			old = TAILQ_LAST(&s->entries, entries);
		dropped = old != NULL ? take_out(s, old) : NULL;
		TAILQ_INSERT_HEAD(&s->entries, e, link);
		s->n++;
		assert(s->n <= SESSIONS_MAX);
		pthread_mutex_unlock(&s->lock);
	}
	SSL_SESSION_free(dropped);
}

SSL_SESSION *
tls_sessions_take(struct tls_sessions *s, const char *name)
{
	SSL_SESSION *session = NULL;
	struct entry *e;

	pthread_mutex_lock(&s->lock);
	while (session == NULL && (e = find(s, name != NULL ? name : "")) != NULL) {
		if (is_valid(e->session) && !is_used_once(e->session)) {
			session = e->session;
			SSL_SESSION_up_ref(session);
			break;
		}
		session = take_out(s, e);
		if (!is_valid(session)) {
			SSL_SESSION_free(session);
			session = NULL;
		}
	}
	pthread_mutex_unlock(&s->lock);
	return session;
}

/* One that is equal to x, or x itself, which is kept for the next. */
static X509 *
intern(struct tls_sessions *s, X509 *x)
{
	for (size_t i = 0; i < CERTIFICATES_MAX && s->certificates[i] != NULL; i++)
		if (X509_cmp(s->certificates[i], x) == 0)
			return s->certificates[i];
	assert(s->next < CERTIFICATES_MAX);
	X509_free(s->certificates[s->next]);
	X509_up_ref(x);
	s->certificates[s->next] = x;
	s->next = (s->next + 1) % CERTIFICATES_MAX;
	return x;
}

void
tls_sessions_share(struct tls_sessions *s, STACK_OF(X509) *chain)
{
	pthread_mutex_lock(&s->lock);
	for (int i = 0; i < sk_X509_num(chain); i++) {
		X509 *own = sk_X509_value(chain, i), *same = intern(s, own);

		if (same == own)
			continue;
		X509_up_ref(same);
		(void)sk_X509_set(chain, i, same);
		X509_free(own);
	}
	pthread_mutex_unlock(&s->lock);
}

void
tls_sessions_share_no_more(struct tls_sessions *s)
{
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < CERTIFICATES_MAX; i++) {
		X509_free(s->certificates[i]);
		s->certificates[i] = NULL;
	}
	s->next = 0;
	pthread_mutex_unlock(&s->lock);
}
