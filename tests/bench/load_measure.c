/*
 * load_measure.c - the clock, the relay's CPU time and the figures.
 *
 * CPU time is the first number of /proc/PID/task/TID/schedstat, in
 * nanoseconds, summed over all threads of all the relay's processes. It is brought up
 * to date when a thread goes to sleep, so the relay is given 30 ms of
 * rest before each reading. (A relay that heartbeats all the time also sleeps all the time.)
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "load.h"

#define REST_NS 30000000

_Noreturn void
die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

_Noreturn void
fail(const char *what)
{
	fprintf(stderr, "load: %s\n", what);
	exit(1);
}

int64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int64_t
thread_cpu_ns(const char *path)
{
	FILE *f = fopen(path, "re");
	long long ns = 0;

	if (f == NULL)
		return 0;	/* the thread has just ended */
	if (fscanf(f, "%lld", &ns) != 1)
		fail("schedstat cannot be read");
	fclose(f);
	return ns;
}

static int64_t
relay_cpu_ns(const struct options *o)
{
	int64_t sum = 0;

	for (int i = 0; i < o->n_pids; i++) {
		char path[320];
		struct dirent *d;
		DIR *dir;

		snprintf(path, sizeof(path), "/proc/%d/task", o->pids[i]);
		dir = opendir(path);
		if (dir == NULL)
			fail("the relay is gone");
		while ((d = readdir(dir)) != NULL) {
			if (d->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", o->pids[i], d->d_name);
			sum += thread_cpu_ns(path);
		}
		closedir(dir);
	}
	return sum;
}

static void
rest(const struct measure *m)
{
	struct timespec ts = { .tv_nsec = REST_NS };

	if (!m->never_at_rest)
		nanosleep(&ts, NULL);
}

void
measure_init(struct measure *m, uint64_t max_samples)
{
	memset(m, 0, sizeof(*m));
	m->max_samples = max_samples;
	m->sample_us10 = malloc((max_samples + 1) * sizeof(*m->sample_us10));
	if (m->sample_us10 == NULL)
		die("malloc");
	/* touched now, so that no page fault falls into what is measured */
	memset(m->sample_us10, 0xff, (max_samples + 1) * sizeof(*m->sample_us10));
}

void
measure_start(struct measure *m, const struct options *o)
{
	rest(m);
	m->cpu_ns = -relay_cpu_ns(o);
	m->start_ns = now_ns();
}

void
measure_end(struct measure *m, const struct options *o)
{
	m->end_ns = now_ns();
	rest(m);
	m->cpu_ns += relay_cpu_ns(o);
}

static int
by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double
percentile_us(const struct measure *m, double p)
{
	if (m->n_samples == 0)
		return 0;
	return m->sample_us10[(uint64_t)(p * (double)(m->n_samples - 1))] / 10.0;
}

void
measure_print(struct measure *m, double units)
{
	double seconds = (double)(m->end_ns - m->start_ns) / 1e9;
	double cpu = (double)m->cpu_ns / 1e9;

	qsort(m->sample_us10, m->n_samples, sizeof(*m->sample_us10), by_size);
	printf("{\"units\": %.0f, \"seconds\": %.6f, \"rate\": %.3f, \"cpu_us\": %.6f, \"busy\": %.4f, "
	    "\"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f}\n",
	    units, seconds, units / seconds, cpu * 1e6 / units, cpu / seconds,
	    percentile_us(m, 0.50), percentile_us(m, 0.99), percentile_us(m, 0.999));
	free(m->sample_us10);
}
