/*
 * mysql_client.c - follows what a MySQL client sends, packet by packet.
 *
 * A packet that begins a message of the client is a command, except during the
 * login and while it sends a file's contents. The command's first byte says
 * what kind of reply it gets, and it is queued for that. Unknown commands and
 * replication lead to passthrough.
 */

#include "codec/mysql.h"
#include "stent/promise.h"

enum role { ROLE_LOGIN, ROLE_COMMAND, ROLE_DATA };

enum { REPLY_NONE = 0x40, REPLY_KNOWN = 0x80 };

/* The reply to each command. All others are unknown. */
static const uint8_t commands[256] = {
	[0x01] = REPLY_NONE,				/* QUIT */
	[0x02] = REPLY_KNOWN | KIND_SINGLE,		/* INIT_DB */
	[0x03] = REPLY_KNOWN | KIND_QUERY,		/* QUERY */
	[0x04] = REPLY_KNOWN | KIND_FIELDS,		/* FIELD_LIST */
	[0x05] = REPLY_KNOWN | KIND_SINGLE,		/* CREATE_DB */
	[0x06] = REPLY_KNOWN | KIND_SINGLE,		/* DROP_DB */
	[0x07] = REPLY_KNOWN | KIND_SINGLE,		/* REFRESH */
	[0x08] = REPLY_KNOWN | KIND_SINGLE,		/* SHUTDOWN */
	[0x09] = REPLY_KNOWN | KIND_SINGLE,		/* STATISTICS */
	[0x0a] = REPLY_KNOWN | KIND_QUERY,		/* PROCESS_INFO */
	[0x0c] = REPLY_KNOWN | KIND_SINGLE,		/* PROCESS_KILL */
	[0x0d] = REPLY_KNOWN | KIND_SINGLE,		/* DEBUG */
	[0x0e] = REPLY_KNOWN | KIND_SINGLE,		/* PING */
	[0x11] = REPLY_KNOWN | KIND_AUTH,		/* CHANGE_USER */
	[0x16] = REPLY_KNOWN | KIND_PREPARE,		/* STMT_PREPARE */
	[0x17] = REPLY_KNOWN | KIND_EXECUTE,		/* STMT_EXECUTE */
	[0x18] = REPLY_NONE,				/* STMT_SEND_LONG_DATA */
	[0x19] = REPLY_NONE,				/* STMT_CLOSE */
	[0x1a] = REPLY_KNOWN | KIND_SINGLE,		/* STMT_RESET */
	[0x1b] = REPLY_KNOWN | KIND_SINGLE,		/* SET_OPTION */
	[0x1c] = REPLY_KNOWN | KIND_FETCH,		/* STMT_FETCH */
	[0x1f] = REPLY_KNOWN | KIND_SINGLE,		/* RESET_CONNECTION */
	[0xfa] = REPLY_KNOWN | KIND_QUERY,		/* STMT_BULK_EXECUTE (MariaDB) */
};

enum { COM_QUIT = 0x01, COM_QUERY = 0x03, COM_PREPARE = 0x16, COM_EXECUTE = 0x17, COM_RESET = 0x1f,
	COM_BULK = 0xfa };

static bool
is_replication(uint8_t command)
{
	/* BINLOG_DUMP, TABLE_DUMP, REGISTER_SLAVE, BINLOG_DUMP_GTID, CLONE, group replication */
	return command == 0x12 || command == 0x13 || command == 0x15 || command == 0x1e ||
	    command == 0x20 || command == 0x21;
}

bool
mysql_packet_head(struct mysql_packet *k, const uint8_t **at, const uint8_t *end)
{
	const uint8_t *p = *at;

	promise(k->got < MYSQL_HEAD && k->left == 0);
	while (p < end && k->got < MYSQL_HEAD)
		k->head[k->got++] = *p++;
	*at = p;
	if (k->got < MYSQL_HEAD)
		return false;
	k->left = (uint32_t)k->head[0] | (uint32_t)k->head[1] << 8 | (uint32_t)k->head[2] << 16;
	k->continued = k->more;
	k->more = k->left == MYSQL_FULL;
	return true;
}

bool
mysql_packet_boundary(const struct mysql_packet *k)
{
	return k->got == 0 && !k->more;
}

/* --- the login --- */

/* Capabilities, at offset 0; those of MariaDB alone, at offset 28. */
static void
login_payload(struct mysql *s, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n && s->at + i < 32; i++) {
		uint32_t at = s->at + (uint32_t)i;

		if (at < 4)
			s->login_caps |= (uint32_t)p[i] << (8 * at);
		else if (at >= 28)
			s->login_ext |= (uint32_t)p[i] << (8 * (at - 28));
	}
}

