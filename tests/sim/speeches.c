/* speeches.c - the protocols that are spoken. */
#include "talk.h"

const struct speech *const speeches[] = { &speech_tcp, &speech_redis, &speech_websocket, &speech_postgres, &speech_postgres_busy, &speech_postgres_auto,
	&speech_mysql, &speech_mysql_auto, &speech_line, &speech_http,
	&speech_http_auto, &speech_websocket_http, &speech_websocket_auto, &speech_redis_auto, &speech_redis_oneway,
	&speech_mysql_busy, &speech_http_early, NULL };
