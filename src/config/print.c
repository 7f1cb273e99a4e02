/*
 * print.c - settings as a file, and the table of keys as a reference.
 *
 * What config_print() writes is a settings file that means the same. The
 * reference is what `stent help keys` prints; docs/settings.md and the man page
 * are made from it.
 */
#include <string.h>

#include "config/keys.h"
#include "config/units.h"

#define WIDTH 79

static void
print_value(const struct key *k, void *base, int side, FILE *out)
{
	char name[KEY_NAME_MAX];
	const void *field = key_field(k, base, side < 0 ? CLIENT : (enum side)side);

	if (k->type->is_unset != NULL && k->type->is_unset(field))
		return;
	if (k->type->is_secret && *(char *const *)field != NULL)
		putc(';', out);		/* so that what is printed reads back */
	fprintf(out, "%s = ", key_text(k, side, name));
	k->type->print(k, field, out);
	putc('\n', out);
}

static void
print_route(struct route *r, FILE *out)
{
	fprintf(out, "\n[route %s]\n", r->name);
	for (const struct key *k = keys; k->name != NULL; k++)
		if (k->scope == SCOPE_ROUTE)
			print_value(k, r, -1, out);
	for (int side = CLIENT; side <= BACKEND; side++)
		for (const struct key *k = keys; k->name != NULL; k++)
			if (k->scope == SCOPE_LEG && key_has_leg(k, (enum side)side))
				print_value(k, r, side, out);
}

void
config_print(const struct config *c, FILE *out)
{
	struct config copy = *c;	/* key_field() is for writers too, so not const */

	fputs("[stent]\n", out);
	for (const struct key *k = keys; k->name != NULL; k++)
		if (k->scope == SCOPE_PROCESS)
			print_value(k, &copy, -1, out);
	for (size_t i = 0; i < c->n_routes; i++)
		print_route(&c->routes[i], out);
}

/* --- the reference --- */

static const struct chapter {
	enum scope scope;
	const char *title, *text;
} chapters[] = {
	{ SCOPE_PROCESS, "The process: [stent]", "At most once in a file." },
	{ SCOPE_ROUTE, "A route: [route NAME]", "Each route has its own section. Keys in [defaults] apply to every "
	    "route that does not set them itself." },
	{ SCOPE_LEG, "Each leg of a route", "A key with the prefix client. or backend. is for that leg; without it, "
	    "for both. A key for one leg overrides the key for both; a route's section overrides [defaults]." },
};

#define N_CHAPTERS (sizeof(chapters) / sizeof(chapters[0]))

static const char syntax_text[] = "A DURATION is a number and a unit: ms, s, m, h or d (500ms, 25s, 1.5h); 0 needs none. A comment "
    "begins with ; or #, after a value with a space and ;. A path may be quoted, with the escapes of heartbeat_send. In every value, ${NAME} is replaced by "
    "that environment variable, ${NAME:-DEFAULT} by DEFAULT if it is unset or empty; $${ stands for ${. A secret (TOKEN) may be written as @FILE: "
    "the one line in that file. Without a file named by -c, the settings are the text in the environment variable STENT_CONFIG, if it is set, else those in "
    "/etc/stent.ini.";

/* Words of a text, broken at WIDTH. */
static void
print_wrapped(const char *text, int indent, FILE *out)
{
	int column = 0;

	while (*text != '\0') {
		int len = (int)strcspn(text, " ");

		if (column > 0 && column + 1 + len > WIDTH) {
			putc('\n', out);
			column = 0;
		}
		if (column == 0)
			column = fprintf(out, "%*s", indent, "");
		else
			column += fprintf(out, " ");
		column += fprintf(out, "%.*s", len, text);
		text += len + strspn(text + len, " ");
	}
	putc('\n', out);
}

