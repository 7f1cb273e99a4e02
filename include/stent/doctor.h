/* doctor.h - measures after which quiet time the path to a server forgets flows, and what keeps them. */
#ifndef STENT_DOCTOR_H
#define STENT_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>

struct doctor_options {
	const char *target;		/* HOST:PORT */
	const char *protocol;		/* whose heartbeats are sent; NULL: tcp */
	const char *send, *expect;	/* of protocol = line: a heartbeat and its reply, as in the settings; NULL: none */
	const char *path;		/* of the WebSocket request; NULL: "/" */
	int64_t max_ms;			/* the longest quiet time; 0: the default */
	bool quick, json;
};

enum doctor_result {
	DOCTOR_DONE,	/* measured, or interrupted: the report says which */
	DOCTOR_FAILED,	/* the server could not be measured; the error was printed */
	DOCTOR_WRONG,	/* so are the options; the error was printed */
};

/* Measures until it is done, or until SIGINT or SIGTERM. Progress goes to stderr, the report to stdout. */
enum doctor_result doctor_run(const struct doctor_options *options);

/* Keeps every client of an address, ADDRESS:PORT or :PORT, until SIGINT or SIGTERM: the other end of a measurement. */
enum doctor_result doctor_listen(const char *text);

/* Prints an error, a line, on stderr: bytes that are not printable are escaped. */
void doctor_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
