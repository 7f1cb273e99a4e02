/*
 * fuzz_netlink.c - what the kernel would never answer when it is asked for the rules of `stent redirect`.
 *
 * recv() and sendto() are the test's: each answer is two bytes for its length, and its bytes.
 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "stent/redirect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
ssize_t __wrap_recv(int fd, void *buf, size_t len, int flags);
ssize_t __wrap_sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *to, socklen_t to_len);

static const uint8_t *answers;
static size_t left;

ssize_t
__wrap_recv(int fd, void *buf, size_t len, int flags)
{
	size_t n;

	(void)fd;
	if (left < 3) {		/* the kernel would block, were it asked to wait for more of a dump: that is not its end */
		errno = flags & MSG_DONTWAIT ? EAGAIN : EIO;
		return -1;
	}
	n = (size_t)(answers[0] << 8 | answers[1]);
	n = n < left - 2 ? n : left - 2;
	n = n < len ? n : len;
	memcpy(buf, answers + 2, n);
	answers += 2 + n;
	left -= 2 + n;
	return (ssize_t)n;
}

ssize_t
__wrap_sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *to, socklen_t to_len)
{
	(void)fd;
	(void)buf;
	(void)flags;
	(void)to;
	assert(to_len > 0 && len >= 16);
	return (ssize_t)len;
}

static void
on_rule(const struct redirect_rule *rule, void *arg)
{
	*(size_t *)arg += strlen(rule->chain) + (rule->text != NULL ? strlen(rule->text) : 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char options[REDIRECT_TEXT_MAX], why[REDIRECT_WHY_MAX] = "";
	size_t total = 0;
	int r;

	answers = data;
	left = size;
	r = redirect_show("stent", options, on_rule, &total, why);
	assert(strlen(options) < sizeof(options) && (r == 0 || why[0] != '\0'));
	return 0;
}