static const char *
key_title(const struct key *k, char buf[KEY_NAME_MAX])
{
	const bool has_one_leg = k->scope == SCOPE_LEG && k->legs != BOTH_LEGS;

	return key_text(k, !has_one_leg ? -1 : k->legs == CLIENT_LEG ? CLIENT : BACKEND, buf);
}

static void
print_plain(const struct chapter *c, FILE *out)
{
	char form[KEY_FORM_MAX], name[KEY_NAME_MAX];

	fprintf(out, "%s\n", c->title);
	print_wrapped(c->text, 2, out);
	for (const struct key *k = keys; k->name != NULL; k++) {
		if (k->scope != c->scope)
			continue;
		fprintf(out, "\n  %s = %s\n", key_title(k, name), key_form(k, form));
		print_wrapped(k->help, 6, out);
		if (k->def != NULL)
			fprintf(out, "      Default: %s\n", k->def);
	}
	putc('\n', out);
}

/* A cell of a table: | would end it. */
static void
print_cell(const char *text, FILE *out)
{
	for (; *text != '\0'; text++)
		fprintf(out, *text == '|' ? "\\%c" : "%c", *text);
}

static void
print_table(const struct chapter *c, FILE *out)
{
	char form[KEY_FORM_MAX], name[KEY_NAME_MAX];

	fprintf(out, "## %s\n\n%s\n\n| key | value | default | meaning |\n|---|---|---|---|\n", c->title, c->text);
	for (const struct key *k = keys; k->name != NULL; k++) {
		if (k->scope != c->scope)
			continue;
		fprintf(out, "| `%s` | `", key_title(k, name));
		print_cell(key_form(k, form), out);
		fprintf(out, "` | %s%s%s | ", k->def != NULL ? "`" : "", k->def != NULL ? k->def : "",
		    k->def != NULL ? "`" : "");
		print_cell(k->help, out);
		fputs(" |\n", out);
	}
	putc('\n', out);
}

/* --- as JSON --- */

