/*
 * process_figures.c - CPU, memory, descriptors and start of this process, under the
 * names that every Prometheus client library uses. What /proc does not tell is left out.
 */
#include <dirent.h>
#include <event2/buffer.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "admin/metrics.h"

/* What /proc/self/stat tells; see proc(5). */
struct stat_line {
	unsigned long long start_ticks;
	unsigned long long virtual_bytes;
	long long resident_pages;
};

static bool
read_stat(struct stat_line *ret)
{
	char text[1024];
	FILE *f = fopen("/proc/self/stat", "re");
	const char *end;
	size_t n;

	if (f == NULL)
		return false;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	end = strrchr(text, ')');	/* the name before it may hold anything */
	/* NOLINTNEXTLINE(cert-err34-c): the kernel writes numbers that fit */
	return end != NULL && sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu %llu %lld",
	    &ret->start_ticks, &ret->virtual_bytes, &ret->resident_pages) == 3;
}

static double
seconds_of(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Read once: the clock may be set later. */
static double
start_time(unsigned long long ticks)
{
	static double known;

	if (known == 0)
		known = seconds_of(CLOCK_REALTIME) - seconds_of(CLOCK_BOOTTIME) + (double)ticks / (double)sysconf(_SC_CLK_TCK);
	return known;
}

/* -1: not known. Since Linux 6.2 the size of the directory is the number, and it may be looked at by anyone. */
static long
open_descriptors(void)
{
	struct stat st;
	DIR *d;
	long n = -1;

	if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0)
		return (long)st.st_size;
	d = opendir("/proc/self/fd");
	if (d == NULL)
		return -1;
	for (const struct dirent *e; (e = readdir(d)) != NULL;)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;		/* began at -1: the directory's own */
}

static void
figure(struct evbuffer *out, const char *name, const char *type, const char *help, double value)
{
	evbuffer_add_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.15g\n", name, help, name, type, name, value);
}

void
process_figures(struct evbuffer *out)
{
	const long fds = open_descriptors();
	struct rlimit limit;
	struct stat_line line;

	figure(out, "process_cpu_seconds_total", "counter", "User and system CPU time spent in seconds.", seconds_of(CLOCK_PROCESS_CPUTIME_ID));
	if (fds >= 0)
		figure(out, "process_open_fds", "gauge", "Number of open file descriptors.", (double)fds);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		figure(out, "process_max_fds", "gauge", "Maximum number of open file descriptors.", (double)limit.rlim_cur);
	if (!read_stat(&line))
		return;
	figure(out, "process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", (double)line.virtual_bytes);
	figure(out, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
	    (double)line.resident_pages * (double)sysconf(_SC_PAGESIZE));
	figure(out, "process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", start_time(line.start_ticks));
}
