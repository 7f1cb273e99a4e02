/*
 * main.c - the simulation: lives of the program in worlds of a seed each.
 *
 * A life is a process of its own, without randomized addresses, so that its seed alone
 * decides it. A failing life is made smaller: talks and faults are left out
 * as long as the same oracle finds something.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "life.h"
#include "memory.h"

static struct {
	uint64_t seed, runs;
	double minutes;			/* of CPU; 0: as many as runs says */
	struct plan_limits limits;
	bool tells, shrinks, stops_at_first, lives_twice;
} wants = { .seed = 1, .runs = 1, .limits = { .length_us = 20 * MINUTES, .fault = -1 }, .shrinks = true };

/* What a life reports to its parent. */
struct report {
	struct life life;
	bool is_wrong;
	char why[400];
};

static struct report
live_in_child(const struct plan *p, bool tells)
{
	struct report r = { .is_wrong = true, .why = "crash: the process died" };
	int fd[2], status;
	pid_t pid;

	if (pipe(fd) != 0)
		exit(2);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		const char *why;

		close(fd[0]);
		memory_begin();
		story_is_told = tells;
		if (tells)		/* also what was told before a crash */
			setvbuf(stdout, NULL, _IOLBF, 0);
		why = life_run(p, &r.life);
		r.is_wrong = why != NULL;
		snprintf(r.why, sizeof(r.why), "%s", why != NULL ? why : "");
		fflush(NULL);
		(void)!write(fd[1], &r, sizeof(r));
		exit(0);
	}
	close(fd[1]);
	if (read(fd[0], &r, sizeof(r)) != sizeof(r))
		r.is_wrong = true;
	close(fd[0]);
	(void)waitpid(pid, &status, 0);
	if ((!WIFEXITED(status) || WEXITSTATUS(status) != 0) && !r.is_wrong) {
		r.is_wrong = true;
		snprintf(r.why, sizeof(r.why), "crash: status %#x", (unsigned)status);
	}
	return r;
}

/* The word before the colon. */
static bool
is_same_finding(const char *a, const char *b)
{
	const size_t n = strcspn(a, ":");

	return strncmp(a, b, n + 1) == 0;
}

/* Tries without a part of the list; keeps it that way if the same is found. */
static size_t
leave_out(struct plan *p, const char *why, size_t n, bool *(*at)(struct plan *, size_t), size_t part)
{
	size_t done = 0;

	for (size_t from = 0; from < n; from += part) {
		struct plan tried = *p;
		struct report r;
		size_t changed = 0;

		for (size_t i = from; i < from + part && i < n; i++) {
			changed += !*at(&tried, i);
			*at(&tried, i) = true;
		}
		if (changed == 0)
			continue;
		r = live_in_child(&tried, false);
		if (r.is_wrong && is_same_finding(why, r.why)) {
			*p = tried;
			done += changed;
		}
	}
	return done;
}

static bool *
talk_at(struct plan *p, size_t i)
{
	return &p->talks[i].left_out;
}

static bool *
fault_at(struct plan *p, size_t i)
{
	return &p->faults[i].left_out;
}

/* Halves how long something lasts, as long as the same is found. */
static size_t
shorten(struct plan *p, const char *why, int64_t *(*at)(struct plan *, size_t), size_t n)
{
	size_t done = 0;

	for (size_t i = 0; i < n; i++) {
		struct plan tried = *p;
		struct report r;

		if (at(p, i) == NULL || *at(p, i) < 2 * MS)
			continue;
		*at(&tried, i) /= 2;
		r = live_in_child(&tried, false);
		if (r.is_wrong && is_same_finding(why, r.why)) {
			*p = tried;
			done++;
		}
	}
	return done;
}

static int64_t *
talk_time_at(struct plan *p, size_t i)
{
	return p->talks[i].left_out ? NULL : &p->talks[i].for_us;
}

static int64_t *
fault_time_at(struct plan *p, size_t i)
{
	return p->faults[i].left_out ? NULL : &p->faults[i].for_us;
}

/* Until nothing can be left out any more, or a minute is over. */
static void
shrink(struct plan *p, const char *why)
{
	const time_t until = time(NULL) + 60;
	size_t done = 1;

	while (done > 0 && time(NULL) < until) {
		done = 0;
		for (size_t part = p->n_talks / 2 + 1; part > 0 && time(NULL) < until; part /= 2) {
			done += leave_out(p, why, p->n_talks, talk_at, part);
			done += leave_out(p, why, p->n_faults, fault_at, part < p->n_faults ? part : p->n_faults);
		}
		for (int i = 0; i < 4 && time(NULL) < until; i++) {
			done += shorten(p, why, talk_time_at, p->n_talks);
			done += shorten(p, why, fault_time_at, p->n_faults);
		}
	}
}

static void
show_failure(struct plan *p, struct report *r)
{
	printf("seed %llu: %s\n", (unsigned long long)p->seed, r->why);
	if (!wants.shrinks)
		return;
	shrink(p, r->why);
	printf("made smaller; its story:\n");
	plan_print(p);
	*r = live_in_child(p, true);
	printf("again, whole: ./dev sim --seed %llu --story%s%s%s%s%s\n", (unsigned long long)p->seed, wants.limits.fault >= 0 ? " --fault " : "",
	    wants.limits.fault >= 0 ? fault_names[wants.limits.fault] : "", wants.limits.speech != NULL ? " --protocol " : "",
	    wants.limits.speech != NULL ? wants.limits.speech : "", wants.limits.no_tls ? " --no-tls" : "");
}

