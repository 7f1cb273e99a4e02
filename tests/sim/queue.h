/* queue.h - a queue of bytes. Zeroed: empty. */
#ifndef SIM_QUEUE_H
#define SIM_QUEUE_H

#include <stddef.h>
#include <stdint.h>

struct queue {
	uint8_t *data;
	size_t from, len, room;		/* the bytes are data + from, len of them */
};

void queue_put(struct queue *q, const void *data, size_t len);
void queue_drop(struct queue *q, size_t len);	/* from its front */
void queue_free(struct queue *q);		/* it is empty then */

static inline const uint8_t *
queue_front(const struct queue *q)
{
	return q->data != NULL ? q->data + q->from : NULL;
}

#endif
