/*
 * sandbox.c - the limits of each thread, from the settings.
 *
 * They begin when everything is open that needs more, and before the first client is accepted. Each thread enters by itself, as
 * Landlock is a thread's own. Folders are allowed rather than files, so that a certificate, a settings file or a log that another
 * file has taken the place of is found. Connecting is free: what a route's backends are is known only when a name was
 * looked up, a flow was redirected or the settings were loaded again; and a reload must be able to listen elsewhere, so
 * only workers, which never listen, are kept from binding ports.
 */
#include "stent/sandbox.h"

#include <errno.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/calls.h"
#include "sandbox/landlock.h"
#include "stent/confined.h"

#define LANDLOCK_PORTS 4	/* the first version with ports */

struct sandbox {
	int files[SANDBOX_THREADS];
	int version;		/* of Landlock; or -errno: there is none */
	int calls_error[SANDBOX_THREADS], files_error[SANDBOX_THREADS];	/* -errno: what went wrong there */
};

/* Read by all threads: the resolver's files, the system's CAs, what the C library and OpenSSL look up. */
static const char *const read_by_all[] = {
	"/etc", "/usr", "/lib", "/lib64", "/proc/sys", "/sys/devices/system/cpu", "/dev/urandom", "/dev/random",
	"/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/run/connman",
};

static void
allow_all(int set)
{
	const char *const ca_folder = getenv(X509_get_default_cert_dir_env()), *const ca = getenv(X509_get_default_cert_file_env());

	for (size_t i = 0; i < sizeof(read_by_all) / sizeof(read_by_all[0]); i++)
		landlock_allow(set, read_by_all[i], LANDLOCK_READ | LANDLOCK_LIST);
	landlock_allow_replaced(set, "/etc/resolv.conf", LANDLOCK_READ);
	landlock_allow_replaced(set, "/etc/hosts", LANDLOCK_READ);
	if (ca_folder != NULL)
		landlock_allow(set, ca_folder, LANDLOCK_READ | LANDLOCK_LIST);
	if (ca != NULL)
		landlock_allow_replaced(set, ca, LANDLOCK_READ);
}

static void
allow_certificates(int set, const struct route *r)
{
	for (int side = CLIENT; side <= BACKEND; side++) {
		const struct tls_settings *tls = &r->leg[side].tls;
		const char *const files[] = { tls->ca, tls->cert, tls->key };

		for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
			if (files[i] != NULL)
				landlock_allow_replaced(set, files[i], LANDLOCK_READ);
	}
}

/* The main thread opens listeners, a worker closes them. */
static void
allow_sockets(int set, const struct config *c)
{
	if (c->control != NULL)
		landlock_allow_replaced(set, c->control, LANDLOCK_SOCKET);
	for (size_t i = 0; i < c->n_routes; i++)
		for (size_t k = 0; k < c->routes[i].n_listen; k++) {
			const struct endpoint *ep = &c->routes[i].listen[k];

			if (ep->kind == ENDPOINT_UNIX && ep->host[0] != '@')
				landlock_allow_replaced(set, ep->host, LANDLOCK_SOCKET);
		}
}

static void
allow_log(int set, const struct config *c)
{
	if (c->log.target == TARGET_FILE)
		landlock_allow_replaced(set, c->log.path, LANDLOCK_READ | LANDLOCK_WRITE | LANDLOCK_CREATE);
}

static void
allow_main(int set, const struct config *c)
{
	landlock_allow(set, "/proc/self", LANDLOCK_READ | LANDLOCK_LIST);
	landlock_allow(set, "/dev/null", LANDLOCK_READ | LANDLOCK_WRITE);
	if (c->path != NULL && !c->is_environment)
		landlock_allow_replaced(set, c->path, LANDLOCK_READ);
	for (size_t i = 0; i < c->n_files; i++)
		landlock_allow_replaced(set, c->files[i], LANDLOCK_READ);
	allow_log(set, c);
	for (size_t i = 0; i < c->n_routes; i++)
		allow_certificates(set, &c->routes[i]);
}

static void
make_files(struct sandbox *s, const struct config *c)
{
	s->version = landlock_version();
	for (int i = 0; i < SANDBOX_THREADS && s->version > 0; i++) {
		s->files[i] = landlock_new(s->version, i != SANDBOX_MAIN);
		if (s->files[i] < 0) {
			s->version = s->files[i];
			return;
		}
		if (i != SANDBOX_LOG) {
			allow_all(s->files[i]);
			allow_sockets(s->files[i], c);
		}
	}
	if (s->version <= 0)
		return;
	allow_main(s->files[SANDBOX_MAIN], c);
	allow_log(s->files[SANDBOX_LOG], c);
	landlock_allow_port(s->files[SANDBOX_WORKER], 0);	/* source = client: from an address, and any port */
}

struct sandbox *
sandbox_new(const struct config *c)
{
	struct sandbox *s;

	if (!c->sandbox)
		return NULL;
#ifdef SANDBOX_NOT_HERE
	log_say(LEVEL_INFO, "sandbox: not in this build, which is for tests (%s)", SANDBOX_NOT_HERE);
	return NULL;
#endif
	s = calloc(1, sizeof(*s));
	if (s == NULL) {
		log_say(LEVEL_WARN, "sandbox: out of memory, continuing without it");
		return NULL;
	}
	for (int i = 0; i < SANDBOX_THREADS; i++)
		s->files[i] = -1;
	make_files(s, c);
	return s;
}

void
sandbox_enter(struct sandbox *s, enum sandbox_thread kind)
{
	/* Files first: the filter does not allow the calls of Landlock. */
	if (s->files[kind] >= 0) {
		const int r = landlock_enter(s->files[kind]);

		if (r != 0)
			s->files_error[kind] = r;
		else if (kind == SANDBOX_MAIN)
			confined_begin();
	}
	s->calls_error[kind] = calls_enter(kind);
}

static int
first_of(const int errors[SANDBOX_THREADS])
{
	return errors[SANDBOX_MAIN] != 0 ? errors[SANDBOX_MAIN] : errors[SANDBOX_WORKER];	/* that of the log is as the main thread's */
}

void
sandbox_say(const struct sandbox *s)
{
	const int files = s->version <= 0 ? (s->version < 0 ? s->version : -EOPNOTSUPP) : first_of(s->files_error);
	const int calls = first_of(s->calls_error);
	char landlock[64];

	snprintf(landlock, sizeof(landlock), "Landlock ABI %d (files%s)", s->version, s->version >= LANDLOCK_PORTS ? ", ports" : "");
	if (files == 0 && calls == 0)
		log_say(LEVEL_INFO, "sandbox: seccomp, %s", landlock);
	else if (calls == 0)
		log_say(LEVEL_INFO, "sandbox: seccomp; no Landlock in this kernel or container: %s", strerror(-files));
	else if (files == 0)
		log_say(LEVEL_WARN, "sandbox: %s; seccomp is not available: %s", landlock, strerror(-calls));
	else
		log_say(LEVEL_WARN, "sandbox: none. seccomp is not available: %s; Landlock: %s", strerror(-calls), strerror(-files));
}

void
sandbox_free(struct sandbox *s)
{
	if (s == NULL)
		return;
	for (int i = 0; i < SANDBOX_THREADS; i++)
		if (s->files[i] >= 0)
			close(s->files[i]);
	free(s);
}
