/*
 * websocket_pongs.c - our pings to one side of a WebSocket, the application's, and which pong is for which.
 *
 * A ping of ours carries a token: a name, letters drawn at random for the flow,
 * and a serial. Of the last WINDOW serials it is known which have their pong. Of
 * the application's pings the last payload is kept, as a hash: a side that owes
 * the application a pong is not asked by us.
 */
#include <ctype.h>
#include <string.h>

#include "codec/http.h"
#include "stent/promise.h"

#define NAME_LEN 6
#define NONCE_LEN 6	/* random letters of this flow */
#define FIXED_LEN (NAME_LEN + NONCE_LEN)
#define SURE_LEN (NAME_LEN + 3)		/* with this many of its first bytes it is certainly ours */
#define MOST_REPLACED 3			/* bytes of a token; with more it might be that of another stent */
#define LETTERS 32u
#define SERIAL_MASK (LETTERS * LETTERS * LETTERS - 1)	/* three letters */
#define WINDOW 32	/* pings whose pongs are still known; the width of ws_pings.open */
#define PATIENCE 2	/* heartbeats after which the application's own ping is taken for one that gets no reply */

_Static_assert(WS_TOKEN == FIXED_LEN + 3, "a serial has three letters");
_Static_assert(SERIAL_MASK <= UINT16_MAX && WINDOW < SERIAL_MASK, "serials that are told apart differ in their letters");
_Static_assert(WINDOW == 8 * sizeof(((struct ws_pings *)0)->open), "a bit for each ping");
_Static_assert(5 * NONCE_LEN <= 8 * sizeof(uint32_t), "five random bits a letter");

static const char name[NAME_LEN + 1] = "stent-";
static const char letters[LETTERS + 1] = "abcdefghijklmnopqrstuvwxyz234567";

static void
write_token(uint32_t nonce, uint16_t serial, uint8_t token[WS_TOKEN])
{
	memcpy(token, name, NAME_LEN);
	for (unsigned i = 0; i < NONCE_LEN; i++)
		token[NAME_LEN + i] = (uint8_t)letters[nonce >> (5 * i) & (LETTERS - 1)];
	for (unsigned i = 0; i < WS_TOKEN - FIXED_LEN; i++)
		token[FIXED_LEN + i] = (uint8_t)letters[serial >> (10 - 5 * i) & (LETTERS - 1)];
}

/* The serial at the end of a whole token; -1: there is none. */
static int
read_serial(const uint8_t *p)
{
	int serial = 0;

	for (unsigned i = 0; i < WS_TOKEN - FIXED_LEN; i++) {
		const char *at = p[i] != '\0' ? strchr(letters, tolower(p[i])) : NULL;

		if (at == NULL)
			return -1;
		serial = serial * (int)LETTERS + (int)(at - letters);
	}
	return serial;
}

enum likeness { UNLIKE, MANGLED, CARRIES };

/*
 * What a pong's payload has of our token: a name, letters drawn at random for
 * this flow (another stent in the chain has others), and a serial; short and
 * printable, so that peers seldom change it. A pong that
 *   - carries the token is ours at any time: late, repeated, cut short, with
 *     more after it, whatever its mask;
 *   - may be a mangled token (empty, cut shorter, some bytes replaced) is taken
 *     for the reply only where no ping of the application's can be meant: see
 *     ws_take_pong(). Elsewhere it is passed on.
 * len: of the payload; the first WS_TOKEN bytes of it are here.
 */
static enum likeness
likeness_of(uint32_t nonce, const uint8_t *p, size_t len)
{
	const size_t n = len < FIXED_LEN ? len : FIXED_LEN;
	uint8_t token[WS_TOKEN];
	size_t same = 0;

	write_token(nonce, 0, token);
	for (size_t i = 0; i < n; i++)
		same += tolower(p[i]) == token[i];
	if (same == n)
		return n >= SURE_LEN ? CARRIES : MANGLED;
	return len == WS_TOKEN && same + MOST_REPLACED >= FIXED_LEN ? MANGLED : UNLIKE;
}

