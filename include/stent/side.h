/* side.h - the two sides of a flow. One array indexed by side serves both directions. */
#ifndef STENT_SIDE_H
#define STENT_SIDE_H

enum side { CLIENT, BACKEND };

static inline enum side
side_other(enum side s)
{
	return s == CLIENT ? BACKEND : CLIENT;
}

static inline const char *
side_name(enum side s)
{
	return s == CLIENT ? "client" : "backend";
}

#endif
