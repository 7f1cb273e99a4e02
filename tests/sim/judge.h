/* judge.h - the oracles that need more than what is said and heard: ends and their reasons, deaths, heartbeats, work. */
#ifndef SIM_JUDGE_H
#define SIM_JUDGE_H

#include "plan.h"

void judge_begin(const struct plan *plan);
/* A line of the program's log. */
void judge_line(const char *text);
/* Now and then: what should have happened by now. */
void judge_check(void);
/* Something was done that may end any flow by a reason of the program's own: lack of memory, a drain. */
void judge_expect(const char *reason);
/* The program may end flows whose client is there, and then cancels what their servers do. */
bool judge_cancels_work(void);
/* A party hears a goodbye, or a FIN. */
void judge_heard_end(struct party *p, bool is_fin);
/* A party gets a heartbeat. */
void judge_heartbeat(const struct party *p);
/* A segment of this connection was lost by chance, the n-th without one that arrived. */
void judge_lost(uint64_t id, unsigned in_a_row);
/* A middlebox has forgotten this connection, as it was quiet for too long. */
void judge_forgotten(uint64_t id, bool counts_payload);
/* What must be true at the end of the world. */
void judge_ends(void);

#endif
