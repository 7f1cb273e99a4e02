/*
 * keys.c - the table of keys, and how their names are read.
 *
 * A row says where a key may stand, how its value is read and printed, its
 * default (as text: it goes through the same reader as the operator's), and
 * its help. A new setting is a row here and a field in config.h.
 *
 * A key of a leg without the leg's name means both legs.
 */
#include <assert.h>
#include <openssl/prov_ssl.h>
#include <stddef.h>
#include <string.h>

#include "config/keys.h"
#include "config/units.h"
#include "stent/log.h"

#define SECONDS(n) (INT64_C(1000) * (n))
#define HOURS(n) (SECONDS(3600) * (n))
#define DAYS(n) (HOURS(24) * (n))
#define USER_TIMEOUT_MAX INT32_MAX	/* ms; the kernel takes an int */

static const struct word off[] = { { "off", 0 }, { 0 } };
static const struct word automatic[] = { { "auto", 0 }, { 0 } };
static const struct word automatic_or_off[] = { { "auto", -1 }, { "off", 0 }, { 0 } };
static const struct word drains[] = { { "refuse", false }, { "serve", true }, { 0 } };
static const struct word formats[] = { { "text", FORMAT_TEXT }, { "json", FORMAT_JSON }, { 0 } };
static const struct word levels[] = {
	{ "error", LEVEL_ERROR }, { "warn", LEVEL_WARN }, { "info", LEVEL_INFO }, { "debug", LEVEL_DEBUG }, { 0 },
};
static const struct word kinds[] = {
	{ "auto", 0 }, { "oneway", HEARTBEAT_ONEWAY }, { "ping", HEARTBEAT_PING }, { "early", HEARTBEAT_EARLY }, { 0 },
};
static const struct word when_full[] = { { "refuse", WHEN_FULL_REFUSE }, { "evict", WHEN_FULL_EVICT }, { 0 } };
static const struct word on_dead[] = {
	{ "notify", ON_DEAD_NOTIFY }, { "reset", ON_DEAD_RESET }, { "close", ON_DEAD_CLOSE }, { 0 },
};

static const struct word balances[] = {
	{ "first", BALANCE_FIRST }, { "least-flows", BALANCE_LEAST_FLOWS }, { "hash-client", BALANCE_HASH_CLIENT }, { 0 },
};
static const struct word accept_proxy[] = {
	{ "off", ACCEPT_PROXY_OFF }, { "require", ACCEPT_PROXY_REQUIRE }, { "accept", ACCEPT_PROXY_ACCEPT }, { 0 },
};
static const struct word send_proxy[] = { { "off", 0 }, { "v1", 1 }, { "v2", 2 }, { 0 } };

static const struct word on_unhealthy[] = { { "keep", ON_UNHEALTHY_KEEP }, { "close", ON_UNHEALTHY_CLOSE }, { 0 } };

static const struct word backend_tls[] = { { "off", TLS_OFF }, { "verify", TLS_VERIFY }, { "insecure", TLS_INSECURE }, { 0 } };
static const struct word client_tls[] = { { "off", TLS_OFF }, { "accept", TLS_ACCEPT }, { "require", TLS_REQUIRE }, { 0 } };
static const struct word tls_versions[] = { { "1.2", TLS1_2_VERSION }, { "1.3", TLS1_3_VERSION }, { 0 } };
static const struct word tls_starts[] = { { "negotiate", false }, { "direct", true }, { 0 } };
static const struct word sources[] = { { "off", false }, { "client", true }, { 0 } };
static const struct word system_ca[] = { { "system", 0 }, { 0 } };

#define PROCESS(k, t, field) .name = k, .scope = SCOPE_PROCESS, .type = &type_##t, \
	.offset = offsetof(struct config, field)
#define ROUTE(k, t, field) .name = k, .scope = SCOPE_ROUTE, .type = &type_##t, \
	.offset = offsetof(struct route, field)
#define LEG(k, t, field) .name = k, .scope = SCOPE_LEG, .legs = BOTH_LEGS, .type = &type_##t, \
	.offset = offsetof(struct route, leg) + offsetof(struct leg_settings, field), \
	.stride = sizeof(struct leg_settings)
