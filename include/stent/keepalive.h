/* keepalive.h - settings by which the kernel detects that the peer of a socket is gone. */
#ifndef STENT_KEEPALIVE_H
#define STENT_KEEPALIVE_H

#include <stdint.h>

struct keepalive {
	int idle_s;			/* before the first probe; 0: no probes */
	int interval_s;
	int probes;
	int64_t user_timeout_ms;	/* TCP_USER_TIMEOUT; 0: the kernel's default */
	int retransmit_ms;		/* limit of the time between retransmissions of a few bytes (TCP_RTO_MAX_MS); 0: the kernel's default */
};

#endif
