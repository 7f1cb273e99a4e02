/* speeches.c - the protocols that are spoken. */
#include "talk.h"

const struct speech *const speeches[] = { &speech_tcp, &speech_redis, &speech_websocket, &speech_postgres, &speech_postgres_busy, &speech_postgres_auto,
	&speech_mysql, &speech_mysql_auto, &speech_line, &speech_http,
	&speech_http_auto, &speech_websocket_http, &speech_websocket_auto, &speech_redis_auto, &speech_redis_oneway,
	&speech_mysql_busy, &speech_http_early, &speech_tcp_tls, &speech_tcp_from_tls, &speech_tcp_to_tls, &speech_redis_tls,
	&speech_websocket_tls, &speech_postgres_tls, &speech_postgres_to_tls, &speech_http_tls, &speech_tcp_urgent, &speech_tcp_urgent_off, &speech_self, NULL };