#define ONE_LEG(side, k, t, field) .name = k, .scope = SCOPE_LEG, .legs = side##_LEG, .type = &type_##t, \
	.offset = offsetof(struct route, leg) + offsetof(struct leg_settings, field), \
	.stride = sizeof(struct leg_settings)
#define LEG_BYTES(k, t, field) .name = k, .scope = SCOPE_LEG, .legs = BOTH_LEGS, .type = &type_##t, \
	.offset = offsetof(struct route, codec_settings.field), .stride = sizeof(struct codec_bytes)

const struct key keys[] = {
	{ PROCESS("workers", count, workers), .needs_restart = true, .min = 1, .max = CONFIG_WORKERS_MAX, .words = automatic,
	  .def = "auto",
	  .help = "Number of relaying threads; auto: one per core" },
	{ PROCESS("log", log, log), .def = "stderr",
	  .help = "Where the log goes; a file is reopened on SIGUSR1" },
	{ PROCESS("log_format", word, log.format), .words = formats, .def = "text",
	  .help = "How a log line is written" },
	{ PROCESS("log_level", word, log.level), .words = levels, .def = "info",
	  .help = "Minimum severity of logged lines; the end of a flow is info, its start debug" },
	{ PROCESS("control", path, control), .needs_restart = true, .words = off, .def = CONFIG_CONTROL_PATH,
	  .help = "Socket for stent status, top, kill, reload, pause, drain and healthcheck" },
	{ PROCESS("admin", admin, admin), .words = off, .def = "127.0.0.1:9464",
	  .help = "Where the status page, /metrics, /flows, /healthz and /readyz are served; an address that other "
	    "hosts reach needs admin_token" },
	{ PROCESS("admin_token", token, admin_token), .words = off, .def = "off",
	  .help = "The secret for reading what admin serves, except /healthz and /readyz: Authorization: Bearer TOKEN; in a "
	    "browser, a form asks for it" },
	{ PROCESS("admin_hosts", hosts, admin_hosts), .words = off, .def = "off",
	  .help = "Host names accepted in the Host header of requests to admin, besides addresses, the "
	    "machine's own names, and names without a dot" },
	{ PROCESS("admin_quit", flag, admin_quit), .def = "off",
	  .help = "POST /quitquitquit on admin stops stent as SIGTERM does, for a job that ends its sidecar; with admin_token, which is "
	    "then needed" },
	{ PROCESS("user", user, user), .needs_restart = true, .words = off, .def = "nobody",
	  .help = "The user that stent switches to when started as root; off: it stays root" },
	{ PROCESS("sandbox", flag, sandbox), .needs_restart = true, .def = "on",
	  .help = "Linux: after the start stent can no longer run programs, nor open files outside of the folders that these settings name "
	    "(and /etc and /usr, to read), nor do what else it does not need. Settings that need another folder need a restart then" },
	{ PROCESS("max_flows", count, max_flows), .min = 1, .max = 100000000, .words = automatic, .def = "auto",
	  .help = "Maximum number of open flows; auto: what the limits on descriptors and epoll watches allow" },
	{ PROCESS("when_full", word, when_full), .words = when_full, .def = "refuse",
	  .help = "What happens to a new client at max_flows. refuse: it is reset; evict: the flow that has been idle longest ends, with the "
	    "goodbye of its protocol, unless it is in a transaction or was used in the last 2 s" },
	{ PROCESS("drain_timeout", duration, drain_timeout_ms), .max = DAYS(7), .def = "30s",
	  .help = "How long stent waits for open flows to end when it is stopped" },
	{ PROCESS("drain", choice, drain_serves), .words = drains, .def = "refuse",
	  .help = "What new clients get when stent is stopped. refuse: nothing listens any more; serve: they are accepted until no "
	    "flow is open for 2 s, or drain_timeout is over" },
	{ PROCESS("quit_when_idle", duration, quit_when_idle_ms), .min = 1, .max = DAYS(7), .words = off, .def = "off",
	  .help = "stent ends by itself, with status 0, once the first flow has come and none has been open for this long: for the "
	    "sidecar of a job. Health checks that only connect do not count" },
	{ PROCESS("on_event", exec, on_event), .words = off, .def = "off",
	  .help = "exec:PATH: a program that is run for each of the events, with the event as a line of JSON on its standard input: one at a "
	    "time, as the user that stent runs as" },
	{ PROCESS("events", events, events), .def = "flow-end, suspect, backend-down, backend-up",
	  .help = "What on_event is run for: of flow-begin, flow-end, heartbeat-missed, suspect, recovered, passthrough, "
	    "backend-down, backend-up, limit, reload" },
	{ PROCESS("event_timeout", duration, event_timeout_ms), .min = 1, .max = HOURS(1), .def = "10s",
	  .help = "How long the program of on_event may run before it is killed, with what it has started" },

	{ ROUTE("listen", listen, listen),
	  .help = "Where clients connect; several separated by commas. 0.0.0.0:PORT is IPv4, [::]:PORT IPv6, "
	    ":PORT both; fd:NAME is a socket from systemd, unix:@NAME an abstract one" },
	{ ROUTE("unix_mode", mode, unix_mode), .max = 0777, .def = "0660",
	  .help = "File mode, as for chmod, of a listener on unix:PATH: who may connect; the file belongs to user" },
	{ ROUTE("backend", backend, backend),
	  .help = "Where flows go; several separated by commas: see balance. "
	    "A name is looked up, and all its addresses are tried; original: the destination of a redirected connection" },
	{ ROUTE("transparent", flag, transparent), .def = "off",
	  .help = "The listeners take connections that TPROXY brings, whatever their destination (IP_TRANSPARENT); with backend = original "
	    "they go there. Needs root or CAP_NET_RAW at the start" },
	{ ROUTE("source", choice, source_client), .words = sources, .def = "off",
	  .help = "client: connections to the backend come from the client's address (any port). Replies must be routed back to this "
	    "machine: stent check --explain prints how. Needs root or CAP_NET_RAW" },
	{ ROUTE("protocol", protocol, protocol), .def = "tcp",
	  .help = "The application protocol, which decides the heartbeats; tcp: any bytes, TCP probes only; "
	    "auto: detected from the first bytes" },
	{ ROUTE("connect_timeout", duration, connect_timeout_ms), .min = 1, .max = DAYS(1), .def = "5s",
	  .help = "Maximum time to connect, over all backends of a flow and their addresses" },
	{ ROUTE("failover_after", duration, failover_after_ms), .min = 1, .max = DAYS(1), .words = off, .def = "250ms",
	  .help = "If a backend has not accepted within this time, the next one is tried in parallel, and the first to accept gets "
	    "the flow; off: the next is tried when one has failed or used up its share of connect_timeout" },
	{ ROUTE("balance", word, balance), .words = balances, .def = "first",
	  .help = "In which order several backends, and the addresses of a name, are tried. first: as written; least-flows: the one "
	    "with the fewest open flows of this route; hash-client: by the client's IP address, so that a client always gets the same one" },
	{ ROUTE("retry_after", duration, retry_after_ms), .min = 1, .max = HOURS(1), .words = off, .def = "2s",
	  .help = "For how long a backend's address that did not answer is passed over: tried only when no other is left. It doubles with "
	    "each failure, up to 16 times this, less up to 20 % at random; then one flow tries it. One that refuses is passed over unless balance is first. off: never" },
	{ ROUTE("health", health, health), .words = off, .def = "off",
	  .help = "How backends are checked; new flows go only to those whose check passes. tcp: they accept connections; "
	    "http://:PORT/PATH: GET of that path at the backend's host gives status 200 to 399, as of Patroni's http://:8008/primary; :PORT may be left out" },
	{ ROUTE("health_interval", duration, health_interval_ms), .min = 100, .max = HOURS(1), .def = "2s",
	  .help = "Time between two checks of a backend, 10 % more or less at random" },
	{ ROUTE("health_timeout", duration, health_timeout_ms), .min = 10, .max = HOURS(1), .def = "2s",
	  .help = "Maximum time of a check" },
	{ ROUTE("health_rise", count, health_rise), .min = 1, .max = 100, .def = "2",
	  .help = "Checks in a row that must pass until a backend that is down is up; the first check ever decides alone" },
	{ ROUTE("health_fall", count, health_fall), .min = 1, .max = 100, .def = "3",
	  .help = "Checks in a row that must fail until a backend that is up is down" },
	{ ROUTE("on_unhealthy", word, on_unhealthy), .words = on_unhealthy, .def = "keep",
	  .help = "What happens to open flows of a backend that goes down by its checks; close: they end, with the protocol's goodbye, so that "
	    "applications reconnect to another one" },
	{ ROUTE("connect_retry", duration, connect_retry_ms), .min = 1, .max = DAYS(1), .words = off, .def = "off",
	  .help = "How long a client waits while no backend accepts (a database that restarts): all are tried again and again, each time "
	    "within connect_timeout, after 0.1 to 1 s; off: it is refused" },
	{ ROUTE("dns_ttl", duration, dns_ttl_ms), .max = DAYS(1), .def = "10s",
	  .help = "How long a resolved address is used before the name is looked up again; it stays "
	    "in use while no name server replies" },
	{ ROUTE("handshake_timeout", duration, handshake_timeout_ms), .min = 1, .max = HOURS(1), .def = "10s",
	  .help = "Maximum time for the TLS handshake with each side, from its connection on, including what a protocol exchanges "
	    "before it" },
	{ ROUTE("max_age", duration, max_age_ms), .min = SECONDS(1), .max = DURATION_MAX_MS, .words = off, .def = "off",
	  .help = "A flow ends at its next message boundary, with the protocol's goodbye, once it is 80 to 100 % so old (each flow at "
	    "another age); a statement or transaction may go on for a tenth of max_age" },
	{ ROUTE("max_flows", count, max_flows), .min = 1, .max = 100000000, .words = off, .def = "off",
	  .help = "Maximum number of open flows of this route; stent relay --max_flows is that of [stent]" },
	{ ROUTE("when_full", word, when_full), .words = when_full, .def = "refuse",
	  .help = "What happens to a new client at the max_flows of this route: as in [stent], with a flow of this route" },
	{ ROUTE("allow", networks, allow), .words = off, .def = "off",
	  .help = "Clients that may connect, by their IP address: networks such as 10.0.0.0/8 or 2001:db8::/32, addresses, and files with "
	    "one of them a line; off: all. UNIX listeners have unix_mode instead" },
	{ ROUTE("deny", networks, deny), .words = off, .def = "off",
	  .help = "Clients that may not connect, also when they are in allow" },
	{ ROUTE("max_flows_per_client", count, max_flows_per_client), .min = 1, .max = 100000000, .words = off, .def = "off",
	  .help = "Maximum number of open flows of the route from one IP address, or from one /64 network of IPv6" },
	{ ROUTE("accept_rate", rate, accept_rate), .words = off, .def = "off",
	  .help = "Maximum rate of new flows from one IP address, or from one /64 network of IPv6: 100/s, 20/m or 100/h, with an average "
	    "of that, and as many at once; 10/s/50: 50 at once" },
	{ ROUTE("first_byte_timeout", duration, first_byte_timeout_ms), .min = 1, .max = DAYS(1), .words = off, .def = "off",
	  .help = "The backend is connected only when the client has sent its first byte, and a client that sends none within this "
	    "time is reset; only for protocols whose clients speak first" },
	{ ROUTE("accept_proxy", word, accept_proxy), .words = accept_proxy, .def = "off",
	  .help = "Clients begin with a header of the PROXY protocol (version 1 or 2) that names the real client; only from "
	    "proxy_from. require: others are refused; accept: clients without a header are taken, too" },
	{ ROUTE("proxy_from", proxy_from, proxy_from), .words = off, .def = "off",
	  .help = "The balancers whose PROXY headers are taken: addresses and networks, such as 10.0.0.0/8, separated by commas; unix: "
	    "clients of UNIX listeners" },
	{ ROUTE("send_proxy", word, send_proxy), .words = send_proxy, .def = "off",
	  .help = "The backend first gets a header of the PROXY protocol that names the real client. v2 adds a unique id, and what is "
	    "known of TLS that ended here" },
	{ ROUTE("urgent", flag, urgent), .def = "on",
	  .help = "Relay TCP's urgent bytes (Oracle's break, Telnet, rlogin, old FTP); off: they are dropped, as for a "
	    "program that does not request them" },
	{ ROUTE("on_dead", word, on_dead), .words = on_dead, .def = "notify",
	  .help = "What the surviving peer gets when the other is dead. notify: the protocol's close message or error where it has "
	    "one, else a reset; close: a FIN (a reset where a FIN would make a partial response look complete)" },
	{ ROUTE("cancel_on_death", flag, cancel_on_death), .def = "on",
	  .help = "Cancel the running query of a client that is dead or was cut off (kill, idle_timeout), where the protocol can" },

	{ ONE_LEG(CLIENT, "tls", word, tls.mode), .words = client_tls, .def = "off",
	  .help = "TLS toward clients, with tls_cert and tls_key. require: every client must use it; accept: those that ask for "
	    "it get it, in a protocol where clients speak first or can ask" },
	{ ONE_LEG(BACKEND, "tls", word, tls.mode), .words = backend_tls, .def = "off",
	  .help = "TLS toward the backend. verify: its certificate must be of a trusted CA and for its name; insecure: encrypted, but "
	    "anyone on the path can pose as the backend" },
	{ ONE_LEG(CLIENT, "tls_ca", file, tls.ca), .words = off, .def = "off",
	  .help = "CA certificates (PEM). Clients must show a certificate of one of them" },
	{ ONE_LEG(BACKEND, "tls_ca", file, tls.ca), .words = system_ca, .def = "system",
	  .help = "CA certificates (PEM) that are trusted to sign the backend's; system: those of the operating system" },
	{ ONE_LEG(BACKEND, "tls_name", server_name, tls.name), .words = automatic, .def = "auto",
	  .help = "The name sent to the backend (SNI) and looked for in its certificate; auto: the host written in backend, "
	    "which may be an IP address; with backend = original the address" },
	{ LEG("tls_cert", file, tls.cert), .words = off, .def = "off",
	  .help = "The certificate (PEM) shown to this side, followed by the intermediate ones. Toward the backend: a client "
	    "certificate" },
	{ LEG("tls_key", file, tls.key), .words = off, .def = "off",
	  .help = "The private key (PEM) of tls_cert, without a passphrase; it may be in the same file" },
	{ LEG("tls_min", word, tls.min_version), .words = tls_versions, .def = "1.2",
	  .help = "The oldest version of TLS that is accepted" },
	{ ONE_LEG(BACKEND, "tls_start", choice, tls.direct), .words = tls_starts, .def = "negotiate",
	  .help = "How TLS begins with protocol = postgres. negotiate: by SSLRequest; direct: at once (PostgreSQL 17 and later)" },

	{ LEG("detect", duration, detect_ms), .min = SECONDS(6), .max = HOURS(1), .words = off, .def = "off",
	  .help = "A dead host, a dead path and, where the protocol has pings, a hung program are found within this time. Sets "
	    "keepalive, user_timeout, heartbeat, heartbeat_timeout and heartbeat_misses, where they are not set: see docs/choosing.md" },
	{ LEG("profile", profile, profile), .words = off, .def = "off",
	  .help = "What is on the way to this side and forgets or closes quiet flows (stent help profiles lists them): heartbeats, or "
	    "probes where any packet counts, come after half of its limit at the latest, where they are not set" },
	{ LEG("keepalive", keepalive, keepalive), .words = off, .def = "25s/10s/6",
	  .help = "TCP keepalive probes: idle time before the first, interval, and how many unanswered before the "
	    "peer is considered dead" },
	{ LEG("user_timeout", duration, keepalive.user_timeout_ms), .min = 1, .max = USER_TIMEOUT_MAX,
	  .words = automatic_or_off, .def = "auto",
	  .help = "TCP_USER_TIMEOUT: how long sent bytes may be unacknowledged before the peer is considered dead; "
	    "auto: idle + interval x probes of keepalive; off: the kernel's own limit" },
	{ LEG("heartbeat", heartbeat, heartbeat_ms), .min = 1, .max = DAYS(7),
	  .words = automatic_or_off, .def = "auto",
	  .help = "A heartbeat is sent after this time without bytes in either direction; auto: what suits "
	    "the protocol" },
	{ LEG("heartbeat_kind", word, heartbeat_kind), .words = kinds, .def = "auto",
	  .help = "oneway: no reply is expected; ping: the peer must reply, which finds a hung program; early: bytes "
	    "that are certain to come anyway, sent in advance; auto: what suits the protocol" },
	{ LEG("heartbeat_timeout", duration, heartbeat_timeout_ms), .min = 1, .max = DAYS(1), .def = "30s",
	  .help = "How long the reply to a ping may take" },
	{ LEG("heartbeat_misses", count, heartbeat_misses), .min = 1, .max = 1000,
	  .words = automatic_or_off, .def = "auto",
	  .help = "Missed replies in a row before the peer is considered dead; auto: 3 for ping, off for oneway and early" },
	{ LEG("heartbeat_limit", duration, heartbeat_limit_ms), .min = 1, .max = DURATION_MAX_MS,
	  .words = off, .def = "12h",
	  .help = "Heartbeats stop when the other side's application has been idle for this long; "
	    "then the server's own idle timeouts apply" },
	{ LEG("idle_timeout", duration, idle_timeout_ms), .min = 1, .max = DURATION_MAX_MS,
	  .words = off, .def = "off",
	  .help = "A flow ends when this side's application has been idle for this long" },
	{ LEG_BYTES("heartbeat_send", line, heartbeat_send),
	  .help = "With protocol = line: the heartbeat's line, such as \"PING\\n\"; escapes: \\n \\r \\t \\0 "
	    "\\xHH \\\\ \\\"" },
	{ LEG_BYTES("heartbeat_expect", bytes, heartbeat_expect),
	  .help = "With protocol = line: the reply, which is removed; it must be a line that the application itself "
	    "never gets. Without it the heartbeat is one-way" },
	{ .name = "heartbeat_text", .scope = SCOPE_LEG, .legs = CLIENT_LEG, .type = &type_comment,
	  .offset = offsetof(struct route, codec_settings.comment), .words = automatic, .def = "auto",
	  .help = "The comment sent as heartbeat in an event stream, such as \":stent\\n\\n\", with or without the empty "
	    "line after it; \\n: the stream's own line ending; auto: \":\\n\\n\", and \":\\n\" in a stream whose events have ids" },
	{ .name = "heartbeat_at_start", .scope = SCOPE_LEG, .legs = CLIENT_LEG, .type = &type_flag,
	  .offset = offsetof(struct route, codec_settings.comment_at_start), .def = "off",
	  .help = "Heartbeats in an event stream begin before its first byte: for a server that is slow to respond" },
	{ .name = "heartbeat_in_transaction", .scope = SCOPE_LEG, .legs = BACKEND_LEG, .type = &type_flag,
	  .offset = offsetof(struct route, codec_settings.in_transaction), .def = "off",
	  .help = "Heartbeats to a database also inside an open transaction, which then keeps its locks" },
	{ .name = "heartbeat_while_busy", .scope = SCOPE_LEG, .legs = BOTH_LEGS, .type = &type_flag,
	  .offset = offsetof(struct route, codec_settings.while_busy), .stride = sizeof(bool), .def = "off",
	  .help = "Heartbeats of a database protocol are sent to this side also while a statement or command runs, when the "
	    "peer may itself rely on silence to find a dead one; for middleboxes that count only data" },
	{ 0 },
};

