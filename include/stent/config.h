/*
 * config.h - the settings file as a struct. One table of keys (name, parser,
 * default, help) feeds the reader, `stent check`, the help and the docs.
 */
#ifndef STENT_CONFIG_H
#define STENT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "stent/cidr.h"
#include "stent/codec.h"
#include "stent/endpoint.h"
#include "stent/keepalive.h"
#include "stent/log.h"
#include "stent/side.h"
#include "stent/tls.h"

#define CONFIG_PATH "/etc/stent.ini"	/* where no file is named */
#define CONFIG_ENV "STENT_CONFIG"	/* the environment variable that may hold the text of the file */
#define CONFIG_CONTROL_PATH "/run/stent/control.sock"	/* the default of control */
#define CONFIG_WORKERS_MAX 256
#define HEARTBEAT_MISSES_AUTO 3	/* what heartbeat_misses = auto means for pings */
#define DETECT_CHANCES 4	/* to answer, at least, before a leg with detect is dead */

enum balance { BALANCE_FIRST, BALANCE_LEAST_FLOWS, BALANCE_HASH_CLIENT };
enum when_full { WHEN_FULL_REFUSE, WHEN_FULL_EVICT };
enum health_kind { HEALTH_OFF, HEALTH_TCP, HEALTH_HTTP };
enum on_unhealthy { ON_UNHEALTHY_KEEP, ON_UNHEALTHY_CLOSE };

/* How backends are checked. */
struct health_settings {
	enum health_kind kind;
	uint16_t port;			/* HTTP: 0: the backend's own */
	char *path;			/* HTTP: from its slash on */
};

enum on_dead { ON_DEAD_NOTIFY, ON_DEAD_RESET, ON_DEAD_CLOSE };

/* Where a value of a leg comes from: `stent check` tells. */
enum origin { ORIGIN_DEFAULT, ORIGIN_HAND, ORIGIN_DETECT, ORIGIN_PROFILE };

enum accept_proxy { ACCEPT_PROXY_OFF, ACCEPT_PROXY_REQUIRE, ACCEPT_PROXY_ACCEPT };

/* From whom a PROXY header is taken. */
struct proxy_from {
	struct cidr_set networks;
	bool unix_too;			/* clients of UNIX listeners */
	char *text;			/* as written; NULL: from nobody */
};

/* Every AUTO is resolved by the reader: these are plain numbers for the relay. Durations: ms, 0 is off. */
struct leg_settings {
	int64_t detect_ms;		/* a dead peer is found within this time; 0: off */
	const struct profile *profile;	/* of what is on the way to the peer; NULL: off */
	struct keepalive keepalive;
	int64_t heartbeat_ms;		/* idle time after which a heartbeat is sent */
	bool heartbeat_is_auto;		/* heartbeat = auto: the codec that is found decides (protocol = auto) */
	int64_t heartbeat_max_ms;	/* limit of the codec's interval then: by detect and profile; 0: none */
	unsigned heartbeat_kind;	/* enum heartbeat_kind; 0: what the codec prefers (then heartbeat_misses: see there) */
	int64_t heartbeat_timeout_ms;
	int heartbeat_misses;		/* 0: off; -1: auto: HEARTBEAT_MISSES_AUTO for ping, else off */
	int64_t heartbeat_limit_ms;
	int64_t idle_timeout_ms;
	struct {
		enum origin keepalive, user_timeout, heartbeat, heartbeat_timeout, heartbeat_misses;
	} origin;
	struct tls_settings tls;
	struct tls_context *tls_context;	/* made from them; NULL: off */
	struct {
		int64_t cert_s;		/* when tls_cert expires: the certificate of its chain that is first to */
		int64_t ca_s;		/* when tls_ca does: the last of its certificates */
	} tls_expiry;			/* seconds since 1970; 0: none */
};

/* Addresses of clients, written as networks and files of networks. */
struct network_list {
	char *text;			/* as written; NULL: off */
	struct cidr_set set;
};

/* New flows of one client. */
struct accept_rate {
	int flows;			/* so many in per_ms; 0: off */
	int burst;			/* so many at once */
	int64_t per_ms;
};

struct route {
	const struct config *config;	/* that it is part of */
	char *name;
	char *protocol;			/* as written; "tcp" for none */
	const struct codec *codec;	/* NULL: tcp */
	struct endpoint *listen;
	size_t n_listen;
	struct endpoint *backend;
	size_t n_backend;
	struct leg_settings leg[2];
	struct codec_settings codec_settings;
	int64_t connect_timeout_ms;	/* for all backends and their addresses together */
	uint16_t *backend_place;	/* of each backend: a number that belongs to it, in all settings: see relay_shared_adopt() */
	enum balance balance;
	int64_t retry_after_ms;		/* a backend that failed is passed over so long; 0: never */
	int64_t failover_after_ms;	/* the next backend is tried in parallel then; 0: off */
	struct health_settings health;
	int64_t health_interval_ms, health_timeout_ms;
	int health_rise, health_fall;	/* checks in a row after which a backend is up or down */
	enum on_unhealthy on_unhealthy;
	int64_t connect_retry_ms;	/* how long a client waits while no backend accepts; 0: off */
	int64_t dns_ttl_ms;		/* how long a resolved address is used */
	int64_t max_age_ms;		/* of a flow; 0: off */
	int64_t handshake_timeout_ms;	/* of TLS, on each leg, with the protocol's messages before it */
	int64_t first_byte_timeout_ms;	/* the backend is dialled after the client's first byte; 0: off */
	enum accept_proxy accept_proxy;
	struct proxy_from proxy_from;
	unsigned send_proxy;		/* version of the header to the backend; 0: none */
	enum on_dead on_dead;
	int max_flows;			/* 0: off */
	unsigned when_full;		/* enum when_full: what happens at max_flows */
	struct network_list allow, deny;	/* of clients */
	int max_flows_per_client;	/* 0: off */
	struct accept_rate accept_rate;
	bool urgent;			/* relay TCP's urgent mark */
	bool cancel_on_death;
	bool transparent;		/* its listeners take flows of TPROXY */
	bool source_client;		/* backend connections have the client's address */
	int unix_mode;			/* of the file of a UNIX listener */
	int line;			/* of its section in the file */
	unsigned slot;			/* belongs to its name, in all settings that this process has read: see relay_shared_adopt() */
};

