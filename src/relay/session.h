/* session.h - the codec of a flow (session.c), its heartbeats (heartbeats.c) and its signs of life (signs.c). */
#ifndef STENT_RELAY_SESSION_H
#define STENT_RELAY_SESSION_H

#include "relay/flow.h"
#include "relay/verdict.h"
#include "stent/codec.h"
#include "stent/heartbeat.h"

/* session.c */
struct session {
	const struct codec *codec;	/* NULL: passthrough */
	const char *passthrough;	/* the reason for it; NULL: none yet */
	struct heartbeat_leg heartbeat[2];
	int64_t app_us[2];		/* last bytes of that side's application */
	uint32_t window[2];		/* the largest receive window that this side has offered; bytes */
	uint32_t path_us[2];		/* the kernel's minimum round trip, taken before heartbeats distort it; 0: not known */
	_Alignas(8) uint8_t state[];
};

struct preface;

int session_open(struct flow *f, const struct preface *preface, int64_t now_us);	/* 0 or -ENOMEM; preface: what came before, NULL: nothing */
void session_free(struct flow *f);
struct verdict session_forward(struct flow *f, enum side from, const uint8_t *buf, size_t len);
struct verdict session_finish(struct flow *f, enum side from);	/* its FIN was read, or nothing more will come */
uint64_t session_skippable(const struct flow *f, enum side from);
void session_skipped(struct flow *f, enum side from, uint64_t n);
bool session_is_early(const struct flow *f, enum side to);
bool session_ends_at_fin(const struct flow *f, enum side to);	/* `to`, which has had no FIN, would take one for the end of a complete message */
void session_update_reset_at_close(struct flow *f, enum side to);	/* keeps leg->reset_at_close current */
bool session_said_goodbye(const struct flow *f, enum side s);
const struct codec *session_codec(const struct session *ss);	/* for `auto`, the one it found */
int64_t session_app_us(const struct flow *f, enum side s);
const char *session_protocol(const struct flow *f);
size_t session_close_message(struct flow *f, enum side to, bool at_rest, uint8_t buf[CODEC_CLOSE_MESSAGE_MAX]);
size_t session_cancel(const struct flow *f, uint8_t buf[CODEC_HEARTBEAT_MAX]);

/* heartbeats.c */
void heartbeats_open(struct flow *f, int64_t now_us);
struct verdict heartbeats_tick(struct flow *f, int64_t now_us, int64_t *again_us);
void heartbeats_refused(struct flow *f, enum side s, const char *why);
int64_t heartbeats_interval_us(const struct flow *f, enum side s);	/* 0: it gets none */
int64_t heartbeats_gap_us(const struct flow *f, enum side s);	/* how long side s is idle before its next one */
bool heartbeats_are_fresh(const struct flow *f, enum side s, int64_t now_us);
/* Side s has closed, by a FIN or a reset: judges whether a heartbeat was the cause. */
void heartbeats_judge_end(struct flow *f, enum side s, int64_t now_us);
bool heartbeats_are_half_missed(const struct flow *f, enum side s, int64_t now_us);	/* half of the time to its death is over */
void heartbeats_withdraw_trials(struct flow *f);	/* ends them undecided */
const char *heartbeats_why_none(const struct flow *f, enum side s);	/* why side s gets none now; NULL: it gets them */

/* signs.c */
int64_t signs_max_age_us(const struct flow *f, enum side s);	/* how old a sign of life of side s may be to count */
bool signs_of_life(struct flow *f, enum side s, int64_t now_us);	/* side s is known to be alive */
void signs_of_traffic(struct flow *f, enum side s, struct heartbeat_facts *ret);

#endif