const struct key *
key_find(const char *name, enum scope section)
{
	for (const struct key *k = keys; k->name != NULL; k++)
		if (key_is_in(k, section) && strcmp(k->name, name) == 0)
			return k;
	return NULL;
}

const struct key *
key_find_leg(const char *name, enum side side)
{
	for (const struct key *k = keys; k->name != NULL; k++)
		if (k->scope == SCOPE_LEG && key_has_leg(k, side) && strcmp(k->name, name) == 0)
			return k;
	return NULL;
}

/* The legs that have a key of this name. */
static unsigned
legs_of(const char *name)
{
	unsigned legs = 0;

	for (const struct key *k = keys; k->name != NULL; k++)
		if (k->scope == SCOPE_LEG && strcmp(k->name, name) == 0)
			legs |= k->legs;
	return legs;
}

/* A key of its own for each leg, with other values: without the leg's name it would have none in common. */
bool
key_needs_leg(const struct key *k)
{
	return k->scope == SCOPE_LEG && k->legs != legs_of(k->name);
}

const struct key *
key_read(const char *written, enum scope section, int *side)
{
	const struct key *k;

	*side = -1;
	for (int s = CLIENT; s <= BACKEND; s++) {
		size_t len = strlen(side_name((enum side)s));

		if (strncmp(written, side_name((enum side)s), len) != 0 || written[len] != '.')
			continue;
		*side = s;
		return section == SCOPE_PROCESS ? NULL : key_find_leg(written + len + 1, (enum side)s);
	}
	k = key_find(written, section);
	return k != NULL && !key_needs_leg(k) ? k : NULL;
}

