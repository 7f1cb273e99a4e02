/*
 * spare.c - descriptors held back for backends.
 *
 * A flow takes two descriptors, one after the other: when its client is
 * accepted, and when its backend is connected, which another thread does, or
 * this one when a name has been looked up. So a client may be accepted with
 * the last descriptor there was. Its backend then gets one of these, and
 * nobody else is accepted before all of them are held again: new clients wait
 * in the kernel's queue, and none is let in only to be turned away.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "stent/spare.h"

static struct {
	pthread_mutex_t lock;
	int wanted, held;	/* written with the lock held, read without it too */
	int fd[SPARE_MOST];
} spare = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int
fill(void)
{
	while (spare.held < spare.wanted) {
		/* Whatever costs a descriptor and a file of the system's, and needs no path. */
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
	(void)fill();		/* who accepts tries again, and says so */
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
