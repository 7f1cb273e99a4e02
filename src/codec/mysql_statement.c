/*
 * mysql_statement.c - searches the text of a client's statement for two things
 * that the server does not report.
 *
 * LOAD DATA LOCAL makes the server read a file from the client: a heartbeat
 * between the statement and the server's request would end up in the file. So
 * until its reply, a statement may load a file if it has the word INFILE or one
 * that may run another statement (EXECUTE, CALL), or exceeds what is searched.
 *
 * A session at rest may hold locks, which the server's own limits on idle
 * sessions should free. Their words are found anywhere, in strings and comments
 * too: a lock that is wrongly assumed only costs heartbeats. Locks of procedures
 * and triggers, and those after the part that is searched, are not found.
 */
#include <string.h>

#include "codec/mysql.h"
#include "stent/promise.h"

#define SCAN_MAX 4096	/* bytes of a statement that are searched */

_Static_assert(sizeof(((struct mysql_scan *)0)->high) + sizeof(((struct mysql_scan *)0)->low) == 16, "the longest phrase is kept");

enum meaning {
	MAY_LOAD,
	NAMED, NAMED_FREED, NAMED_ALL_FREED,
	TABLES, TABLES_FREED,
	BACKUP, BACKUP_FREED,
	HANDLER, HANDLER_OF_ROUTINE, HANDLER_OPEN, HANDLER_CLOSE,
};

/* At most 16 bytes each, as only 16 are kept; of two with the same end the longer comes first. */
static const struct phrase {
	char text[17];
	uint8_t meaning;
} phrases[] = {
	{ "INFILE", MAY_LOAD },
	{ "EXECUTE", MAY_LOAD },
	{ "CALL", MAY_LOAD },
	{ "GET_LOCK", NAMED },
	{ "RELEASE_LOCK", NAMED_FREED },
	{ "ELEASE_ALL_LOCKS", NAMED_ALL_FREED },
	{ "_GET_READ_LOCKS", NAMED },		/* functions of MySQL's locking service */
	{ "_GET_WRITE_LOCKS", NAMED },
	{ "RELEASE_LOCKS", NAMED_ALL_FREED },
	{ "UNLOCK TABLE", TABLES_FREED },
	{ "LOCK TABLE", TABLES },
	{ "WITH READ LOCK", TABLES },		/* FLUSH TABLES */
	{ "FOR EXPORT", TABLES },
	{ "UNLOCK INSTANCE", BACKUP_FREED },
	{ "LOCK INSTANCE", BACKUP },
	{ "UNLOCK BINLOG", BACKUP_FREED },	/* Percona's */
	{ "LOCK BINLOG", BACKUP },
	{ "CKUP STAGE START", BACKUP },		/* MariaDB's BACKUP STAGE */
	{ "BACKUP STAGE END", BACKUP_FREED },
	{ "BACKUP LOCK", BACKUP },
	{ "BACKUP UNLOCK", BACKUP_FREED },
	{ "HANDLER FOR", HANDLER_OF_ROUTINE },
	{ "HANDLER", HANDLER },
	{ " OPEN", HANDLER_OPEN },
	{ " CLOSE", HANDLER_CLOSE },
};

bool
mysql_holds_locks(const struct mysql *s)
{
	return s->locks.named > 0 || s->locks.handlers > 0 || s->locks.tables || s->locks.backup;
}

static void
count(uint8_t *n, bool up)
{
	if (up && *n < UINT8_MAX)
		++*n;
	else if (!up && *n > 0)
		--*n;
}

static void
found(struct mysql *s, enum meaning meaning)
{
	struct mysql_locks *locks = &s->locks;

	switch (meaning) {
	case MAY_LOAD:
		s->may_load_file |= (s->caps & CAP_LOCAL_FILES) != 0;
		break;
	case NAMED:
	case NAMED_FREED:
		count(&locks->named, meaning == NAMED);
		break;
	case NAMED_ALL_FREED:
		locks->named = 0;
		break;
	case TABLES:
	case TABLES_FREED:
		locks->tables = meaning == TABLES;
		break;
	case BACKUP:
	case BACKUP_FREED:
		locks->backup = meaning == BACKUP;
		break;
	case HANDLER:
	case HANDLER_OF_ROUTINE:
		s->scan.handler = meaning == HANDLER;
		break;
	case HANDLER_OPEN:
	case HANDLER_CLOSE:
		if (s->scan.handler)
			count(&locks->handlers, meaning == HANDLER_OPEN);
		s->scan.handler = false;
		break;
	}
}

static bool
ends_with(const struct mysql_scan *scan, const char *text)
{
	uint64_t high = scan->high, low = scan->low;

	for (size_t n = strlen(text); n > 0; n--) {
		if ((uint8_t)low != (uint8_t)text[n - 1])
			return false;
		low = low >> 8 | high << 56;
		high >>= 8;
	}
	return true;
}

static void
find(struct mysql *s)
{
	for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++) {
		if (ends_with(&s->scan, phrases[i].text)) {
			found(s, phrases[i].meaning);
			return;
		}
	}
}

/* The next byte of the text. */
static void
search_byte(struct mysql *s, uint8_t c)
{
	struct mysql_scan *scan = &s->scan;

	if (c >= 'a' && c <= 'z')
		c = (uint8_t)(c - 'a' + 'A');
	if (c >= '\t' && c <= '\r')
		c = ' ';
	if (c == ' ' && (uint8_t)scan->low == ' ')
		return;
	scan->high = scan->high << 8 | scan->low >> 56;
	scan->low = scan->low << 8 | c;
	switch (c) {	/* the last letters of the phrases */
	case 'D': case 'E': case 'G': case 'K': case 'L': case 'N': case 'R': case 'S': case 'T':
		find(s);
		break;
	default:
		break;
	}
}

void
mysql_scan_begin(struct mysql *s)
{
	promise(!s->scan.on && s->at == 0);
	s->scan = (struct mysql_scan){ .on = true };
}

void
mysql_scan(struct mysql *s, const uint8_t *p, size_t n)
{
	promise_void(s->scan.on && s->at <= SCAN_MAX);
	for (size_t i = 0; i < n && s->at + i <= SCAN_MAX; i++)
		search_byte(s, p[i]);
	if (s->at + n <= SCAN_MAX)
		return;
	s->scan.on = false;
	s->may_load_file |= (s->caps & CAP_LOCAL_FILES) != 0;
}