const char *
key_text(const struct key *k, int side, char buf[KEY_NAME_MAX])
{
	if (k->scope == SCOPE_LEG && side >= 0)
		snprintf(buf, KEY_NAME_MAX, "%s.%s", side_name((enum side)side), k->name);
	else
		snprintf(buf, KEY_NAME_MAX, "%s", k->name);
	return buf;
}

const char *
key_form(const struct key *k, char buf[KEY_FORM_MAX])
{
	size_t len = 0;

	buf[0] = '\0';
	for (const struct word *w = k->words; w != NULL && w->name != NULL && len < KEY_FORM_MAX; w++)
		len += (size_t)snprintf(buf + len, KEY_FORM_MAX - len, "%s%s", len > 0 ? " | " : "", w->name);
	if (k->type->form != NULL && len < KEY_FORM_MAX)
		snprintf(buf + len, KEY_FORM_MAX - len, "%s%s", len > 0 ? " | " : "", k->type->form);
	return buf;
}

/* The key of a route with this name, or the one that was renamed from it. */
static const struct key *
find_former(const char *name)
{
	const char *now = nearest_successor(name);

	return key_find(now != NULL ? now : name, SCOPE_ROUTE);
}

#define EITHER_LEG "client.%s\" or \"backend.%s"

/* A right or former key after a wrong leg, or a leg's name before a key that has none. */
static const char *
meant_leg(const char *wrong, char buf[MEANT_MAX])
{
	const char *dot = strchr(wrong, '.');
	const struct key *k = dot != NULL ? find_former(dot + 1) : NULL;
	char prefix[NEAREST_MAX];
	struct nearest n;
	unsigned legs;

	if (k == NULL)
		return NULL;
	legs = legs_of(k->name);
	snprintf(prefix, sizeof(prefix), "%.*s", (int)(dot - wrong), wrong);
	nearest_start(&n, prefix);
	for (int s = CLIENT; s <= BACKEND; s++)
		if ((legs & 1U << s) != 0)
			nearest_offer(&n, side_name((enum side)s));
	if (k->scope != SCOPE_LEG)
		snprintf(buf, MEANT_MAX, "%s", k->name);
	else if (nearest_best(&n) != NULL)
		snprintf(buf, MEANT_MAX, "%s.%s", nearest_best(&n), k->name);
	else if (legs == BOTH_LEGS)
		snprintf(buf, MEANT_MAX, EITHER_LEG, k->name, k->name);
	else
		snprintf(buf, MEANT_MAX, "%s.%s", side_name(legs == CLIENT_LEG ? CLIENT : BACKEND), k->name);
	return buf;
}

