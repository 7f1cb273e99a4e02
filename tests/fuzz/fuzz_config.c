/*
 * fuzz_config.c - settings files that nobody would write.
 *
 * Whatever a file holds: it is taken, or every error has its line and what to
 * do, in the order of the lines. What is taken prints as a file that is taken
 * too and prints the same.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stent/config.h"

#define LINE_SAFE 3000	/* bytes; printed with blanks behind its commas, such a line can still be read */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __wrap_getifaddrs(struct ifaddrs **ret);
void __wrap_freeifaddrs(struct ifaddrs *list);

/* The same addresses on every machine, without a question to the kernel. */
int
__wrap_getifaddrs(struct ifaddrs **ret)
{
	static struct sockaddr_in lo = { .sin_family = AF_INET }, eth = { .sin_family = AF_INET };
	static struct sockaddr_in6 lo6 = { .sin6_family = AF_INET6 };
	static struct ifaddrs list[3] = {
		{ .ifa_next = &list[1], .ifa_addr = (struct sockaddr *)&lo }, { .ifa_next = &list[2], .ifa_addr = (struct sockaddr *)&eth },
		{ .ifa_addr = (struct sockaddr *)&lo6 },
	};

	lo.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	eth.sin_addr.s_addr = htonl(0xc0000201);
	lo6.sin6_addr = in6addr_loopback;
	*ret = list;
	return 0;
}

void
__wrap_freeifaddrs(struct ifaddrs *list)
{
	(void)list;
}

static void
demand(int holds, const char *what, const char *text)
{
	if (holds)
		return;
	fprintf(stderr, "%s:\n%s\n", what, text);
	abort();
}

/* A file in memory, by a name that config_read() can open. */
static void
write_file(int fd, const void *data, size_t size)
{
	demand(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size, "memory file", "");
}

static struct config *
read_file(const char *path, char **messages)
{
	struct config *c = NULL;
	size_t n;
	FILE *errors = open_memstream(messages, &n);
	int r = config_read(&c, path, errors);

	fclose(errors);
	demand(r == 0 || r == -EINVAL, "neither accepted nor wrong", *messages);
	demand((r == 0) == (c != NULL), "a result beside a status that denies it", *messages);
	demand((r == 0) == (n == 0), "a wrong file without an error, or the reverse", *messages);
	return c;
}

static void
judge_errors(const char *messages, const char *path, size_t n_lines)
{
	unsigned long before = 1, line;
	const char *end;
	char *rest;

	for (; *messages != '\0'; messages = end + 1) {
		end = strchr(messages, '\n');
		demand(end != NULL, "an error without an end", messages);
		demand(strncmp(messages, path, strlen(path)) == 0 && messages[strlen(path)] == ':', "no file", messages);
		line = strtoul(messages + strlen(path) + 1, &rest, 10);
		demand(*rest == ':' && line >= before && line <= n_lines, "no line, or out of order", messages);
		demand(memmem(messages, (size_t)(end - messages), "; ", 2) != NULL, "an error that does not say what to do", messages);
		before = line;
	}
}

static char *
print(const struct config *c, size_t *size)
{
	char *text;
	FILE *out = open_memstream(&text, size);

	config_print(c, out);
	fclose(out);
	return text;
}

static int
has_long_line(const uint8_t *data, size_t size)
{
	size_t len = 0;

	for (size_t i = 0; i < size; i++) {
		len = data[i] == '\n' ? 0 : len + 1;
		if (len > LINE_SAFE)
			return 1;
	}
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	static char path[64];
	struct config *c, *again;
	char *messages, *first, *second;
	size_t first_size, second_size, n_lines = 1;

	if (fd < 0)
		fd = memfd_create("stent.ini", MFD_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	for (size_t i = 0; i < size; i++)
		n_lines += data[i] == '\n';
	write_file(fd, data, size);
	c = read_file(path, &messages);
	judge_errors(messages, path, n_lines);
	free(messages);
	if (c == NULL || has_long_line(data, size)) {
		config_release(c);
		return 0;
	}
	first = print(c, &first_size);
	write_file(fd, first, first_size);
	again = read_file(path, &messages);
	demand(again != NULL, messages, first);
	second = print(again, &second_size);
	demand(strcmp(first, second) == 0, first, second);
	config_release(c);
	config_release(again);
	free(first);
	free(second);
	free(messages);
	return 0;
}
