/*
 * network.c - how segments travel.
 *
 * A segment is lost, delayed, overtaken or doubled by chance, and passes the
 * middlebox of its path when it is sent. What is under way when a cable is cut
 * is lost too.
 */
#include "network.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tcp.h"

struct host hosts[HOSTS_MAX];
size_t n_hosts;
uint64_t network_segments;
void (*on_forgotten)(uint64_t id, bool counts_payload);
void (*on_pushed_out)(uint64_t id);
void (*on_lost)(uint64_t id, unsigned in_a_row);

/* A flow in the table of a middlebox. */
struct remembered {
	uint64_t id;
	int64_t last_us;
};

struct travelling {
	struct happening arrive;
	LIST_ENTRY(travelling) link;
	struct host *to, *other;	/* other: whose path it is on */
	struct segment s;
};

static LIST_HEAD(, travelling) under_way = LIST_HEAD_INITIALIZER(under_way);

struct host *
host_add(const char *name)
{
	struct host *h = &hosts[n_hosts];

	assert(n_hosts < HOSTS_MAX);
	memset(h, 0, sizeof(*h));
	snprintf(h->name, sizeof(h->name), "%s", name);
	h->address = (struct address){ .family = AF_INET, .ip = { 10, 0, 0, (uint8_t)(n_hosts + 1) } };
	h->last_port = 32768;
	TAILQ_INIT(&h->ends);
	n_hosts++;
	return h;
}

struct host *
host_of(const struct address *a)
{
	for (size_t i = 0; i < n_hosts; i++)
		if (memcmp(hosts[i].address.ip, a->ip, sizeof(a->ip)) == 0)
			return &hosts[i];
	return NULL;
}

void
host_vanish(struct host *h, bool icmp)
{
	story("%s is gone", h->name);
	h->is_gone = true;
	h->has_icmp = icmp;
	host_note_away(h);
}

void
host_note_away(struct host *h)
{
	const bool is_away = h->is_gone || h->path.is_cut;

	if (is_away && h->away_us == 0)
		h->away_us = world_us;
	if (is_away || h->away_us == 0)
		return;
	if (world_us - h->away_us > h->longest_away_us)
		h->longest_away_us = world_us - h->away_us;
	h->away_us = 0;
}

void
host_return(struct host *h)
{
	story("%s is back", h->name);
	h->is_gone = false;
	host_note_away(h);
}

/* --- middleboxes --- */

void
middlebox_forget_all(struct path *p)
{
	p->n_table = 0;
}

static struct remembered *
find(struct path *p, uint64_t id)
{
	for (size_t i = 0; i < p->n_table; i++)
		if (p->table[i].id == id)
			return &p->table[i];
	return NULL;
}

static void
remember(struct path *p, uint64_t id)
{
	size_t oldest = 0;

	if (p->n_table >= p->box.room && p->n_table > 0) {
		for (size_t i = 1; i < p->n_table; i++)
			if (p->table[i].last_us < p->table[oldest].last_us)
				oldest = i;
		story("a full table of %zu flows forgets %llx", p->box.room, (unsigned long long)p->table[oldest].id);
		if (on_pushed_out != NULL)
			on_pushed_out(p->table[oldest].id);
		p->table[oldest] = p->table[--p->n_table];
	}
	if (p->n_table == p->room_table) {
		p->room_table = p->room_table > 0 ? p->room_table * 2 : 64;
		p->table = realloc(p->table, p->room_table * sizeof(*p->table));
		assert(p->table != NULL);
	}
	p->table[p->n_table++] = (struct remembered){ id, world_us };
}

static void deliver(struct host *to, struct host *other, const struct segment *s, int64_t after_us);

/* A reset in the name of the other end. */
static void
reset_sender(struct host *from, struct host *other, const struct segment *s)
{
	struct segment r = { .from = s->to, .to = s->from, .id = s->id, .at = s->ack, .ack = s->at + s->len, .flags = SEG_RST | SEG_ACK };

	deliver(from, other, &r, other->path.delay_us);
}

