/* test_log.c - facts about the log: one event is one line, whatever the values hold and wherever it goes. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "log/log_line.h"
#include "stent/log.h"

#define STAMP "2026-11-20T17:00:00.123Z"

static char dir[64];

static struct log_line_head
head(enum log_format format, enum log_level level)
{
	return (struct log_line_head){
		.format = format, .level = level, .time = { 1795194000, 123456789 },
	};
}

static const char *
line(enum log_format format, const char *event, const struct log_field *fields, size_t n)
{
	static char text[LOG_LINE_MAX + 1];
	struct log_line_head h = head(format, LEVEL_INFO);
	struct log_line l;

	log_line_event(&l, &h, event, fields, n);
	assert_true(l.len <= LOG_LINE_MAX);
	memcpy(text, l.data, l.len);
	text[l.len] = '\0';
	assert_int_equal(strlen(text), l.len);
	assert_ptr_equal(strchr(text, '\n'), text + l.len - 1);	/* the one newline ends it */
	return text;
}

static json_t *
line_json(const char *event, const struct log_field *fields, size_t n)
{
	json_error_t error;
	json_t *j = json_loads(line(FORMAT_JSON, event, fields, n), JSON_REJECT_DUPLICATES, &error);

	if (j == NULL)
		fail_msg("no JSON: %s: %s", error.text, line(FORMAT_JSON, event, fields, n));
	return j;
}

static const char *
member(const json_t *j, const char *name)
{
	return json_string_value(json_object_get(j, name));
}