static void
login_ends(struct mysql *s)
{
	uint32_t caps = s->login_caps;

	promise(s->phase == PHASE_LOGIN && mysql_is_idle(s) && !s->auth);
	if (s->at == 32 && (caps & CAP_SSL) != 0)
		s->passthrough = "TLS";
	else if (s->at < 32 || (caps & CAP_PROTOCOL_41) == 0)
		s->passthrough = "a client from before MySQL 4.1";
	else if ((caps & (CAP_COMPRESS | CAP_ZSTD) & s->caps) != 0)
		s->passthrough = "compression";
	else if ((caps & CAP_OPTIONAL_METADATA & s->caps) != 0)
		s->passthrough = "optional metadata";
	s->ext &= (caps & CAP_MYSQL) == 0 ? s->login_ext : 0;
	s->caps &= caps;
	s->phase = PHASE_COMMANDS;
	mysql_queue_add(s, KIND_AUTH);
	s->auth = true;
}

/* --- commands --- */

static void
command_begins(struct mysql *s, uint8_t command)
{
	bool local = (s->caps & CAP_LOCAL_FILES) != 0;

	promise(s->phase == PHASE_COMMANDS && !s->auth && s->at == 0);
	s->command = command;
	s->scan.on = false;
	if (command == COM_QUERY || command == COM_PREPARE)
		mysql_scan_begin(s);
	if (local && (command == COM_EXECUTE || command == COM_BULK) && s->prepared_may_load_file)
		s->may_load_file = true;
	if (is_replication(command))
		s->passthrough = "replication";
	else if (commands[command] == 0)
		s->passthrough = "an unknown command";
}

static void
command_ends(struct mysql *s)
{
	uint8_t known = commands[s->command];

	promise(s->phase == PHASE_COMMANDS && !s->auth && s->at > 0);
	promise(known == REPLY_NONE || (known & ~REPLY_KNOWN) <= KIND_AUTH);
	if (s->command == COM_PREPARE && s->may_load_file)
		s->prepared_may_load_file = true;
	if (s->command == COM_QUIT)
		s->ended = s->closing[CLIENT] = true;
	if (s->command == COM_RESET)
		s->locks = (struct mysql_locks){ 0 };
	if (mysql_is_idle(s))
		s->next_seq = (uint8_t)(s->packet[CLIENT].head[3] + 1);
	if ((known & REPLY_KNOWN) == 0)
		return;
	s->oneway_before_command |= s->oneways_sent > 0;
	mysql_queue_add(s, known & ~REPLY_KNOWN);
	if ((known & ~REPLY_KNOWN) != KIND_AUTH)
		return;
	s->auth = true;
	s->method = METHOD_CACHING_SHA2;	/* so it may be: the server names its method only if the client guessed another */
	mysql_login_begins(s);
}

/* --- packets --- */

/* What this packet is. One that continues the last has the same role. */
void
mysql_client_begins(struct mysql *s)
{
	const struct mysql_packet *k = &s->packet[CLIENT];
	uint8_t seq = k->head[3];

	promise(k->got == MYSQL_HEAD && s->role <= ROLE_DATA);
	if (k->continued)
		return;
	s->at = 0;
	if (s->phase == PHASE_GREETING) {
		s->passthrough = k->head[0] == 0x16 && k->head[1] == 0x03 ? "TLS" :
		    "a client that speaks first";
	} else if (s->phase == PHASE_LOGIN) {
		s->role = ROLE_LOGIN;
	} else if (s->auth || s->infile) {
		s->role = ROLE_DATA;
		if (seq == 0 && s->auth)
			s->passthrough = "a command during the login";
	} else {
		s->role = ROLE_COMMAND;
		if (seq != 0 || k->left == 0)
			s->passthrough = "a packet that is not a command";
	}
}

void
mysql_client_payload(struct mysql *s, const uint8_t *p, size_t n)
{
	promise_void(n > 0 && n <= s->packet[CLIENT].left);
	promise(!s->scan.on || s->role != ROLE_LOGIN);
	if (s->role == ROLE_LOGIN)
		login_payload(s, p, n);
	if (s->role == ROLE_COMMAND && s->at == 0)
		command_begins(s, p[0]);
	if (s->role == ROLE_COMMAND && s->scan.on)
		mysql_scan(s, p, n);
	s->at = s->at > UINT32_MAX / 2 ? s->at : s->at + (uint32_t)n;
}

void
mysql_client_ends(struct mysql *s)
{
	struct mysql_packet *k = &s->packet[CLIENT];
	const bool is_empty = !k->continued && k->head[0] == 0 && k->head[1] == 0 && k->head[2] == 0;

	promise_void(k->got == MYSQL_HEAD && k->left == 0 && s->phase != PHASE_GREETING);
	k->got = 0;
	if (k->more)
		return;
	if (s->role == ROLE_LOGIN)
		login_ends(s);
	else if (s->role == ROLE_COMMAND)
		command_ends(s);
	if (s->role != ROLE_COMMAND)
		s->next_seq = (uint8_t)(k->head[3] + 1);
	if (s->role == ROLE_DATA && s->infile && is_empty)
		s->infile = false;
}

bool
mysql_client_reads(const struct mysql *s)
{
	return s->role == ROLE_LOGIN || s->scan.on || (s->role == ROLE_COMMAND && s->at == 0);
}
