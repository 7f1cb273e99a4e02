/* print_profiles.c - the table of profiles as a reference: `stent help profiles`, and a part of docs/choosing.md. */
#include "config/profiles.h"
#include "config/units.h"

static const char *
counted(const struct profile *p)
{
	return p->counts_data ? "data alone" : "any packet";
}

static void
print_one(const struct profile *p, enum keys_format format, FILE *out)
{
	char limit[DURATION_TEXT_MAX], quiet[DURATION_TEXT_MAX];

	duration_text(p->limit_ms, limit);
	duration_text(profile_quiet_ms(p), quiet);
	switch (format) {
	case KEYS_MARKDOWN:
		fprintf(out, "| `%s` | %s | %s | %s | %s%s%s | %s | %s, %s |\n", p->name, p->what, limit, counted(p), p->then,
		    *p->detail != '\0' ? "; " : "", p->detail, quiet, p->source, p->read);
		break;
	case KEYS_JSON:		/* the table has no characters that JSON would escape */
		fprintf(out, "{\"name\": \"%s\", \"what\": \"%s\", \"limit_seconds\": %d, \"counts\": \"%s\", \"then\": \"%s\", "
		    "\"detail\": \"%s\", \"source\": \"%s\", \"read\": \"%s\"}", p->name, p->what, (int)(p->limit_ms / 1000),
		    p->counts_data ? "data" : "packets", p->then, p->detail, p->source, p->read);
		break;
	default:
		fprintf(out, "\n  %s\n      %s\n      After %s without %s: %s%s%s\n      Source, read %s:\n      %s\n", p->name, p->what, limit,
		    p->counts_data ? "data (TCP probes do not count)" : "a packet", p->then,
		    *p->detail != '\0' ? "; " : "", p->detail, p->read, p->source);
	}
}

void
config_print_profiles(FILE *out, enum keys_format format)
{
	const struct profile *p;

	if (format == KEYS_TEXT)
		fputs("Profiles: what forgets or closes quiet flows, by its default settings. `profile = NAME`\n"
		    "in a route, or client.profile and backend.profile for one leg, has heartbeats sent\n"
		    "after half of the limit at the latest; probes, where any packet counts.\n", out);
	else if (format == KEYS_MARKDOWN)
		fputs("| profile | what it is | limit | counts | a quiet flow is then | quiet at most | source, and when it was read |\n"
		    "|---|---|---|---|---|---|---|\n", out);
	for (size_t i = 0; (p = profile_at(i)) != NULL; i++) {
		if (format == KEYS_JSON && i > 0)
			fputs(",\n", out);
		print_one(p, format, out);
	}
	if (format == KEYS_JSON)
		putc('\n', out);
}