/* A reply without a known serial settles all pings. False: none was due. */
static bool
settle_all(struct ws_pings *a)
{
	promise((uint16_t)(a->next - a->settled) <= WINDOW);
	if (a->settled == a->next)
		return false;
	a->settled = a->next;
	a->open = 0;
	return true;
}

/* A reply to the ping of this serial, which settles those before it too (5.5.3). False: it came before. */
static bool
settle_one(struct ws_pings *a, unsigned serial)
{
	const unsigned back = (a->next - 1u - serial) & SERIAL_MASK;

	promise((uint16_t)(a->next - a->settled) <= WINDOW && serial <= SERIAL_MASK);
	if (back >= WINDOW || (a->open >> back & 1) == 0)
		return false;
	a->open &= ~(1u << back);
	if ((uint16_t)(a->next - a->settled) > back)
		a->settled = (uint16_t)(a->next - back);
	return true;
}

/*
 * Takes a pong for a ping of ours. False: it is not. An empty one is taken, but
 * does not count as a reply: some peers (.NET's) send empty pongs unsolicited
 * and reply to no ping while their application does not read.
 */
bool
ws_take_pong(struct ws_pings *a, uint32_t nonce, const uint8_t *payload, size_t len, struct codec_out *out)
{
	const enum likeness like = likeness_of(nonce, payload, len);
	int serial = -1;

	promise_or(a->has_pinged, false);
	if (like == UNLIKE || (like == MANGLED && (a->knows_pongs || a->app_due > 0 || a->settled == a->next)))
		return false;
	if (like == CARRIES)
		a->knows_pongs = true;
	if (like == CARRIES && len >= WS_TOKEN)
		serial = read_serial(payload + FIXED_LEN);
	if ((serial >= 0 ? settle_one(a, (unsigned)serial) : settle_all(a)) && len > 0)
		out->replies++;
	else
		out->strays++;
	return true;
}

/* A ping of the application's has gone to side `to`. */
void
ws_note_app_ping(struct ws_pings *a, uint32_t hash)
{
	promise(a->app_waits <= PATIENCE);
	a->app_open = true;
	a->app_hash = hash;
	a->app_waits = 0;
	a->before_app = a->next;
	if (a->app_due < UINT8_MAX)	/* beyond that the count is not known */
		a->app_due++;
}

/* A pong that is not for us has come from a side. */
void
ws_note_app_pong(struct ws_pings *a, uint32_t hash)
{
	promise(a->has_pinged || a->settled == a->next);
	if (a->app_due == 0 && !a->has_pinged)
		a->knows_pongs = true;	/* unsolicited: there will be more */
	if (a->app_due > 0 && a->app_due < UINT8_MAX)
		a->app_due--;
	if (a->app_open && a->app_hash == hash) {
		a->app_open = false;
		if ((uint16_t)(a->next - a->settled) > (uint16_t)(a->next - a->before_app))
			a->settled = a->before_app;
	} else if (!a->knows_pongs) {
		a->app_open = false;	/* a peer that mangles payloads: which ping it is for is not known */
		a->settled = a->next;
	}
}

/*
 * A peer may send a pong for the latest ping only (5.5.3), so while it has not
 * replied to the application's own ping it gets none of ours, until that ping
 * has gone without a reply for PATIENCE heartbeats.
 */
bool
ws_app_comes_first(const struct ws_pings *a)
{
	return a->app_open && a->app_waits < PATIENCE;
}

bool
ws_has_room_for_ping(const struct ws_pings *a)
{
	return (uint16_t)(a->next - a->settled) < WINDOW;
}

void
ws_begin_ping(struct ws_pings *a, uint32_t nonce, uint8_t token[WS_TOKEN])
{
	promise_void(ws_has_room_for_ping(a) && !ws_app_comes_first(a));
	write_token(nonce, a->next, token);
	a->open = a->open << 1 | 1;
	a->next++;
	a->has_pinged = true;
	promise((uint16_t)(a->next - a->settled) <= WINDOW);
}
