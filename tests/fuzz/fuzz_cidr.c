/*
 * fuzz_cidr.c - lists of networks that nobody would write.
 *
 * The input is lines, a network each. A set answers for each end of each range, and for the addresses beside it, what
 * looking through all ranges answers; also after it was sorted and joined.
 */
#include <assert.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "stent/cidr.h"

#define LINES_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not memcmp(), of which libFuzzer keeps a record of each call: here that is most of the time. */
static int
order(const uint8_t a[CIDR_KEY], const uint8_t b[CIDR_KEY])
{
	for (size_t i = 0; i < CIDR_KEY; i++)
		if (a[i] != b[i])
			return a[i] - b[i];
	return 0;
}

/* One by one, without the set's order. */
static bool
is_in_one(const struct cidr_range *ranges, size_t n, const uint8_t key[CIDR_KEY])
{
	for (size_t i = 0; i < n; i++)
		if (order(ranges[i].first, key) <= 0 && order(key, ranges[i].last) <= 0)
			return true;
	return false;
}

static void
compare(const struct cidr_set *set, const struct cidr_range *ranges, size_t n, const uint8_t key[CIDR_KEY])
{
	struct address a = { .family = key[0] == 4 ? AF_INET : AF_INET6 };

	memcpy(a.ip, key + 1, key[0] == 4 ? 4 : 16);
	assert(cidr_set_has(set, &a) == is_in_one(ranges, n, key));
}

/* The address behind this one (by = 1) or before it (0xff). False: there is none. */
static bool
step(uint8_t key[CIDR_KEY], uint8_t by)
{
	const uint8_t around = by == 1 ? 0 : 0xff;

	for (size_t i = key[0] == 4 ? 4 : 16; i > 0; i--) {
		key[i] = (uint8_t)(key[i] + by);
		if (key[i] != around)
			return true;
	}
	return false;
}

static void
compare_around(const struct cidr_set *set, const struct cidr_range *ranges, size_t n, const uint8_t at[CIDR_KEY])
{
	uint8_t key[CIDR_KEY];

	compare(set, ranges, n, at);
	memcpy(key, at, CIDR_KEY);
	if (step(key, 1))
		compare(set, ranges, n, key);
	memcpy(key, at, CIDR_KEY);
	if (step(key, 0xff))
		compare(set, ranges, n, key);
}

static size_t
read_lines(char *text, struct cidr_range ranges[LINES_MAX], struct cidr_set *set)
{
	char *save = NULL;
	size_t n = 0;

	for (char *line = strtok_r(text, "\n", &save); line != NULL && n < LINES_MAX; line = strtok_r(NULL, "\n", &save)) {
		const char *why = NULL;

		if (cidr_parse(&ranges[n], line, &why) != 0) {
			assert(why != NULL);
			continue;
		}
		assert(ranges[n].first[0] == ranges[n].last[0] && memcmp(ranges[n].first, ranges[n].last, CIDR_KEY) <= 0);
		if (cidr_set_add(set, &ranges[n]) != 0)
			abort();
		n++;
	}
	return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cidr_range ranges[LINES_MAX];
	struct cidr_set set = { 0 };
	char *text = malloc(size + 1);
	size_t n;

	if (text == NULL)
		abort();
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	n = read_lines(text, ranges, &set);
	cidr_set_close(&set);
	assert(set.n <= n);
	for (size_t i = 0; i < n; i++) {
		compare_around(&set, ranges, n, ranges[i].first);
		compare_around(&set, ranges, n, ranges[i].last);
	}
	assert(!cidr_set_has(&set, &(struct address){ .family = AF_UNIX }));
	cidr_set_clear(&set);
	free(text);
	return 0;
}