/*
 * Immutable once read, and reference-counted: whoever keeps a pointer into it (a flow, a listener, a listing) holds
 * it, so that it can be replaced while they continue.
 */
struct config {
	unsigned holders;
	char *path;			/* of the file; CONFIG_ENV; NULL: neither */
	bool is_environment;		/* they are the text of CONFIG_ENV */
	int workers;			/* threads that relay, >= 1 */
	struct log_settings log;
	char *control;			/* path; NULL: off */
	bool control_is_default;	/* not configured: failing to open it is a warning */
	char *admin;			/* HOST:PORT; NULL: off */
	bool admin_is_default;
	char *admin_token;		/* needed by readers of the page; NULL: off */
	char *admin_hosts;		/* more accepted host names, separated by commas; NULL: none */
	char *user;			/* switched to when started as root; NULL: stay root */
	bool sandbox;			/* see sandbox.h */
	int max_flows;			/* 0: auto, from the limits on descriptors and watches */
	unsigned when_full;		/* enum when_full */
	int64_t drain_timeout_ms;
	int64_t quit_when_idle_ms;	/* 0: off */
	bool admin_quit;		/* POST /quitquitquit begins a drain */
	bool drain_serves;		/* drain = serve: clients are accepted until its end */
	char *on_event;			/* path of a program; NULL: off */
	unsigned events;		/* that it is run for: a set of EVENT_BIT */
	int64_t event_timeout_ms;
	struct route *routes;
	size_t n_routes;
	char **files;			/* that values were read from: secrets, lists of networks; a path each */
	size_t n_files;
	char **warnings;		/* "FILE:LINE: warning: ...", printable; whoever uses the settings shows them */
	size_t n_warnings;
};

/*
 * Reads a file. path NULL: the text in CONFIG_ENV if that is set, else CONFIG_PATH. On success returns 0 and *ret is held by the caller (config_release()).
 * Otherwise every error has been written to `errors` as "FILE:LINE: what", one per
 * line, and -EINVAL (the file is wrong) or -errno (cannot be read) is returned.
 */
int config_read(struct config **ret, const char *path, FILE *errors);

/*
 * One route without a file: `stent relay LISTEN BACKEND --key=value ...`.
 * options are the words after the two, "--key=value"; keys of [stent] and of
 * a route are both accepted.
 */
int config_from_args(struct config **ret, const char *listen, const char *backend,
    char *const options[], size_t n_options, FILE *errors);

/* A key whose value is another in settings that replace others. */
struct config_change {
	const char *route;		/* NULL: of the process */
	const char *key;		/* NULL: the route is new (from is NULL), or removed (to is NULL) */
	const char *from, *to;		/* values as in a file; NULL: not set */
	bool needs_restart;		/* it stays as it is until then */
};
/* Calls visit for each, in the order of the table of keys. 0 or -ENOMEM. */
int config_compare(const struct config *from, const struct config *to,
    void (*visit)(const struct config_change *change, void *arg), void *arg);
/* Gives settings the values of those that run, where a change needs a restart. 0 or -ENOMEM. */
int config_keep(struct config *next, const struct config *running);

/* Reads a duration as in a file: "90s". 0 or -EINVAL. */
int config_read_duration(const char *text, int64_t *ms);

/* Prints the settings as a file with every default filled in (`stent check`). */
void config_print(const struct config *c, FILE *out);
/* Prints what follows from detect and profile and what it costs, as comments of such a file. */
void config_print_detection(const struct config *c, FILE *out);
/* Prints what TLS verifies and the certificates that it uses, as comments of such a file. */
void config_print_certificates(const struct config *c, FILE *out);

/* Prints what the machine needs besides, as commands: routing and firewall rules (`stent check --explain`). */
void config_explain(const struct config *c, FILE *out);

/* For people; for the documentation; for programs, as an object of "keys" and "protocols". */
enum keys_format { KEYS_TEXT, KEYS_MARKDOWN, KEYS_JSON };

/* Prints the table of keys and that of protocols: `stent help keys`. */
void config_print_keys(FILE *out, enum keys_format format);
/* Prints the table of profiles: `stent help profiles`. As JSON: the members of an array. */
void config_print_profiles(FILE *out, enum keys_format format);

/* NULL: there is no route of that name. */
const struct route *config_route(const struct config *c, const char *name);

/* From any thread; NULL is fine. config_read() and config_from_args() return one that is held. */
const struct config *config_hold(const struct config *c);
void config_release(const struct config *c);

#endif
