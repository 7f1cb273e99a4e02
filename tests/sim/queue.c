/* queue.c - a queue of bytes; what is emptied keeps no memory. */
#include "queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void
queue_put(struct queue *q, const void *data, size_t len)
{
	if (len == 0)
		return;
	if (q->from + q->len + len > q->room) {
		uint8_t *grown;

		q->room = (q->len + len) * 2;
		grown = malloc(q->room);
		assert(grown != NULL);
		if (q->len > 0)
			memcpy(grown, q->data + q->from, q->len);
		free(q->data);
		q->data = grown;
		q->from = 0;
	}
	memcpy(q->data + q->from + q->len, data, len);
	q->len += len;
}

void
queue_drop(struct queue *q, size_t len)
{
	assert(len <= q->len);
	q->from += len;
	q->len -= len;
	if (q->len == 0)
		queue_free(q);
}

void
queue_free(struct queue *q)
{
	free(q->data);
	*q = (struct queue){ 0 };
}
