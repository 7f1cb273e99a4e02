/* kernel.h - oracles on what the program's kernel holds: bytes and errors that are there for it to take, and what it sent behind what. */
#ifndef SIM_KERNEL_H
#define SIM_KERNEL_H

#include "talk.h"

void kernel_begin(void);
/* Now and then: bytes that can be passed on are, and a reset is noticed. */
void kernel_check(void);
/* This side's connection has failed, and what came from it before goes to the other side, which takes it. */
bool kernel_is_delivering(const struct party *p);
/* The program has given this side up, as replies to heartbeats were missing. */
void kernel_judge_missing(const struct party *p);
/* The program resets one of its connections. */
void kernel_judge_reset(const struct tcp *e);
/* The program tells the end of this conversation; its connections are still there. */
void kernel_judge_end(const struct talk *t);
/* A party gets a heartbeat, which begins at this position of the stream to it. */
void kernel_judge_heartbeat(const struct party *p, uint64_t at);

#endif
