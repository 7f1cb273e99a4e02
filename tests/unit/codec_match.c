/*
 * codec_match.c - compares what was sent with what was received.
 *
 * Both are walked side by side. Heartbeats lie at known places in what was received
 * and are stepped over; replies lie anywhere in what was sent. Where one might
 * begin there are two ways on: it was taken out, or it is the application's
 * own and was not. The first is tried first, the other remembered; a place is
 * never tried twice.
 */
#include <stdlib.h>
#include <string.h>

#include "codec_match.h"

struct place {
	size_t i, j;		/* so much of what was sent, of what was received */
	size_t mark;		/* the next heartbeat in what was received */
	unsigned replies;
};

struct walk {
	const struct match *m;
	const struct bytes *got;
	const struct mark *marks;
	size_t n_marks;
	struct place at;
	struct place *others;	/* ways not tried yet, and those that were: [0, next) is done */
	size_t n_others, next;
	size_t furthest;
};

/* Over the heartbeats at this place. Bytes sent early are the stream's own where they are what then came. */
static void
pass_heartbeats(struct walk *w)
{
	while (w->at.mark < w->n_marks && w->marks[w->at.mark].at == w->at.j) {
		const struct mark *k = &w->marks[w->at.mark++];
		const uint8_t *heartbeat = w->got->data + k->at;

		if (k->kind == HEARTBEAT_EARLY && w->m->sent->len - w->at.i >= k->len &&
		    memcmp(w->m->sent->data + w->at.i, heartbeat, k->len) == 0)
			w->at.i += k->len;
		w->at.j += k->len;
	}
}

static void
remember(struct walk *w, struct place p)
{
	for (size_t k = 0; k < w->n_others; k++)
		if (w->others[k].i == p.i && w->others[k].j == p.j && w->others[k].replies == p.replies)
			return;
	w->others = realloc(w->others, (w->n_others + 1) * sizeof(p));
	if (w->others == NULL)
		abort();
	w->others[w->n_others++] = p;
}

static bool
same_byte(const struct walk *w)
{
	return w->at.i < w->m->sent->len && w->at.j < w->got->len &&
	    w->m->sent->data[w->at.i] == w->got->data[w->at.j];
}

/* One step on the present way; false: it ends here. */
static bool
step(struct walk *w)
{
	const struct bytes *sent = w->m->sent;
	size_t n = 0;

	if (w->m->reply_at != NULL && w->at.replies < w->m->replies)
		n = w->m->reply_at(w->m->arg, sent->data + w->at.i, sent->len - w->at.i);
	if (n > 0) {
		if (same_byte(w))
			remember(w, (struct place){ w->at.i + 1, w->at.j + 1, w->at.mark, w->at.replies });
		w->at.i += n;
		w->at.replies++;
		return true;
	}
	if (!same_byte(w))
		return false;
	w->at.i++;
	w->at.j++;
	return true;
}

size_t
codec_match(const struct run *r, enum side to, const struct match *m)
{
	struct walk w = { .m = m, .got = &r->got[to], .marks = r->marks[to], .n_marks = r->n_marks[to] };
	bool matched = false;

	while (!matched) {
		pass_heartbeats(&w);
		if (w.at.i > w.furthest)
			w.furthest = w.at.i;
		if (w.at.j == w.got->len && (w.at.i == m->sent->len || m->is_cut) &&
		    w.at.replies == m->replies) {
			matched = true;
		} else if (!step(&w)) {
			if (w.next == w.n_others)
				break;
			w.at = w.others[w.next++];
		}
	}
	free(w.others);
	return matched ? MATCHED : w.furthest;
}
