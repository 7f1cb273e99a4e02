/*
 * value.c - the types of values that are numbers, or words that stand for
 * numbers.
 *
 * A key's row lists the words it takes besides numbers ("auto", "off") and what
 * they mean, so one reader serves all keys of a type. A number is printed as
 * its word when it has one, so that output reads back as the same value.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config/keys.h"
#include "config/units.h"

#define PROBE_SECONDS_MAX 32767	/* MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL of the kernel */
#define PROBES_MAX 127		/* its MAX_TCP_KEEPCNT */

int
spot_error(const struct spot *s, const char *fmt, ...)
{
	char *text;
	va_list ap;

	if (s->errors == NULL)
		return -EINVAL;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	if (text == NULL)
		s->errors->failed = -ENOMEM;
	else
		errors_add(s->errors, s->line, "%s: %s", s->name, text);
	free(text);
	return -EINVAL;
}

static const struct word *
find_word(const struct key *k, const char *text)
{
	for (const struct word *w = k->words; w != NULL && w->name != NULL; w++)
		if (strcmp(w->name, text) == 0)
			return w;
	return NULL;
}

static const char *
word_of(const struct key *k, int64_t value)
{
	for (const struct word *w = k->words; w != NULL && w->name != NULL; w++)
		if (w->value == value)
			return w->name;
	return NULL;
}

/* Neither a word nor a number: suggests the nearest word, else gives the error of the number's reader. */
static int
no_value(const struct key *k, const char *text, const char *why, const struct spot *spot)
{
	struct nearest n;
	char form[KEY_FORM_MAX];

	nearest_start(&n, text);
	for (const struct word *w = k->words; w != NULL && w->name != NULL; w++)
		nearest_offer(&n, w->name);
	if (nearest_best(&n) != NULL)
		return spot_error(spot, "\"%s\" is not one of %s; did you mean \"%s\"?", text,
		    key_form(k, form), nearest_best(&n));
	if (why != NULL)
		return spot_error(spot, "\"%s\" %s", text, why);
	return spot_error(spot, "\"%s\" is unknown; write one of %s", text, key_form(k, form));
}

static int
parse_word(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	const struct word *w = find_word(k, text);

	if (w == NULL)
		return no_value(k, text, NULL, spot);
	*(unsigned *)field = (unsigned)w->value;
	return 0;
}

static void
print_word(const struct key *k, const void *field, FILE *out)
{
	const char *word = word_of(k, *(const unsigned *)field);

	assert(word != NULL);	/* parse_word() writes no other value */
	fputs(word, out);
}

const struct type type_word = { .parse = parse_word, .print = print_word };

static int
parse_flag(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	(void)k;
	if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0)
		return spot_error(spot, "\"%s\" is neither on nor off; write one of them", text);
	*(bool *)field = strcmp(text, "on") == 0;
	return 0;
}

static void
print_flag(const struct key *k, const void *field, FILE *out)
{
	(void)k;
	fputs(*(const bool *)field ? "on" : "off", out);
}

const struct type type_flag = { .form = "on | off", .parse = parse_flag, .print = print_flag };

static int
parse_duration(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	const struct word *w = find_word(k, text);
	char why[UNITS_WHY_MAX], low[DURATION_TEXT_MAX], high[DURATION_TEXT_MAX];
	int64_t ms;

	if (w == NULL && duration_parse(text, &ms, why) < 0)
		return no_value(k, text, why, spot);
	if (w != NULL)
		ms = w->value;
	else if ((ms < k->min || ms > k->max) && !(ms == 0 && word_of(k, 0) != NULL))
		return spot_error(spot, "\"%s\" is out of range; write %s to %s", text,
		    duration_text(k->min, low), duration_text(k->max, high));
	*(int64_t *)field = ms;
	return 0;
}

static void
print_duration(const struct key *k, const void *field, FILE *out)
{
	int64_t ms = *(const int64_t *)field;
	const char *word = word_of(k, ms);
	char buf[DURATION_TEXT_MAX];

	fputs(word != NULL ? word : duration_text(ms, buf), out);
}

const struct type type_duration = { .form = "DURATION", .parse = parse_duration, .print = print_duration };

/* With protocol = auto the detected codec decides, so the number would mislead. */
static void
print_heartbeat(const struct key *k, const void *field, FILE *out)
{
	const struct leg_settings *leg = (const struct leg_settings *)(const void *)
	    ((const char *)field - offsetof(struct leg_settings, heartbeat_ms));

	if (leg->heartbeat_is_auto)
		fputs("auto", out);
	else
		print_duration(k, field, out);
}

const struct type type_heartbeat = { .form = "DURATION", .parse = parse_duration, .print = print_heartbeat };

