/*
 * talk.h - conversations: a client and a server that speak a protocol through
 * the program under test, and the oracle that what one says is what the other
 * hears, plus heartbeats where the protocol allows them, less their replies.
 */
#ifndef SIM_TALK_H
#define SIM_TALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "secure.h"
#include "stent/side.h"
#include "tcp.h"
#include "world.h"

#define NUMBER_NO_TALK (-3)
#define NUMBER_REFUSED (-4)
#define GREETING_MAX 128
#define SHORT_MAX 32

struct talk;
struct party;

/* A protocol as clients and servers speak it. All are called with the party that acts. */
struct speech {
	const char *name;		/* of its route */
	const char *protocol;		/* in the settings; NULL: as the name */
	const char *keys;		/* further lines of its route, or NULL */
	bool is_kept;			/* heartbeats may go out nearly always: a middlebox that counts payload does not forget it */
	bool may_be_mute;		/* a party may leave heartbeats without a reply */
	enum secrecy secrecy[2];	/* its TLS, by the side */
	bool may_be_plain;		/* clients may do without */
	enum { URGENT_NOT, URGENT_RELAYED, URGENT_DROPPED } urgent;	/* what the program does with urgent bytes; NOT: none are said */
	bool is_own_backend;		/* the backend is a port of the program's machine on which nobody listens */
	size_t state_size;		/* of what a party keeps: party->state, zeroed */
	/* The connection stands; the client's first message must begin the conversation, and hold its number. */
	void (*begin)(struct party *p);
	/* By the side of the party. A whole message of the other party has arrived, as party_say() said it. */
	void (*hear[2])(struct party *p, const uint8_t *message, size_t len);
	/* The time that party_think() set has come. */
	void (*act[2])(struct party *p);
	/*
	 * Bytes between two messages that the other party did not say. Returns the length of the heartbeat that they
	 * begin with, after saying its reply by party_reply(); 0: more bytes are needed; -1: it is none, or not legal now.
	 */
	long (*heartbeat)(struct party *p, const uint8_t *bytes, size_t len);
	/*
	 * The number in the first bytes that a server gets; -1: it is none, -2: more bytes are needed, NUMBER_NO_TALK: the
	 * server closes, and that is right; NUMBER_REFUSED: it replies with an N, as PostgreSQL does to a question for
	 * TLS, and the number follows.
	 */
	long (*number)(const uint8_t *bytes, size_t len);
	/*
	 * For a protocol in which the server speaks first, instead of number(): writes its first message, of at most
	 * GREETING_MAX bytes. Those of two serials differ. What the client hears tells whose the server's connection is.
	 */
	size_t (*greet)(uint8_t *bytes, unsigned serial);
	/* Bytes that the program may say in its own name before it ends a flow, to this party: a goodbye. As heartbeat(). */
	long (*goodbye)(struct party *p, const uint8_t *bytes, size_t len);
	/* Of the server: what it said last has left a transaction open, or locks held; NULL: there is nothing like that. */
	bool (*is_engaged)(const struct party *p);
};

extern const struct speech speech_tcp, speech_redis, speech_websocket, speech_postgres, speech_postgres_busy, speech_postgres_auto, speech_mysql,
	speech_mysql_auto, speech_line, speech_http, speech_http_auto,
	speech_websocket_http, speech_websocket_auto, speech_redis_auto, speech_redis_oneway, speech_mysql_busy,
	speech_http_early, speech_tcp_tls, speech_tcp_from_tls, speech_tcp_to_tls, speech_redis_tls, speech_websocket_tls, speech_postgres_tls,
	speech_postgres_to_tls, speech_http_tls, speech_tcp_urgent, speech_tcp_urgent_off, speech_self;
extern const struct speech *const speeches[];	/* ended by NULL */

/* What was said and is not heard yet: whole messages. */
struct said {
	struct queue bytes;
	size_t *lengths;		/* of the messages that remain */
	size_t n, from, room;
	size_t heard;			/* of the first one */
	int64_t since_us;		/* when something was to be heard again */
};

/* What the world did to a side of a talk. */
enum harm { UNHARMED, HARM_GONE, HARM_CUT, HARM_STOPPED, HARM_REBOOTED, HARM_FORGOTTEN, HARM_LOSS };