const char *
key_meant(const char *wrong, bool of_process, bool of_route, char buf[MEANT_MAX])
{
	const struct key *k;
	struct nearest n;

	if (of_route && meant_leg(wrong, buf) != NULL)
		return buf;
	nearest_start(&n, wrong);
	for (k = keys; k->name != NULL; k++) {
		if (k->scope == SCOPE_PROCESS ? !of_process : !of_route)
			continue;
		nearest_offer(&n, k->name);
		for (int s = CLIENT; k->scope == SCOPE_LEG && s <= BACKEND; s++)
			if (key_has_leg(k, (enum side)s))
				nearest_offer(&n, key_text(k, s, buf));
	}
	if (nearest_best(&n) == NULL)
		return NULL;
	k = of_route ? key_find(nearest_best(&n), SCOPE_ROUTE) : NULL;
	if (k != NULL && key_needs_leg(k))
		snprintf(buf, MEANT_MAX, EITHER_LEG, nearest_best(&n), nearest_best(&n));
	else
		snprintf(buf, MEANT_MAX, "%s", nearest_best(&n));
	return buf;
}

void *
key_field(const struct key *k, void *base, enum side side)
{
	assert(side == CLIENT || side == BACKEND);
	assert(k->scope == SCOPE_LEG || k->stride == 0);
	return (char *)base + k->offset + k->stride * side;
}