static int
parse_count(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	const struct word *w = find_word(k, text);
	char why[UNITS_WHY_MAX];
	int64_t n;

	if (w == NULL && count_parse(text, &n, why) < 0)
		return no_value(k, text, why, spot);
	if (w != NULL)
		n = w->value;
	else if (n < k->min || n > k->max)
		return spot_error(spot, "\"%s\" is out of range; write %d to %d", text, (int)k->min, (int)k->max);
	*(int *)field = (int)n;
	return 0;
}

static void
print_count(const struct key *k, const void *field, FILE *out)
{
	const char *word = word_of(k, *(const int *)field);

	if (word != NULL)
		fputs(word, out);
	else
		fprintf(out, "%d", *(const int *)field);
}

const struct type type_count = { .form = "NUMBER", .parse = parse_count, .print = print_count };

/* A file's mode: three octal digits, perhaps after a 0. */
static int
parse_mode(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	const size_t len = strlen(text);
	long mode;

	if (len < 3 || len > 4 || strspn(text, "01234567") != len)
		return spot_error(spot, "\"%s\" is not a file mode; write octal digits, such as 0660", text);
	mode = strtol(text, NULL, 8);
	if (mode > k->max)
		return spot_error(spot, "\"%s\" is out of range; write 0000 to %04o, such as 0660", text, (unsigned)k->max);
	*(int *)field = (int)mode;
	return 0;
}

static void
print_mode(const struct key *k, const void *field, FILE *out)
{
	(void)k;
	fprintf(out, "%04o", (unsigned)*(const int *)field);
}

const struct type type_mode = { .form = "OCTAL", .parse = parse_mode, .print = print_mode };

/* One of the two times of keepalive: in whole seconds, as in the kernel. */
static int
parse_probe_time(int *seconds, const char *text, const char *what, const struct spot *spot)
{
	char why[UNITS_WHY_MAX];
	int64_t ms;

	if (duration_parse(text, &ms, why) < 0)
		return spot_error(spot, "the %s \"%s\" %s", what, text, why);
	if (ms % 1000 != 0)
		return spot_error(spot, "the %s \"%s\" is not in whole seconds, as the kernel needs it; "
		    "write %" PRId64 "s", what, text, ms / 1000 + 1);
	if (ms < 1000 || ms > PROBE_SECONDS_MAX * INT64_C(1000))
		return spot_error(spot, "the %s \"%s\" is out of the kernel's range; write 1s to %ds", what,
		    text, PROBE_SECONDS_MAX);
	*seconds = (int)(ms / 1000);
	return 0;
}

static int
parse_probe_count(int *probes, const char *text, const struct spot *spot)
{
	char why[UNITS_WHY_MAX];
	int64_t n;

	if (count_parse(text, &n, why) < 0)
		return spot_error(spot, "the number of probes \"%s\" %s", text, why);
	if (n < 1 || n > PROBES_MAX)
		return spot_error(spot, "the number of probes \"%s\" is out of the kernel's range; write 1 to %d",
		    text, PROBES_MAX);
	*probes = (int)n;
	return 0;
}

static int
parse_keepalive(const struct key *k, void *field, const char *text, const struct spot *spot)
{
	struct keepalive *ret = field;
	int idle = 0, interval = 0, probes = 0, r;
	char *idle_text, *interval_text, *probes_text, *more;

	if (find_word(k, text) != NULL) {
		ret->idle_s = ret->interval_s = ret->probes = 0;
		return 0;
	}
	more = idle_text = strdup(text);
	if (more == NULL)
		return -ENOMEM;
	strsep(&more, "/");
	interval_text = strsep(&more, "/");
	probes_text = strsep(&more, "/");
	if (probes_text == NULL || more != NULL) {
		r = no_value(k, text, "is not IDLE/INTERVAL/PROBES; write a value such as 25s/10s/6, or off", spot);
		goto out;
	}
	r = parse_probe_time(&idle, idle_text, "idle time", spot);
	r |= parse_probe_time(&interval, interval_text, "interval", spot);
	r |= parse_probe_count(&probes, probes_text, spot);
	if (r != 0) {
		r = -EINVAL;
		goto out;
	}
	ret->idle_s = idle;
	ret->interval_s = interval;
	ret->probes = probes;
out:
	free(idle_text);
	return r;
}

static void
print_keepalive(const struct key *k, const void *field, FILE *out)
{
	const struct keepalive *keepalive = field;
	char idle[DURATION_TEXT_MAX], interval[DURATION_TEXT_MAX];

	(void)k;
	if (keepalive->idle_s == 0)
		fputs("off", out);
	else
		fprintf(out, "%s/%s/%d", duration_text(keepalive->idle_s * INT64_C(1000), idle),
		    duration_text(keepalive->interval_s * INT64_C(1000), interval), keepalive->probes);
}

const struct type type_keepalive = {
	.form = "IDLE/INTERVAL/PROBES", .parse = parse_keepalive, .print = print_keepalive,
};