/* True: it may pass. */
static bool
passes(struct host *from, struct host *other, const struct segment *s)
{
	struct path *p = &other->path;
	struct remembered *r;

	if (!p->box.exists)
		return true;
	r = find(p, s->id);
	if (r != NULL && world_us - r->last_us > p->box.idle_us) {
		story("%s's middlebox has forgotten %llx", other->name, (unsigned long long)s->id);
		*r = p->table[--p->n_table];
		r = NULL;
		if (on_forgotten != NULL)
			on_forgotten(s->id, p->box.counts == COUNTS_PAYLOAD);
	}
	if (r == NULL && (s->flags & SEG_SYN) && !(p->box.refuses_new && p->n_table >= p->box.room)) {
		remember(p, s->id);
		return true;
	}
	if (r == NULL) {
		if (p->box.resets && !(s->flags & SEG_RST))
			reset_sender(from, other, s);
		return false;
	}
	if (p->box.counts == COUNTS_ALL || s->len > 0 || (s->flags & (SEG_SYN | SEG_FIN)))
		r->last_us = world_us;
	return true;
}

/* --- on the way --- */

/* A reset is sent once. An end that sends nothing itself does not learn then that the other one is gone. */
static void
lose(const struct segment *s, struct host *to)
{
	struct tcp *t;

	if (to == NULL || !(s->flags & SEG_RST))
		return;
	TAILQ_FOREACH(t, &to->ends, of_host)
		if (t->id == s->id)
			t->missed_reset = true;
}

static void
note_lost(const struct segment *s)
{
	struct tcp *t;

	TAILQ_FOREACH(t, &hosts[0].ends, of_host)
		if (t->id == s->id && on_lost != NULL)
			on_lost(t->id, ++t->lost);
}

static void
arrive(void *arg)
{
	struct travelling *t = arg;

	LIST_REMOVE(t, link);
	if (!t->to->is_gone && !(t->other != NULL && t->other->path.is_cut))
		tcp_arrive(t->to, &t->s);
	else
		lose(&t->s, t->to);
	free(t);
}

static void
deliver(struct host *to, struct host *other, const struct segment *s, int64_t after_us)
{
	struct travelling *t = calloc(1, sizeof(*t) + s->len);

	assert(t != NULL);
	t->arrive = (struct happening){ .fn = arrive, .arg = t };
	t->to = to;
	t->other = other;
	t->s = *s;
	memcpy(t->s.data, s->data, s->len);
	LIST_INSERT_HEAD(&under_way, t, link);
	happen_at(&t->arrive, world_us + after_us);
}

/* The time of a segment on a path. Without reordering, later ones arrive later, as far as jitter lets them. */
static int64_t
travel_us(const struct path *p)
{
	int64_t us = p->delay_us + (p->jitter_us > 0 ? (int64_t)rnd_below((uint64_t)p->jitter_us) : 0);

	if (p->reorder > 0 && rnd_chance(p->reorder))
		us += rnd_between(1, 4 * p->delay_us + 1000);
	return us;
}

void
network_send(struct host *from, const struct segment *s)
{
	struct host *to = host_of(&s->to), *other = from == &hosts[0] ? to : from;
	struct path *p = other != NULL ? &other->path : NULL;

	network_segments++;
	if (from->is_gone || to == NULL || p == NULL)
		return;
	if (from == to || other == &hosts[0]) {
		deliver(to, NULL, s, rnd_between(5, 30));
		return;
	}
	if (p->is_cut || !passes(from, other, s)) {
		lose(s, to);
		return;
	}
	if (to->is_gone) {
		if (to->has_icmp)
			tcp_unreachable(from, s, EHOSTUNREACH);
		return;
	}
	if (rnd_chance(p->loss)) {
		note_lost(s);
		lose(s, to);
		return;
	}
	deliver(to, other, s, travel_us(p));
	if (p->doubled > 0 && rnd_chance(p->doubled))
		deliver(to, other, s, travel_us(p));
}

void
network_end(void)
{
	struct travelling *t;

	while ((t = LIST_FIRST(&under_way)) != NULL) {
		happen_not(&t->arrive);
		LIST_REMOVE(t, link);
		free(t);
	}
	for (size_t i = 0; i < n_hosts; i++) {
		tcp_forget(&hosts[i]);
		free(hosts[i].path.table);
	}
	n_hosts = 0;
}
