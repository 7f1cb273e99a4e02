/*
 * access.c - who may read the status page.
 *
 * A page of another site may make a browser send requests here, but cannot read
 * the replies, as there is no CORS. With DNS rebinding it could: hosts.c decides
 * which Host headers are accepted.
 *
 * With admin_token, a program sends it as "Authorization: Bearer TOKEN". A browser
 * sends it once, by a form or as /?token=, and gets a cookie with a random number
 * that is valid until stent ends: the token itself would be sent to every other
 * port of this host.
 */
#include "admin/access.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "admin/hosts.h"
#include "admin/page.h"
#include "stent/config.h"
#include "stent/endpoint.h"
#include "stent/http_server.h"

void
access_name(struct access *a, uint16_t port)
{
	snprintf(a->cookie, sizeof(a->cookie), "stent%u", port);
}

/* --- the Host header --- */

/* For an unknown host name: says what to do, and quotes it only if it is a name. */
static void
refuse_host(struct http_exchange *x, const char *name)
{
	char text[2 * HOSTS_NAME_MAX + 256];

	if (endpoint_is_name(name))
		snprintf(text, sizeof(text), "unknown host \"%s\"; write admin_hosts = %s in [stent], or use an address, localhost, or a name "
		    "without a dot", name, name);
	else
		snprintf(text, sizeof(text), "the Host header is not a host; use an address, localhost, a name of this machine, or one of "
		    "admin_hosts in [stent]");
	http_reply_text(x, 403, text);
}

bool
access_check_host(const struct config *c, struct http_exchange *x)
{
	char name[HOSTS_NAME_MAX] = "";
	bool is_address, is_repeated;
	const char *header = http_header(x, "Host", &is_repeated);

	if (is_repeated || (header == NULL && !http_is_1_0(x))) {
		http_reply_text(x, 400, is_repeated ? "several Host headers" : "the Host header is missing");
		return false;
	}
	if (header == NULL || (hosts_read(header, name, &is_address) &&
	    (is_address || (endpoint_is_name(name) && hosts_trust(name, c->admin_hosts)))))
		return true;
	refuse_host(x, name);
	return false;
}

/* --- the token --- */

/* Takes the same time wherever they differ. */
static bool
is_equal(const char *given, const char *wanted)
{
	const size_t len = strlen(given), of = strlen(wanted);
	unsigned char differs = len != of;

	for (size_t i = 0; i < len; i++)
		differs |= (unsigned char)given[i] ^ (unsigned char)wanted[i % (of + 1)];
	return differs == 0;
}

static bool
has_session(const struct access *a, const struct http_exchange *x)
{
	const char *cookie = http_cookie(x, a->cookie);

	for (size_t i = 0; i < SESSIONS && cookie != NULL; i++)
		if (a->session[i][0] != '\0' && is_equal(cookie, a->session[i]))
			return true;
	return false;
}

static bool
has_bearer(const struct config *c, const struct http_exchange *x)
{
	bool is_repeated;
	const char *header = http_header(x, "Authorization", &is_repeated);

	if (header == NULL || is_repeated || strncasecmp(header, "Bearer ", 7) != 0)
		return false;
	header += 7;
	return is_equal(header + strspn(header, " "), c->admin_token);
}

bool
access_is_granted(const struct access *a, const struct config *c, const struct http_exchange *x)
{
	return c->admin_token == NULL || has_bearer(c, x) || has_session(a, x);
}

void
access_refuse(struct http_exchange *x)
{
	http_add_header(x, "WWW-Authenticate", "Bearer realm=\"stent\"");
	if (strcmp(http_path(x), "/") == 0) {
		http_add_header(x, "Content-Security-Policy", login_policy);
		http_reply_static(x, 401, HTTP_TYPE_HTML, login_html, login_html_len);
	} else {
		http_reply_text(x, 401, "the admin_token of the settings is needed: Authorization: Bearer TOKEN; in a browser, log in at /");
	}
}

/* --- logging in --- */

static bool
add_session(struct access *a, struct http_exchange *x)
{
	char *id = a->session[a->next], header[128];
	uint8_t random[16];

	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return false;
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(id + 2 * i, 3, "%02x", random[i]);
	a->next = (a->next + 1) % SESSIONS;
	snprintf(header, sizeof(header), "%s=%s; Path=/; HttpOnly; SameSite=Strict", a->cookie, id);
	http_add_header(x, "Set-Cookie", header);
	return true;
}

void
access_log_in(struct access *a, const struct config *c, struct http_exchange *x)
{
	char *token = http_field(x, "token");
	const bool is_right = token != NULL && c->admin_token != NULL && is_equal(token, c->admin_token);

	free(token);
	http_add_header(x, "Location", is_right && add_session(a, x) ? "/" : "/#wrong");
	http_reply_text(x, 303, is_right ? "logged in" : "wrong token");
}

void
access_log_in_by_link(struct access *a, const struct config *c, struct http_exchange *x)
{
	/* Not a redirect: after a link on another site a browser would follow it without the cookie. */
	static const char page[] = "<!doctype html><title>stent</title><meta http-equiv=\"refresh\" content=\"0; url=/\">"
	    "<a href=\"/\">stent</a>\n";
	const char *token = http_parameter(x, "token");

	if (c->admin_token != NULL && token != NULL && is_equal(token, c->admin_token) && add_session(a, x))
		http_reply_static(x, 200, HTTP_TYPE_HTML, page, sizeof(page) - 1);
	else
		access_refuse(x);
}
