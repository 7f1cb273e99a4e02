/* flow_tree.c - records of flows, ordered by the addresses of their flows: tsearch(3). */
#include "relay/flow_tree.h"

#include <assert.h>
#include <errno.h>
#include <search.h>
#include <stddef.h>

/* Records begin with it. */
struct record {
	const struct flow *flow;
};

static int
compare(const void *a, const void *b)
{
	const struct flow *f = ((const struct record *)a)->flow, *g = ((const struct record *)b)->flow;

	return f < g ? -1 : f > g;
}

void *
flow_tree_find(void *const *tree, const struct flow *f)
{
	const struct record key = { f };
	void *const *node = tfind(&key, tree, compare);

	return node != NULL ? *node : NULL;
}

int
flow_tree_add(void **tree, void *record)
{
	void *const *node = tsearch(record, tree, compare);

	assert(node == NULL || *node == record);
	return node != NULL ? 0 : -ENOMEM;
}

void
flow_tree_remove(void **tree, void *record)
{
	void *node = tdelete(record, tree, compare);

	assert(node != NULL);
	(void)node;
}
