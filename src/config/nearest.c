/*
 * nearest.c - how similar two words are.
 *
 * The distance counts letters inserted, left out, replaced, and neighbours
 * swapped; case does not count. A third of the letters may be wrong. A word
 * further off may still be an abbreviation ("pg" has its letters in "postgres"
 * in that order, and begins as it does), or the right word with more after it
 * ("warning" for "warn"), but that is a weaker hint. The strongest is a name
 * that was renamed, or is one of another program: its successor always wins.
 */
#include <assert.h>
#include <ctype.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "stent/nearest.h"

/* Keys and values of earlier versions, what libpq and others call those of TLS, and schemes of URLs. */
static const struct {
	const char *former, *now;
} renamed[] = {
	{ "lookup_age", "dns_ttl" },
	{ "beat_send", "heartbeat_send" },
	{ "beat_expect", "heartbeat_expect" },
	{ "tell", "oneway" },
	{ "ask", "ping" },
	{ "ahead", "early" },
	{ "farewell", "notify" },
	{ "sslmode", "tls" }, { "ssl", "tls" },
	{ "sslrootcert", "tls_ca" }, { "ssl_ca", "tls_ca" }, { "cafile", "tls_ca" }, { "tls_cafile", "tls_ca" },
	{ "sslcert", "tls_cert" }, { "ssl_cert", "tls_cert" }, { "crt", "tls_cert" }, { "tls_certificate", "tls_cert" },
	{ "sslkey", "tls_key" }, { "ssl_key", "tls_key" }, { "ssl_certificate_key", "tls_key" }, { "tls_private_key", "tls_key" },
	{ "sni", "tls_name" }, { "tls_sni", "tls_name" }, { "servername", "tls_name" }, { "tls_servername", "tls_name" },
	{ "tls_version", "tls_min" }, { "ssl_min_protocol_version", "tls_min" }, { "sslnegotiation", "tls_start" },
	{ "on", "verify" }, { "on", "require" }, { "yes", "verify" }, { "yes", "require" }, { "true", "verify" }, { "true", "require" },
	{ "verify", "require" }, { "require", "verify" }, { "required", "verify" }, { "prefer", "verify" }, { "prefer", "accept" }, { "allow", "accept" },
	{ "optional", "accept" }, { "noverify", "insecure" }, { "no-verify", "insecure" }, { "skip-verify", "insecure" },
	{ "disable", "off" }, { "none", "off" }, { "tlsv1.2", "1.2" }, { "TLSv1.2", "1.2" }, { "tlsv1.3", "1.3" }, { "TLSv1.3", "1.3" },
	{ "ws", "websocket" }, { "wss", "websocket" }, { "https", "http" }, { "mariadb", "mysql" }, { "valkey", "redis" }, { "rediss", "redis" },
};

static unsigned
least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

static bool
is_same(char a, char b)
{
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Optimal string alignment; both shorter than NEAREST_MAX. A distance that is certain to be above limit is not computed. */
static unsigned
distance(const char *a, const char *b, unsigned limit)
{
	static const size_t max = NEAREST_MAX;
	unsigned rows[3][NEAREST_MAX];		/* this one and the two before it */
	size_t n = strlen(a), m = strlen(b);

	if (n >= max || m >= max || n > m + limit || m > n + limit)
		return UINT_MAX / 4;
	for (size_t j = 0; j <= m; j++)
		rows[0][j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned *row = rows[i % 3], *up = rows[(i + 2) % 3], *up2 = rows[(i + 1) % 3];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= m; j++) {
			row[j] = up[j - 1] + (is_same(a[i - 1], b[j - 1]) ? 0 : 1);
			row[j] = least(row[j], least(up[j], row[j - 1]) + 1);
			if (i > 1 && j > 1 && is_same(a[i - 1], b[j - 2]) && is_same(a[i - 2], b[j - 1]))
				row[j] = least(row[j], up2[j - 2] + 1);
		}
	}
	return rows[n % 3][m];
}

static bool
is_longer(const char *word, const char *right)
{
	return strlen(right) > 2 && strncasecmp(word, right, strlen(right)) == 0;
}

static bool
is_abbreviation(const char *word, const char *right)
{
	if (strlen(word) < 2 || !is_same(*word, *right))
		return false;
	for (; *word != '\0'; word++, right++) {
		while (*right != '\0' && !is_same(*word, *right))
			right++;
		if (*right == '\0')
			return false;
	}
	return true;
}

const char *
nearest_successor(const char *word)
{
	for (size_t i = 0; i < sizeof(renamed) / sizeof(renamed[0]); i++)
		if (strcmp(renamed[i].former, word) == 0)
			return renamed[i].now;
	return NULL;
}

/* The length of "client.", of which a former name may be the rest; 0: there is no such prefix. */
static size_t
prefix_of(const char *word)
{
	const char *dot = strchr(word, '.');

	return dot != NULL ? (size_t)(dot - word) + 1 : 0;
}

/* Also "client.heartbeat_send" for "client.beat_send". */
static bool
is_successor(const char *word, const char *right)
{
	const size_t prefixes[] = { 0, prefix_of(word) };

	for (size_t p = 0; p < 2; p++)
		for (size_t i = 0; i < sizeof(renamed) / sizeof(renamed[0]); i++)
			if (strncmp(word, right, prefixes[p]) == 0 && strcmp(renamed[i].former, word + prefixes[p]) == 0 &&
			    strcmp(renamed[i].now, right + prefixes[p]) == 0)
				return true;
	return false;
}

void
nearest_start(struct nearest *n, const char *word)
{
	n->word = word;
	n->best[0] = '\0';
	n->score = UINT_MAX;
	n->is_former = nearest_successor(word) != NULL || nearest_successor(word + prefix_of(word)) != NULL;
}

void
nearest_offer(struct nearest *n, const char *right)
{
	const unsigned third = (unsigned)strlen(n->word) / 3, limit = third > 0 ? third : 1;
	const unsigned d = distance(n->word, right, limit);
	unsigned score = UINT_MAX;

	assert(n->word != NULL);	/* nearest_start() came first */
	if (n->is_former && is_successor(n->word, right))
		score = 0;
	else if (d <= limit)
		score = d + 1;
	else if (is_abbreviation(n->word, right) || is_longer(n->word, right))
		score = NEAREST_MAX + 1;	/* worse than every distance */
	if (score < n->score) {
		n->score = score;
		snprintf(n->best, sizeof(n->best), "%s", right);
	}
}

const char *
nearest_best(const struct nearest *n)
{
	return n->best[0] != '\0' ? n->best : NULL;
}
