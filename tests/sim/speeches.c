/* speeches.c - the protocols that are spoken. */
#include "talk.h"

const struct speech *const speeches[] = { &speech_tcp, &speech_redis, &speech_websocket, NULL };