struct party {
	struct talk *talk;
	enum side side;
	struct host *host;		/* NULL: not known yet */
	uint64_t id;			/* of its connection */
	struct tcp *tcp;		/* NULL: not connected yet, or closed */
	struct secure *secure;		/* NULL: without TLS, or closed */
	bool has_spoilt;		/* its TLS cannot go on, and that is its own doing */
	struct said said;		/* by this party: what the other one is to hear */
	struct queue unsent;		/* said, and not taken by its kernel */
	size_t urgent_in;		/* the last of so many bytes of these is urgent; 0: none is */
	uint64_t urgent_at;		/* the position behind the last one; 0: there was none */
	bool said_more;			/* since then */
	struct queue unheard;		/* received between messages: maybe a heartbeat, maybe a message */
	uint8_t short_message[SHORT_MAX];	/* the last message, if it was short: one that is like a heartbeat may have been one, */
	size_t short_len;		/* ... and the heartbeat behind it the message; 0: it was long */
	uint64_t short_end;		/* the position behind it */
	void *state;
	struct happening look, think;
	int64_t slow_us;		/* between two reads; 0: reads at once */
	size_t slow_bytes;
	bool is_paused;			/* it does not read */
	bool is_stopped;		/* its program does nothing */
	bool says_fin, said_fin, got_fin, got_reset, heard_goodbye;
	bool expects_end;		/* it ends the conversation, or was told of it */
	bool heard_orderly;		/* a FIN without a goodbye, though the other side had not ended the conversation */
	const char *odd_fin;		/* what is wrong with the FIN that it got, unless the program tells that it has ended the flow */
	bool follows;			/* it ends the conversation because it heard the other one's end */
	bool is_mute;			/* it does not reply to heartbeats */
	enum harm harm;			/* the first one */
	unsigned harms;			/* all of them: bits 1 << harm */
	int64_t harmed_us;
	int64_t doomed_us;		/* since when its connection cannot live on; 0: it can */
	int64_t resumed_us;		/* when it was continued, or read again */
	uint64_t heartbeats;
	int64_t last_heard_us, end_us;
	int64_t said_us;		/* when it said something last */
	unsigned lost;			/* the most segments in a row that its path has lost by chance */
	bool has_heard_end;		/* a goodbye, or a FIN, that neither side had asked for: */
	bool was_cut;			/* ... within a message */
	bool was_engaged;		/* ... within a transaction, and nothing was under way */
	int64_t rested_us;		/* ... for so long the other side had said nothing; NEVER: it was not heard whole */
};

struct talk {
	TAILQ_ENTRY(talk) link;
	const struct speech *speech;
	long number;
	struct party party[2];
	struct address at;		/* the client's, as the program's log shows it */
	struct address via;		/* the program's listener */
	int64_t began_us;
	int64_t stops_us;		/* nothing new is begun after that */
	bool was_logged;		/* the program has told its end */
	int64_t logged_us;
	bool was_ended;			/* by an operator, a limit, a drain */
	char reason[40];
	unsigned exchanges;
};

TAILQ_HEAD(talk_list, talk);
extern struct talk_list talks;
extern size_t talks_begun, talks_heard_messages;

/* A client on that host begins to connect. */
struct talk *talk_begin(const struct speech *s, struct host *client, struct address listener, int64_t for_us);
/* A server listens there. */
void server_listen(const struct speech *s, struct host *host, uint16_t port);
struct talk *talk_of(const struct address *client);	/* by the client's address */
bool talk_is_over(const struct talk *t);
void talk_print(const struct talk *t);		/* its state, into the story */
void talks_hush(int64_t until_us);		/* nobody says anything unasked until then */
void talks_end(void);

/* --- for speeches --- */
void party_say(struct party *p, const void *message, size_t len);	/* a whole message */
void party_say_urgent(struct party *p);	/* a byte; nothing, if the last one may not have been heard yet */
void party_reply(struct party *p, const void *bytes, size_t len);	/* to a heartbeat: the other party must not hear it */
void party_think(struct party *p, int64_t after_us);			/* then act() is called */
void party_finish(struct party *p);	/* a FIN after all that was said */
void party_quit(struct party *p);	/* closes its socket after all that was said */
void party_abort(struct party *p);	/* a reset */
struct party *party_other(const struct party *p);
size_t party_unsaid(const struct party *p);	/* bytes that wait for its kernel */

/* --- for faults --- */
void party_pause(struct party *p, bool on);
void party_stop(struct party *p, bool on);	/* SIGSTOP */
void party_harmed(struct party *p, enum harm harm);
void talks_harmed(struct host *h, enum harm harm);	/* all that have an end there */
void talks_pushed_out(uint64_t id);		/* a middlebox does not know this connection any more */
void party_doomed(struct party *p);		/* its connection cannot live on */
void talks_forget(struct host *h);		/* it reboots */

#endif
