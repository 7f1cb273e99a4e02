/*
 * redirect.c - `stent redirect install | remove | show`: firewall rules that bring connections to stent.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/control_client.h"
#include "stent/cli.h"
#include "stent/redirect.h"

const char *const redirect_modes[] = { "redirect", "tproxy", NULL };
static const char *const actions[] = { "install", "remove", "show", NULL };

enum action { INSTALL, REMOVE, SHOW };

static int
install(const struct redirect *r)
{
	char why[REDIRECT_WHY_MAX];

	if (redirect_install(r, why) != 0) {
		cli_error("stent redirect install: %s", why);
		return CLI_FAILED;
	}
	printf("table inet %s: %s\n", r->name, r->text);
	return CLI_DONE;
}

static int
take_away(const char *name)
{
	char why[REDIRECT_WHY_MAX];

	if (redirect_remove(name, why) == 0)
		return CLI_DONE;
	cli_error("stent redirect remove: %s", why);
	return CLI_FAILED;
}

static void
add_rule(const struct redirect_rule *rule, void *arg)
{
	json_array_append_new(arg, json_pack("{s:s, s:s?, s:I, s:I}", "chain", rule->chain, "rule", rule->text,
	    "packets", (json_int_t)rule->packets, "bytes", (json_int_t)rule->bytes));
}

static void
print_rules(const char *name, const char *options, const json_t *rules)
{
	const json_t *one;
	size_t i;

	printf("table inet %s: %s\n", name, options);
	json_array_foreach(rules, i, one) {
		const char *text = json_string_value(json_object_get(one, "rule"));

		printf("  %-10s %10" JSON_INTEGER_FORMAT " packets %12" JSON_INTEGER_FORMAT " bytes  %s\n",
		    json_string_value(json_object_get(one, "chain")), json_integer_value(json_object_get(one, "packets")),
		    json_integer_value(json_object_get(one, "bytes")), text != NULL ? text : "(not a rule of stent)");
	}
}

static int
show(const char *name, bool as_json)
{
	char why[REDIRECT_WHY_MAX], options[REDIRECT_TEXT_MAX];
	json_t *rules = json_array();
	const int r = rules != NULL ? redirect_show(name, options, add_rule, rules, why) : -ENOMEM;

	if (r == 0 && as_json) {
		json_t *all = json_pack("{s:s, s:s, s:O}", "table", name, "options", options, "rules", rules);

		if (all != NULL)
			control_client_print(all);
		json_decref(all);
	} else if (r == 0) {
		print_rules(name, options, rules);
	} else {
		cli_error("stent redirect show: %s", r == -ENOMEM ? strerror(ENOMEM) : why);
	}
	json_decref(rules);
	return r == 0 ? CLI_DONE : CLI_FAILED;
}

/* remove and show need the name alone; what else is given was meant for another command. */
static bool
has_only_name(const struct redirect_words *w)
{
	return w->port == NULL && w->to == NULL && w->cidr == NULL && w->except == NULL && w->uid == NULL && w->gid == NULL && w->cgroup == NULL &&
	    w->mode == NULL && !w->in && !w->out;
}

int
cli_redirect(int argc, char **argv)
{
	struct cli_values v = { 0 };
	struct redirect r;
	char why[REDIRECT_WHY_MAX];
	const int words = cli_options(argc, argv, 1, &v);
	enum action action;

	if (words < 0)
		return CLI_WRONG;
	action = (enum action)cli_word_at(actions, words == 1 ? argv[1] : "");
	if (actions[action] == NULL) {
		cli_error("stent redirect: write install, remove or show, as in: stent redirect install --port 5432 --to 6432 --uid 65534");
		return CLI_WRONG;
	}
	if (action == INSTALL && v.json) {
		cli_error("stent redirect install: --json is for show");
		return CLI_WRONG;
	}
	if (action != INSTALL && !has_only_name(&v.redirect)) {
		cli_error("stent redirect %s: only --name says what is meant; the other options are for install", actions[action]);
		return CLI_WRONG;
	}
	if (action != INSTALL ? redirect_read_name(&r, v.redirect.name, why) != 0 : redirect_read(&r, &v.redirect, why) != 0) {
		cli_error("stent redirect %s: %s", actions[action], why);
		return CLI_WRONG;
	}
	if (action == INSTALL)
		return install(&r);
	return action == REMOVE ? take_away(r.name) : show(r.name, v.json);
}