static const char *
path_in_dir(const char *name)
{
	static char path[100];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static size_t
read_text(const char *path, char *buf, size_t size)
{
	FILE *f = fopen(path, "r");
	size_t n;

	assert_non_null(f);
	n = fread(buf, 1, size - 1, f);
	buf[n] = '\0';
	fclose(f);
	return n;
}

static void
open_file_log(const char *path, enum log_format format, enum log_level level)
{
	struct log_settings s = {
		.target = TARGET_FILE, .path = (char *)(uintptr_t)path, .format = format, .level = level,
	};

	assert_int_equal(log_open(&s), 0);
}

static void
test_text_event(void **state)
{
	struct log_field f[] = {
		LOG_TEXT("route", "pg"), LOG_TEXT("client", "192.0.2.1:5000"), LOG_INT("bytes", -17),
		LOG_MS("seconds", 1234), LOG_TEXT("none", NULL), LOG_TEXT("empty", ""), LOG_TEXT("dash", "-"),
	};

	(void)state;
	assert_string_equal(line(FORMAT_TEXT, "flow end", f, 7), STAMP " info flow end route=pg "
	    "client=192.0.2.1:5000 bytes=-17 seconds=1.234 none=- empty=\"\" dash=\"-\"\n");
}

static void
test_json_event(void **state)
{
	struct log_field f[] = {
		LOG_TEXT("route", "pg"), LOG_INT("bytes", -17), LOG_MS("seconds", 1234), LOG_TEXT("none", NULL),
	};

	(void)state;
	assert_string_equal(line(FORMAT_JSON, "flow end", f, 4), "{\"time\":\"" STAMP "\",\"level\":\"info\","
	    "\"event\":\"flow end\",\"route\":\"pg\",\"bytes\":-17,\"seconds\":1.234,\"none\":null}\n");
}

static void
test_sentence(void **state)
{
	struct log_line_head text = head(FORMAT_TEXT, LEVEL_WARN), json = head(FORMAT_JSON, LEVEL_DEBUG);
	struct log_line l;

	(void)state;
	log_line_sentence(&l, &text, "it \"said\"\nso");
	assert_memory_equal(l.data, STAMP " warn it \"said\"\\nso\n", l.len);
	log_line_sentence(&l, &json, "it \"said\"\nso");
	assert_memory_equal(l.data, "{\"time\":\"" STAMP "\",\"level\":\"debug\",\"message\":"
	    "\"it \\\"said\\\"\\nso\"}\n", l.len);
}

/* What a peer sends must not be able to forge a line or a field. */
static void
test_values_cannot_break_out(void **state)
{
	static const struct { const char *value, *text; } cases[] = {
		{ "a b", "\"a b\"" },
		{ "a=b", "\"a=b\"" },
		{ "a\nflow end", "\"a\\nflow end\"" },
		{ "x\" y=\"z", "\"x\\\" y=\\\"z\"" },
		{ "back\\slash", "\"back\\\\slash\"" },
		{ "\033[2J\r\t", "\"\\x1b[2J\\r\\t\"" },
		{ "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80", "\"gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80\"" },
		{ "\xc2\x9b" "2J", "\"\\u009b2J\"" },			/* C1: CSI */
		{ "\xe2\x80\xae" "txt", "\"\\u202etxt\"" },		/* right-to-left override */
		{ "\xff\xc3", "\"\\xff\\xc3\"" },
		{ "\xc0\x8a", "\"\\xc0\\x8a\"" },			/* newline, too long a form */
		{ "\xed\xa0\x80", "\"\\xed\\xa0\\x80\"" },		/* surrogate */
		{ "\xf4\x90\x80\x80", "\"\\xf4\\x90\\x80\\x80\"" },	/* past U+10FFFF */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct log_field f = LOG_TEXT("v", cases[i].value);
		char expected[128];

		snprintf(expected, sizeof(expected), STAMP " info e v=%s\n", cases[i].text);
		assert_string_equal(line(FORMAT_TEXT, "e", &f, 1), expected);
	}
}

/* Every byte, and every pair that could be the begin of a character. */
static void
test_json_holds_any_bytes(void **state)
{
	(void)state;
	for (unsigned a = 1; a < 256; a++)
		for (unsigned b = 0; b < 256; b += 3) {
			char value[] = { 'x', (char)a, (char)b, '\0' };
			struct log_field f = LOG_TEXT("v", value);
			json_t *j = line_json("e", &f, 1);

			assert_int_equal(json_object_size(j), 4);
			if (a < 0x80 && b < 0x80)
				assert_string_equal(member(j, "v"), value);
			json_decref(j);
			line(FORMAT_TEXT, "e", &f, 1);
		}
}

static void
test_numbers(void **state)
{
	struct log_field f[] = {
		LOG_MS("a", 0), LOG_MS("b", -1), LOG_MS("c", 86400000), LOG_INT("d", INT64_MIN),
		LOG_INT("e", INT64_MAX), LOG_MS("f", INT64_MIN),
	};

	(void)state;
	assert_string_equal(line(FORMAT_TEXT, "n", f, 6), STAMP " info n a=0.000 b=-0.001 c=86400.000 "
	    "d=-9223372036854775808 e=9223372036854775807 f=-9223372036854775.808\n");
}

/* A line that is too long is cut at a whole character, says so, and JSON stays JSON. */
static void
test_long_lines_are_cut_visibly(void **state)
{
	static char value[2 * LOG_LINE_MAX];
	size_t cut = 0;

	(void)state;
	for (size_t n = LOG_LINE_MAX - 200; n < LOG_LINE_MAX + 50; n++) {
		struct log_field f[] = { LOG_TEXT("v", value), LOG_INT("number", 123456789), LOG_TEXT("w", "a b") };
		const char *text;
		json_t *j;

		for (size_t i = 0; i < n; i += 2)
			memcpy(value + i, i % 100 == 0 ? "\xff " : "\xc3\xbc", 2);
		value[n / 2 * 2] = '\0';
		j = line_json("e", f, 3);
		if (json_is_true(json_object_get(j, "cut")))
			cut++;
		else
			assert_string_equal(member(j, "w"), "a b");
		if (json_object_get(j, "number") != NULL)
			assert_int_equal(json_integer_value(json_object_get(j, "number")), 123456789);
		json_decref(j);
		text = line(FORMAT_TEXT, "e", f, 3);
		assert_true(strstr(text, " [cut]\n") != NULL || strstr(text, " w=\"a b\"\n") != NULL);
	}
	assert_true(cut > 50);
}

static void
test_a_name_without_end_is_cut(void **state)
{
	static char name[300];
	struct log_field f[] = { LOG_TEXT(name, "v"), LOG_INT(name, 1) };

	(void)state;
	memset(name, 'n', sizeof(name) - 1);
	for (size_t i = 0; i < 2; i++) {
		assert_string_equal(line(FORMAT_TEXT, "e", &f[i], 1), STAMP " info e [cut]\n");
		json_decref(line_json("e", &f[i], 1));
	}
}

static void
test_level(void **state)
{
	char text[1024];

	(void)state;
	open_file_log(path_in_dir("level"), FORMAT_TEXT, LEVEL_WARN);
	assert_true(log_wants(LEVEL_ERROR));
	assert_true(log_wants(LEVEL_WARN));
	assert_false(log_wants(LEVEL_INFO));
	errno = EXDEV;
	log_say(LEVEL_INFO, "not %s", "this");
	log_event(LEVEL_DEBUG, "nor this", NULL, 0);
	log_say(LEVEL_WARN, "but %s", "this");
	log_event(LEVEL_ERROR, "and this", NULL, 0);
	assert_int_equal(errno, EXDEV);
	log_close();
	read_text(path_in_dir("level"), text, sizeof(text));
	assert_null(strstr(text, "not"));
	assert_non_null(strstr(text, "Z warn but this\n"));
	assert_non_null(strstr(text, "Z error and this\n"));
}

static void
test_file_is_private_and_follows_rotation(void **state)
{
	char path[128], old[128], text[1024];
	struct stat st;

	(void)state;
	snprintf(path, sizeof(path), "%s", path_in_dir("rotated"));
	snprintf(old, sizeof(old), "%s", path_in_dir("rotated.1"));
	umask(0);
	open_file_log(path, FORMAT_TEXT, LEVEL_INFO);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	log_say(LEVEL_INFO, "one");
	assert_int_equal(rename(path, old), 0);
	log_say(LEVEL_INFO, "two");
	log_reopen();
	log_say(LEVEL_INFO, "three");
	read_text(old, text, sizeof(text));
	assert_non_null(strstr(text, "one\n"));
	assert_non_null(strstr(text, "two\n"));
	read_text(path, text, sizeof(text));
	assert_null(strstr(text, "two"));
	assert_non_null(strstr(text, "three\n"));
	log_close();
}

static void
test_reopen_that_fails_keeps_the_old_file(void **state)
{
	char path[128], old[128], text[1024];

	(void)state;
	snprintf(path, sizeof(path), "%s", path_in_dir("kept"));
	snprintf(old, sizeof(old), "%s", path_in_dir("kept.1"));
	open_file_log(path, FORMAT_TEXT, LEVEL_INFO);
	assert_int_equal(rename(path, old), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	log_reopen();
	log_say(LEVEL_INFO, "still here");
	log_close();
	read_text(old, text, sizeof(text));
	assert_non_null(strstr(text, "cannot be reopened"));
	assert_non_null(strstr(text, "still here\n"));
	rmdir(path);
}

static void
test_open_tells_why_not(void **state)
{
	struct log_settings s = { .target = TARGET_FILE, .path = "/nonexistent/log", .level = LEVEL_INFO };

	(void)state;
	assert_int_equal(log_open(&s), -ENOENT);
	s.path = NULL;
	assert_int_equal(log_open(&s), -EINVAL);
	s.target = TARGET_SYSLOG;
	s.path = "/nonexistent/log";
	assert_int_equal(log_open(&s), -ENOENT);
}

/* A FIFO is a file that can be stuck, be drained, and lose its reader. */
static void
test_stuck_reader_costs_lines_not_time(void **state)
{
	char path[128], buf[65536 + 1];
	struct timespec a, b;
	int fd, lines = 3000;
	ssize_t n;

	(void)state;
	snprintf(path, sizeof(path), "%s", path_in_dir("fifo"));
	assert_int_equal(mkfifo(path, 0600), 0);
	fd = open(path, O_RDONLY | O_NONBLOCK);
	assert_true(fd >= 0);
	open_file_log(path, FORMAT_TEXT, LEVEL_INFO);
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = 0; i < lines; i++)
		log_say(LEVEL_INFO, "line %d of many that nobody reads", i);
	clock_gettime(CLOCK_MONOTONIC, &b);
	assert_true((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 < 2000);

	while ((n = read(fd, buf, sizeof(buf) - 1)) > 0)
		;
	log_say(LEVEL_INFO, "heard again");
	n = read(fd, buf, sizeof(buf) - 1);
	assert_true(n > 0);
	buf[n] = '\0';
	assert_non_null(strstr(buf, "Z warn log lost lines="));
	assert_non_null(strstr(buf, "Z info heard again\n"));

	close(fd);	/* the reader is gone: SIGPIPE must not kill */
	log_say(LEVEL_INFO, "to nobody");
	log_close();
	unlink(path);
}

static int64_t
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* What a FIFO gives until `needle` has come, appended to text. */
static void
read_until(int fd, char *text, size_t size, const char *needle)
{
	size_t got = strlen(text);
	const int64_t until = now_ms() + 10000;

	while (strstr(text, needle) == NULL) {
		const ssize_t n = read(fd, text + got, size - 1 - got);

		assert_true(now_ms() < until);
		if (n > 0)
			text[got += (size_t)n] = '\0';
		else
			usleep(1000);
	}
}

/* With the thread no caller waits, nothing is lost in a short stall, and lines lost in a long one are reported. */
static void
test_thread_copes_with_a_stuck_reader(void **state)
{
	static char text[4 * 1024 * 1024];
	const int lines = 20000;
	int fd, next = 0;
	char path[128];
	int64_t began;

	(void)state;
	snprintf(path, sizeof(path), "%s", path_in_dir("fifo"));
	assert_int_equal(mkfifo(path, 0600), 0);
	fd = open(path, O_RDONLY | O_NONBLOCK);
	open_file_log(path, FORMAT_TEXT, LEVEL_INFO);
	assert_int_equal(log_start_thread(NULL, NULL), 0);
	began = now_ms();
	for (int i = 0; i < 3000; i++)		/* more than the pipe holds */
		log_say(LEVEL_INFO, "line %d of some", i);
	assert_true(now_ms() - began < 1000);
	usleep(300000);				/* longer than a caller would wait */
	text[0] = '\0';
	read_until(fd, text, sizeof(text), "line 2999 of some\n");
	assert_null(strstr(text, "log lost"));

	text[0] = '\0';
	began = now_ms();
	for (int i = 0; i < lines; i++)
		log_say(LEVEL_INFO, "line %d of too many", i);
	assert_true(now_ms() - began < 1000);
	read_until(fd, text, sizeof(text), "log lost lines=");	/* not only with the next line */
	log_say(LEVEL_INFO, "the end");
	read_until(fd, text, sizeof(text), "the end\n");
	for (char *s = text; (s = strchr(s, ' ')) != NULL; s++) {
		if (strncmp(s, " info line ", 11) == 0)
			assert_int_equal(atoi(s + 11), next++);		/* in order, with those that are reported lost */
		else if (strncmp(s, " log lost lines=", 16) == 0)
			next += atoi(s + 16);
	}
	assert_int_equal(next, lines);
	log_close();
	close(fd);
	unlink(path);
}

static int hanging[2] = { -1, -1 };

/* The file system hangs while there is a pipe to hang on. */
ssize_t __real_writev(int fd, const struct iovec *iov, int n);
ssize_t __wrap_writev(int fd, const struct iovec *iov, int n);
ssize_t
__wrap_writev(int fd, const struct iovec *iov, int n)
{
	char byte;

	if (hanging[0] >= 0)
		(void)!read(hanging[0], &byte, 1);
	return __real_writev(fd, iov, n);
}

/* In a process of its own: the thread that hangs stays. */
static int
log_while_the_disk_hangs(void)
{
	int64_t began;

	open_file_log(path_in_dir("hung"), FORMAT_TEXT, LEVEL_INFO);
	if (log_start_thread(NULL, NULL) != 0 || pipe(hanging) != 0)
		return 1;
	began = now_ms();
	for (int i = 0; i < 10000; i++)
		log_say(LEVEL_INFO, "line %d that is not written", i);
	log_reopen();
	if (now_ms() - began > 1000)
		return 2;
	log_close();
	return now_ms() - began < 3000 ? 0 : 3;
}

static void
test_hung_disk_blocks_nobody(void **state)
{
	const pid_t pid = fork();
	int status;

	(void)state;
	if (pid == 0)
		_exit(log_while_the_disk_hangs());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void
test_thread_reopens_and_writes_all_at_the_end(void **state)
{
	char old[128], text[256];

	(void)state;
	snprintf(old, sizeof(old), "%s", path_in_dir("turned.1"));
	open_file_log(path_in_dir("turned"), FORMAT_TEXT, LEVEL_INFO);
	assert_int_equal(log_start_thread(NULL, NULL), 0);
	log_say(LEVEL_INFO, "before");
	for (int i = 0; i < 1000 && read_text(path_in_dir("turned"), text, sizeof(text)) == 0; i++)
		usleep(1000);
	assert_int_equal(rename(path_in_dir("turned"), old), 0);
	log_reopen();
	log_say(LEVEL_INFO, "after");
	log_close();
	read_text(path_in_dir("turned"), text, sizeof(text));
	assert_non_null(strstr(text, "Z info after\n"));
	assert_null(strstr(text, "before"));
	unlink(path_in_dir("turned"));
}

static void
test_full_disk(void **state)
{
	(void)state;
	open_file_log("/dev/full", FORMAT_TEXT, LEVEL_INFO);
	for (int i = 0; i < 100; i++)
		log_say(LEVEL_INFO, "nowhere to go");
	log_close();
}

/* A disk that fills up in the middle of a line: the next line begins on its own line. */
static void
test_torn_line(void **state)
{
	struct rlimit limit, small;
	char path[128], text[4096];

	(void)state;
	snprintf(path, sizeof(path), "%s", path_in_dir("torn"));
	open_file_log(path, FORMAT_TEXT, LEVEL_INFO);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	small = limit;
	small.rlim_cur = 120;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (int i = 0; i < 5; i++)
		log_say(LEVEL_INFO, "the disk is full");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	log_say(LEVEL_INFO, "room again");
	log_close();
	assert_true(read_text(path, text, sizeof(text)) > 120);
	assert_int_equal(text[120], '\n');
	assert_non_null(strstr(text + 120, "Z warn log lost lines=3\n"));
	assert_non_null(strstr(text + 120, "Z info room again\n"));
}

/* With no stderr, a socket must not become descriptor 2 and get our lines. */
static void
test_closed_stderr(void **state)
{
	int status, p[2];
	pid_t pid;
	char byte;

	(void)state;
	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		struct log_settings s = { .target = TARGET_STDERR, .level = LEVEL_INFO };

		alarm(20);
		close(0);
		close(2);
		log_say(LEVEL_INFO, "before");
		if (log_open(&s) != 0)
			_exit(1);
		if (dup(p[1]) <= 2)
			_exit(2);
		log_say(LEVEL_INFO, "after");
		_exit(0);
	}
	close(p[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(read(p[0], &byte, 1), 0);
	close(p[0]);
}

#define THREADS 4
#define LINES 500

static void *
write_lines(void *arg)
{
	char value[200];
	struct log_field f = LOG_TEXT("v", value);

	memset(value, *(char *)arg, sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	for (int i = 0; i < LINES; i++)
		log_event(LEVEL_INFO, "e", &f, 1);
	return NULL;
}

static void
test_threads_do_not_mix_lines(void **state)
{
	static char text[THREADS * LINES * 300];
	pthread_t threads[THREADS];
	char names[THREADS];
	size_t lines = 0;

	(void)state;
	open_file_log(path_in_dir("threads"), FORMAT_TEXT, LEVEL_INFO);
	for (size_t i = 0; i < THREADS; i++) {
		names[i] = (char)('a' + i);
		assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &names[i]), 0);
	}
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	log_close();
	read_text(path_in_dir("threads"), text, sizeof(text));
	for (char *next, *s = text; (next = strchr(s, '\n')) != NULL; s = next + 1, lines++) {
		char *v = strstr(s, " info e v=") + 10;

		assert_int_equal(next - v, 199);
		assert_int_equal(strspn(v, (char[]){ *v, '\0' }), 199);
	}
	assert_int_equal(lines, THREADS * LINES);
}

static int
syslog_socket(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	unlink(path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void
test_syslog(void **state)
{
	struct log_settings s = { .target = TARGET_SYSLOG, .level = LEVEL_INFO };
	char path[108], buf[1024];
	int fd;
	ssize_t n;

	(void)state;
	snprintf(path, sizeof(path), "%s", path_in_dir("syslog"));
	fd = syslog_socket(path);
	s.path = path;
	assert_int_equal(log_open(&s), 0);
	log_say(LEVEL_WARN, "hello");
	n = recv(fd, buf, sizeof(buf) - 1, 0);
	assert_true(n > 0);
	buf[n] = '\0';
	assert_memory_equal(buf, "<28>", 4);	/* LOG_DAEMON 3 * 8 + LOG_WARNING 4 */
	assert_string_equal(strstr(buf, "]: "), "]: warn hello");

	close(fd);	/* the daemon is restarted */
	log_say(LEVEL_INFO, "unheard");
	fd = syslog_socket(path);
	log_say(LEVEL_ERROR, "back");
	n = recv(fd, buf, sizeof(buf) - 1, 0);
	assert_true(n > 0);
	buf[n] = '\0';
	assert_string_equal(strstr(buf, "]: "), "]: warn log lost lines=1");
	n = recv(fd, buf, sizeof(buf) - 1, 0);
	assert_true(n > 0);
	buf[n] = '\0';
	assert_string_equal(strstr(buf, "]: "), "]: error back");

	for (int i = 0; i < 2000; i++)	/* nobody reads: never blocks */
		log_say(LEVEL_INFO, "flood %d", i);
	log_close();
	close(fd);
	unlink(path);
}

static int
make_dir(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/stent-log-XXXXXX");
	alarm(60);
	return mkdtemp(dir) == NULL ? -1 : 0;
}

static int
remove_dir(void **state)
{
	static const char *const files[] = {
		"level", "rotated", "rotated.1", "kept.1", "torn", "threads", "hung", "turned.1",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		unlink(path_in_dir(files[i]));
	return rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_event),
		cmocka_unit_test(test_json_event),
		cmocka_unit_test(test_sentence),
		cmocka_unit_test(test_values_cannot_break_out),
		cmocka_unit_test(test_json_holds_any_bytes),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_long_lines_are_cut_visibly),
		cmocka_unit_test(test_a_name_without_end_is_cut),
		cmocka_unit_test(test_level),
		cmocka_unit_test(test_file_is_private_and_follows_rotation),
		cmocka_unit_test(test_reopen_that_fails_keeps_the_old_file),
		cmocka_unit_test(test_open_tells_why_not),
		cmocka_unit_test(test_stuck_reader_costs_lines_not_time),
		cmocka_unit_test(test_thread_copes_with_a_stuck_reader),
		cmocka_unit_test(test_hung_disk_blocks_nobody),
		cmocka_unit_test(test_thread_reopens_and_writes_all_at_the_end),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_torn_line),
		cmocka_unit_test(test_closed_stderr),
		cmocka_unit_test(test_threads_do_not_mix_lines),
		cmocka_unit_test(test_syslog),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
