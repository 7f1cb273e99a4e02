/* codecs.h - every codec of the table, for codec.c and for codecs that hand over to another. */
#ifndef STENT_CODEC_CODECS_H
#define STENT_CODEC_CODECS_H

#include "stent/codec.h"

extern const struct codec codec_auto;
extern const struct codec codec_http;
extern const struct codec codec_sse;
extern const struct codec codec_websocket;
extern const struct codec codec_line;
extern const struct codec codec_postgres;
extern const struct codec codec_mysql;
extern const struct codec codec_redis;

#endif
