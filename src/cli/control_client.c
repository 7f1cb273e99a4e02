/*
 * control_client.c - sends a request to a running stent over its control socket.
 *
 * By default the path comes from the default settings file, else it is the
 * default path. Only a file given with --config must exist and be valid; a
 * health check in a container often cannot even read the default one.
 */
#include "cli/control_client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "stent/cli.h"
#include "stent/config.h"

#define TIMEOUT_MS 5000
#define RESPONSE_MAX (64 * 1024 * 1024)

/* --- which socket --- */

/* The path in a file, or the default one where the file is missing, wrong, or not readable. */
static char *
path_in(const char *file)
{
	char *errors = NULL, *path = NULL;
	size_t size;
	FILE *unread = open_memstream(&errors, &size);
	struct config *config;

	if (unread == NULL)
		return NULL;
	if (config_read(&config, file, unread) == 0) {
		if (config->control != NULL)
			path = strdup(config->control);
		config_release(config);
	}
	fclose(unread);
	free(errors);
	return path != NULL ? path : strdup(CONFIG_CONTROL_PATH);
}

static char *
from_named_file(const char *command, const char *file)
{
	struct config *config;
	char *path;

	/* A running stent tells the errors of the file, and remembers that it was wrong. */
	if (strcmp(command, "reload") == 0 && access(CONFIG_CONTROL_PATH, F_OK) == 0)
		return path_in(file);
	if (config_read(&config, file, stderr) < 0)
		return NULL;
	path = config->control != NULL ? strdup(config->control) : NULL;
	if (config->control == NULL)
		cli_error("stent %s: no control socket: %s has control = off", command, file);
	config_release(config);
	return path;
}

char *
control_client_path(const char *command, const struct cli_values *where)
{
	if (where->control != NULL)
		return strdup(where->control);
	return where->config != NULL ? from_named_file(command, where->config) : path_in(NULL);
}

/* --- the exchange --- */

static int64_t
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* 0 when fd is ready within the time, else -errno. */
static int
wait_ready(int fd, short events, int64_t until_ms)
{
	struct pollfd p = { .fd = fd, .events = events };

	for (;;) {
		int64_t left = until_ms - now_ms();
		int n = poll(&p, 1, left > 0 ? (int)left : 0);

		if (n > 0)
			return 0;
		if (n == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

/* Descriptor or -errno. connect() to a full queue fails at once instead of waiting, so it is retried. */
static int
connect_to(const char *path, int64_t until_ms)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int r, fd;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	while (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		r = -errno;
		if (r != -EAGAIN || now_ms() >= until_ms) {
			close(fd);
			return r;
		}
		poll(NULL, 0, 50);
	}
	return fd;
}

static int
send_request(int fd, const char *request, int64_t until_ms)
{
	char line[CONTROL_REQUEST_MAX + 1];
	int len = snprintf(line, sizeof(line), "%s\n", request), r;

	if (len < 0 || (size_t)len >= sizeof(line))
		return -EMSGSIZE;
	r = wait_ready(fd, POLLOUT, until_ms);
	if (r < 0)
		return r;
	return send(fd, line, (size_t)len, MSG_NOSIGNAL) == len ? 0 : -errno;	/* a short line is never sent in part */
}

/* Everything up to the end; *ret is the caller's, ended by a NUL. */
static int
read_response(int fd, char **ret, int64_t until_ms)
{
	size_t got = 0, room = 0;
	char *text = NULL;
	ssize_t n;
	int r;

	for (;;) {
		if (got + 1 >= room) {
			char *more = room < RESPONSE_MAX ? realloc(text, room = room > 0 ? room * 2 : 16384) : NULL;

			if (more == NULL) {
				r = -ENOMEM;
				break;
			}
			text = more;
		}
		r = wait_ready(fd, POLLIN, until_ms);
		if (r < 0)
			break;
		n = recv(fd, text + got, room - got - 1, 0);
		if (n == 0) {
			text[got] = '\0';
			*ret = text;
			return 0;
		}
		if (n > 0)
			got += (size_t)n;
		else if (errno != EAGAIN && errno != EINTR) {
			r = -errno;
			break;
		}
	}
	free(text);
	return r;
}

static int
exchange(const char *path, const char *request, char **response)
{
	const int64_t until_ms = now_ms() + TIMEOUT_MS;
	int r, fd = connect_to(path, until_ms);

	if (fd < 0)
		return fd;
	r = send_request(fd, request, until_ms);
	if (r == 0)
		r = read_response(fd, response, until_ms);
	close(fd);
	return r;
}

static const char *
explain(int r)
{
	switch (-r) {
	case ENOENT:
	case ECONNREFUSED:
		return "no stent listens there; is it running?";
	case EACCES:
		return "not permitted; run this as the user that started stent, or as root";
	case ETIMEDOUT:
	case EAGAIN:
		return "stent accepts, but does not respond";
	default:
		return strerror(-r);
	}
}

json_t *
control_client_try(const char *path, const char *request, char why[CONTROL_WHY_MAX])
{
	char *response = NULL;
	const char *error;
	json_error_t where;
	json_t *j;
	int r = exchange(path, request, &response);

	if (r < 0) {
		snprintf(why, CONTROL_WHY_MAX, "%s: %s", path, explain(r));
		return NULL;
	}
	j = json_loads(response, 0, &where);
	free(response);
	error = json_string_value(json_object_get(j, "error"));
	if (j != NULL && error == NULL)
		return j;
	if (error != NULL)
		snprintf(why, CONTROL_WHY_MAX, "%s", error);
	else
		snprintf(why, CONTROL_WHY_MAX, "%s: unexpected response; is this the control socket of a stent?", path);
	json_decref(j);
	return NULL;
}

bool
control_client_error(const char *data, size_t len, char why[CONTROL_WHY_MAX])
{
	json_t *j = json_loadb(data, len, JSON_DISABLE_EOF_CHECK, NULL);
	const char *error = json_string_value(json_object_get(j, "error"));

	if (error != NULL)
		snprintf(why, CONTROL_WHY_MAX, "%s", error);
	json_decref(j);
	return error != NULL;
}

static int
hand_on(int fd, bool (*each)(const char *data, size_t len, void *arg), void *arg)
{
	char data[16384];

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (poll(&p, 1, -1) < 0 && errno != EINTR)
			return -errno;
		n = recv(fd, data, sizeof(data), 0);
		if (n == 0 || (n > 0 && !each(data, (size_t)n, arg)))
			return 0;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
	}
}

void
control_client_stream(const char *path, const char *request, bool (*each)(const char *data, size_t len, void *arg), void *arg,
    char why[CONTROL_WHY_MAX])
{
	const int64_t until_ms = now_ms() + TIMEOUT_MS;
	const int fd = connect_to(path, until_ms);
	int r = fd;

	if (fd >= 0) {
		r = send_request(fd, request, until_ms);
		if (r == 0)
			r = hand_on(fd, each, arg);
		close(fd);
	}
	if (r < 0)
		snprintf(why, CONTROL_WHY_MAX, "%s: %s", path, explain(r));
}

json_t *
control_client_request(const char *command, const struct cli_values *where, const char *request, int *status)
{
	char why[CONTROL_WHY_MAX];
	char *path = control_client_path(command, where);
	json_t *j;

	if (path == NULL) {
		*status = CLI_WRONG;
		return NULL;
	}
	j = control_client_try(path, request, why);
	if (j == NULL)
		cli_error("stent %s: %s", command, why);
	*status = j == NULL ? CLI_FAILED : CLI_DONE;
	free(path);
	return j;
}

void
control_client_print(const json_t *j)
{
	json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
	printf("\n");
}
