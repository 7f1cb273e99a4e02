/*
 * spare.c - descriptors held back for backends.
 *
 * A flow takes two descriptors at different times: when its client is accepted,
 * and later, perhaps on another thread, when its backend is connected. If the
 * client got the last free one, the backend gets a spare one, and no client is
 * accepted until all spare ones are held again: new clients wait in the
 * kernel's queue instead of being accepted and then reset.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "stent/spare.h"

static struct {
	pthread_mutex_t lock;
	int wanted, held;	/* written with the lock held, also read without */
	int fd[SPARE_MOST];
} spare = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int
fill(void)
{
	while (spare.held < spare.wanted) {
		/* Anything that takes a descriptor and an open file, and needs no path. */
		const int fd = eventfd(0, EFD_CLOEXEC);

		if (fd < 0)
			return -errno;
		spare.fd[spare.held] = fd;
		__atomic_store_n(&spare.held, spare.held + 1, __ATOMIC_RELAXED);
	}
	return 0;
}

int
spare_fill(void)
{
	int r;

	if (__atomic_load_n(&spare.held, __ATOMIC_RELAXED) >= __atomic_load_n(&spare.wanted, __ATOMIC_RELAXED))
		return 0;
	pthread_mutex_lock(&spare.lock);
	r = fill();
	pthread_mutex_unlock(&spare.lock);
	return r;
}

void
spare_hold(int n)
{
	pthread_mutex_lock(&spare.lock);
	__atomic_store_n(&spare.wanted, n < SPARE_MOST ? n : SPARE_MOST, __ATOMIC_RELAXED);
	(void)fill();		/* the acceptor tries again, and logs a failure */
	pthread_mutex_unlock(&spare.lock);
}

bool
spare_give(void)
{
	bool given;

	pthread_mutex_lock(&spare.lock);
	given = spare.held > 0;
	if (given) {
		__atomic_store_n(&spare.held, spare.held - 1, __ATOMIC_RELAXED);
		close(spare.fd[spare.held]);
	}
	pthread_mutex_unlock(&spare.lock);
	return given;
}
