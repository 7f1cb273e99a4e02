/*
 * flow_tree.h - what few flows have: a bit in the flow says so, and the rest is a record in a tree of the relay, so
 * that the others have no field for it. A record begins with a pointer to its flow, and is the caller's.
 */
#ifndef STENT_RELAY_FLOW_TREE_H
#define STENT_RELAY_FLOW_TREE_H

struct flow;

/* The record of the flow; NULL: there is none. */
void *flow_tree_find(void *const *tree, const struct flow *f);
int flow_tree_add(void **tree, void *record);	/* of a flow that has none; 0 or -ENOMEM */
void flow_tree_remove(void **tree, void *record);	/* it is there */

#endif