static void
print_string(const char *text, FILE *out)
{
	putc('"', out);
	for (; *text != '\0'; text++)
		fprintf(out, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
	putc('"', out);
}

/* Names and strings alternate, ended by NULL. The tables hold no control bytes. */
static void
print_object(FILE *out, const char *const *members)
{
	for (size_t i = 0; members[i] != NULL; i += 2) {
		fputs(i == 0 ? "{" : ", ", out);
		print_string(members[i], out);
		fputs(": ", out);
		print_string(members[i + 1], out);
	}
	putc('}', out);
}

/* "names" are those it may be written by: "heartbeat client.heartbeat backend.heartbeat". No "default": it has none. */
static void
print_key_object(const struct key *k, FILE *out)
{
	static const char *const sections[] = { [SCOPE_PROCESS] = "stent", [SCOPE_ROUTE] = "route", [SCOPE_LEG] = "leg" };
	char form[KEY_FORM_MAX], name[KEY_NAME_MAX], names[3 * KEY_NAME_MAX];
	int len = key_needs_leg(k) ? 0 : snprintf(names, sizeof(names), "%s", k->name);

	for (int side = CLIENT; k->scope == SCOPE_LEG && side <= BACKEND; side++)
		if (key_has_leg(k, (enum side)side))
			len += snprintf(names + len, sizeof(names) - (size_t)len, "%s%s", len > 0 ? " " : "", key_text(k, side, name));
	print_object(out, (const char *const[]){ "name", key_title(k, name), "names", names, "section", sections[k->scope],
	    "value", key_form(k, form), "help", k->help, k->def != NULL ? "default" : NULL, k->def, NULL });
}

/* --- the protocols --- */

static const char protocols_title[] = "Protocols";
static const char protocols_text[] = "What heartbeat = auto and heartbeat_kind = auto mean toward each side, and which "
    "other kinds there are.";

/* "ping after 25s; also oneway": what a protocol does toward a side by default, and opt-in. Returns buf. */
static const char *
heartbeats_text(const struct codec *c, enum side side, char buf[KEY_FORM_MAX])
{
	static const char *const names[] = { "oneway", "ping", "early" };
	unsigned own = c->leg[side].interval_ms > 0 ? c->leg[side].kind : 0, others = c->leg[side].kinds & ~own;
	char interval[DURATION_TEXT_MAX];
	int len = 0;

	if (c->leg[side].kinds == 0)
		return "none";
	buf[0] = '\0';
	for (unsigned i = 0; i < 3; i++)
		if (own == 1U << i)
			len = snprintf(buf, KEY_FORM_MAX, "%s after %s", names[i],
			    duration_text(c->leg[side].interval_ms, interval));
	for (unsigned i = 0; i < 3; i++) {
		if ((others & 1U << i) == 0)
			continue;
		len += snprintf(buf + len, KEY_FORM_MAX - (size_t)len, "%s%s",
		    others & ((1U << i) - 1) ? ", " : own != 0 ? "; also " : "opt-in: ", names[i]);
	}
	return buf;
}

static void
print_protocol(const char *name, const char *summary, const char *client, const char *backend, enum keys_format format,
    FILE *out)
{
	if (format == KEYS_MARKDOWN)
		fprintf(out, "| `%s` | %s | %s | %s |\n", name, summary, client, backend);
	else if (format == KEYS_JSON)
		print_object(out, (const char *const[]){ "name", name, "summary", summary, "client", client, "backend", backend,
		    NULL });
	else {
		fprintf(out, "\n  %s\n", name);
		print_wrapped(summary, 6, out);
		fprintf(out, "      To the client: %s\n      To the backend: %s\n", client, backend);
	}
}

static void
print_protocols(enum keys_format format, FILE *out)
{
	char client[KEY_FORM_MAX], backend[KEY_FORM_MAX];

	print_protocol("tcp", "any bytes: TCP probes only", "none", "none", format, out);
	for (size_t i = 0; codec_at(i) != NULL; i++) {
		if (format == KEYS_JSON)
			fputs(",\n", out);
		print_protocol(codec_at(i)->name, codec_at(i)->summary, heartbeats_text(codec_at(i), CLIENT, client),
		    heartbeats_text(codec_at(i), BACKEND, backend), format, out);
	}
	putc('\n', out);
}

static void
print_text(FILE *out)
{
	for (size_t i = 0; i < N_CHAPTERS; i++)
		print_plain(&chapters[i], out);
	fprintf(out, "%s\n", protocols_title);
	print_wrapped(protocols_text, 2, out);
	print_protocols(KEYS_TEXT, out);
	print_wrapped(syntax_text, 0, out);
}

static void
print_markdown(FILE *out)
{
	for (size_t i = 0; i < N_CHAPTERS; i++)
		print_table(&chapters[i], out);
	fprintf(out, "## %s\n\n%s\n\n| protocol | what it is | to the client | to the backend |\n|---|---|---|---|\n",
	    protocols_title, protocols_text);
	print_protocols(KEYS_MARKDOWN, out);
	print_wrapped(syntax_text, 0, out);
}

static void
print_json(FILE *out)
{
	fputs("{\"keys\": [\n", out);
	for (const struct key *k = keys; k->name != NULL; k++) {
		print_key_object(k, out);
		fputs(k[1].name != NULL ? ",\n" : "\n", out);
	}
	fputs("], \"protocols\": [\n", out);
	print_protocols(KEYS_JSON, out);
	fputs("], \"profiles\": [\n", out);
	config_print_profiles(out, KEYS_JSON);
	fputs("]}\n", out);
}

void
config_print_keys(FILE *out, enum keys_format format)
{
	static void (*const print[])(FILE *out) = {
		[KEYS_TEXT] = print_text, [KEYS_MARKDOWN] = print_markdown, [KEYS_JSON] = print_json,
	};

	print[format](out);
}