static int
find_fault(const char *name)
{
	for (int i = 0; i < FAULT_KINDS; i++)
		if (strcmp(fault_names[i], name) == 0)
			return i;
	fprintf(stderr, "sim: no such fault: %s; there are", name);
	for (int i = 0; i < FAULT_KINDS; i++)
		fprintf(stderr, " %s", fault_names[i]);
	fprintf(stderr, "\n");
	exit(2);
}

static const char *
find_speech(const char *name)
{
	for (size_t i = 0; speeches[i] != NULL; i++)
		if (strcmp(speeches[i]->name, name) == 0)
			return speeches[i]->name;
	fprintf(stderr, "sim: no such protocol: %s; see --help\n", name);
	exit(2);
}

static double
cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_CHILDREN, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void
usage(FILE *out)
{
	fprintf(out, "usage: sim [OPTION...]: lives of the program in simulated worlds, one for each seed\n"
	    "  --seed N          the first seed (default 1)\n"
	    "  --runs N          so many worlds, with the seeds from N on (default 1)\n"
	    "  --minutes M       as many worlds as fit into M minutes of CPU\n"
	    "  --long            the same as --minutes 60\n"
	    "  --fault KIND      no faults but of this kind\n"
	    "  --protocol NAME   no conversations but of this kind\n"
	    "  --no-tls          none with TLS\n"
	    "  --length SECONDS  of the world's time in which conversations begin (default 1200)\n"
	    "  --story           what happens, a line an event\n"
	    "  --twice           each world twice: the same must happen, to the byte\n"
	    "  --first           ends at the first finding\n"
	    "  --no-shrink       does not look for a smaller world in which the same is found\n"
	    "  --mutants         (of ./dev sim) are faults found that were put in by hand? See tests/sim/mutants.py --help\n"
	    "faults:");
	for (int i = 0; i < FAULT_KINDS; i++)
		fprintf(out, " %s", fault_names[i]);
	fprintf(out, "\nprotocols:");
	for (size_t i = 0; speeches[i] != NULL; i++)
		fprintf(out, " %s", speeches[i]->name);
	fprintf(out, "\nexit status: 0 nothing was wrong, 1 an oracle found something, 2 the call is wrong\n");
}

static void
read_options(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", required_argument, NULL, 's' }, { "runs", required_argument, NULL, 'n' }, { "minutes", required_argument, NULL, 'm' },
		{ "fault", required_argument, NULL, 'f' }, { "story", no_argument, NULL, 't' }, { "no-shrink", no_argument, NULL, 'k' },
		{ "length", required_argument, NULL, 'l' }, { "protocol", required_argument, NULL, 'p' }, { "no-tls", no_argument, NULL, 'P' }, { "first", no_argument, NULL, '1' },
		{ "twice", no_argument, NULL, '2' }, { "long", no_argument, NULL, 'L' }, { "help", no_argument, NULL, 'h' }, { 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 's':
			wants.seed = strtoull(optarg, NULL, 10);
			break;
		case 'n':
			wants.runs = strtoull(optarg, NULL, 10);
			break;
		case 'm':
			wants.minutes = strtod(optarg, NULL);
			wants.runs = UINT64_MAX;
			break;
		case 'l':
			wants.limits.length_us = strtol(optarg, NULL, 10) * SECONDS;
			break;
		case 'f':
			wants.limits.fault = find_fault(optarg);
			break;
		case 'p':
			wants.limits.speech = find_speech(optarg);
			break;
		case 'P':
			wants.limits.no_tls = true;
			break;
		case 't':
			wants.tells = true;
			break;
		case 'k':
			wants.shrinks = false;
			break;
		case '1':
			wants.stops_at_first = true;
			break;
		case '2':
			wants.lives_twice = true;
			break;
		case 'L':
			wants.minutes = 60;
			wants.runs = UINT64_MAX;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			exit(2);
		}
}

/* The same seed must give the same story. */
static void
compare(struct report *r, const struct plan *p)
{
	const struct report again = live_in_child(p, false);

	if (again.life.story == r->life.story && again.life.happenings == r->life.happenings && again.life.calls == r->life.calls)
		return;
	r->is_wrong = true;
	snprintf(r->why, sizeof(r->why), "replay: %llu happenings and %zu calls, then %llu and %zu", (unsigned long long)r->life.happenings,
	    r->life.calls, (unsigned long long)again.life.happenings, again.life.calls);
}

int
main(int argc, char **argv)
{
	size_t flows = 0, messages = 0, failed = 0, lives = 0;

	if (!(personality(0xffffffff) & ADDR_NO_RANDOMIZE) && personality(ADDR_NO_RANDOMIZE) >= 0)
		execv("/proc/self/exe", argv);
	read_options(argc, argv);
	secure_set_up();
	for (uint64_t i = 0; i < wants.runs && (wants.minutes <= 0 || cpu_seconds() < wants.minutes * 60); i++) {
		struct plan p;
		struct report r;

		world_begin(wants.seed + i);
		plan_draw(&p, wants.seed + i, &wants.limits);
		world_end();
		r = live_in_child(&p, wants.tells);
		if (wants.lives_twice && !r.is_wrong)
			compare(&r, &p);
		lives++;
		flows += r.life.talks;
		messages += r.life.messages;
		if (r.is_wrong) {
			failed++;
			show_failure(&p, &r);
			if (wants.stops_at_first)
				break;
		}
	}
	printf("%zu worlds, %zu flows, %zu messages, %.1f s of CPU: %.0f flows a CPU minute; %zu failed\n", lives, flows, messages, cpu_seconds(),
	    (double)flows / (cpu_seconds() + 0.001) * 60, failed);
	return failed > 0;
}
