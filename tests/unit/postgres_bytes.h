/*
 * postgres_bytes.h - messages of PostgreSQL, and a session that has just
 * opened, for the tests of its codec.
 */
#ifndef STENT_TESTS_POSTGRES_BYTES_H
#define STENT_TESTS_POSTGRES_BYTES_H

#include "codec/codecs.h"
#include "codec_run.h"

/* All that the settings allow outside of a transaction: one-way heartbeats at rest, and any while a statement runs. */
static const struct codec_settings on = {
	.heartbeats = { true, true }, .while_busy = { true, true }, .kind = { 0, HEARTBEAT_ONEWAY },
};

#define ONEWAY HEARTBEAT_ONEWAY
#define BOTH (HEARTBEAT_ONEWAY | HEARTBEAT_PING)

#define STARTUP "\0\0\0\x17\0\3\0\0user\0postgres\0\0"
#define STARTUP_REPLICATION "\0\0\0\x22\0\3\0\0user\0me\0replication\0true\0\0"
#define AUTH_OK "R\0\0\0\10\0\0\0\0"
#define DATETIMES "S\0\0\0\x19integer_datetimes\0on\0"
#define KEY "K\0\0\0\14\0\0\x10\1" "abcd"
#define READY "Z\0\0\0\5I"
#define READY_T "Z\0\0\0\5T"
#define READY_E "Z\0\0\0\5E"
#define LOGIN AUTH_OK DATETIMES KEY READY
#define SELECT "Q\0\0\0\10abc\0"
#define DONE "C\0\0\0\10abc\0"
#define ERROR "E\0\0\0\5\0"
#define PARSE "P\0\0\0\10\0\0\0\0"
#define EXECUTE "E\0\0\0\11\0\0\0\0\0"
#define SYNC "S\0\0\0\4"
#define FLUSH "H\0\0\0\4"
#define COPY_IN "G\0\0\0\7\0\0\0"
#define COPY_OUT "H\0\0\0\7\0\0\0"
#define COPY_BOTH "W\0\0\0\7\0\0\0"
#define COPY_DATA "d\0\0\0\6x\n"
#define COPY_DONE "c\0\0\0\4"
#define TERMINATE "X\0\0\0\4"

#define FEED(r, from, text) run_feed((r), (from), (text), sizeof(text) - 1)

static inline void
start(struct run *r, const struct codec_settings *settings)
{
	run_start(r, &codec_postgres, settings);
	FEED(r, CLIENT, STARTUP);
	FEED(r, BACKEND, LOGIN);
}

static inline void
start_replication(struct run *r)
{
	run_start(r, &codec_postgres, &on);
	FEED(r, CLIENT, STARTUP_REPLICATION);
	FEED(r, BACKEND, LOGIN);
}

/* What a side received after the first `from` bytes. */
static inline void
expect_got(const struct run *r, enum side side, size_t from, const void *data, size_t len)
{
	assert_int_equal(r->got[side].len - from, len);
	assert_memory_equal(r->got[side].data + from, data, len);
}

#define EXPECT_GOT(r, side, from, text) expect_got((r), (side), (from), (text), sizeof(text) - 1)

#define EXPECT_HEARTBEAT(r, to, kind, text) do {						\
	size_t before_ = (r)->got[to].len;						\
	run_heartbeat((r), (to), (kind));							\
	EXPECT_GOT((r), (to), before_, text);						\
} while (0)

#endif
