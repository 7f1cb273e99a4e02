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

static struct {
	uint64_t seed, runs;
	double minutes;			/* of this machine's time; 0: as many as runs says */
	int64_t length_us;
	int only;
	bool tells, shrinks;
} wants = { .seed = 1, .runs = 1, .length_us = 20 * MINUTES, .only = -1, .shrinks = true };

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
		story_is_told = tells;
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

static void
shrink(struct plan *p, const char *why)
{
	const time_t until = time(NULL) + 60;

	for (size_t part = p->n_talks / 2 + 1; part > 0 && time(NULL) < until; part /= 2) {
		(void)leave_out(p, why, p->n_talks, talk_at, part);
		(void)leave_out(p, why, p->n_faults, fault_at, part < p->n_faults ? part : p->n_faults);
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
	printf("again: ./dev sim --seed %llu%s\n", (unsigned long long)p->seed, wants.only >= 0 ? " --fault" : "");
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

static double
cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_CHILDREN, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void
read_options(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", required_argument, NULL, 's' }, { "runs", required_argument, NULL, 'n' }, { "minutes", required_argument, NULL, 'm' },
		{ "fault", required_argument, NULL, 'f' }, { "story", no_argument, NULL, 't' }, { "no-shrink", no_argument, NULL, 'k' },
		{ "length", required_argument, NULL, 'l' }, { 0 },
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
			wants.length_us = strtol(optarg, NULL, 10) * SECONDS;
			break;
		case 'f':
			wants.only = find_fault(optarg);
			break;
		case 't':
			wants.tells = true;
			break;
		case 'k':
			wants.shrinks = false;
			break;
		default:
			fprintf(stderr, "usage: sim [--seed N] [--runs N | --minutes M] [--fault KIND] [--length SECONDS] [--story] [--no-shrink]\n");
			exit(2);
		}
}

int
main(int argc, char **argv)
{
	const time_t began = time(NULL);
	size_t flows = 0, messages = 0, failed = 0, lives = 0;

	if (!(personality(0xffffffff) & ADDR_NO_RANDOMIZE) && personality(ADDR_NO_RANDOMIZE) >= 0)
		execv("/proc/self/exe", argv);
	read_options(argc, argv);
	for (uint64_t i = 0; i < wants.runs && (wants.minutes <= 0 || difftime(time(NULL), began) < wants.minutes * 60); i++) {
		struct plan p;
		struct report r;

		world_begin(wants.seed + i);
		plan_draw(&p, wants.seed + i, wants.length_us, wants.only);
		world_end();
		r = live_in_child(&p, wants.tells);
		lives++;
		flows += r.life.talks;
		messages += r.life.messages;
		if (r.is_wrong) {
			failed++;
			show_failure(&p, &r);
		}
	}
	printf("%zu worlds, %zu flows, %zu messages, %.1f s of CPU: %.0f flows a CPU minute; %zu failed\n", lives, flows, messages, cpu_seconds(),
	    (double)flows / (cpu_seconds() + 0.001) * 60, failed);
	return failed > 0;
}
