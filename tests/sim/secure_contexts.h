/* secure_contexts.h - what ends of TLS share. For secure.c. */
#ifndef SIM_SECURE_CONTEXTS_H
#define SIM_SECURE_CONTEXTS_H

#include <openssl/ssl.h>
#include <stdbool.h>

/* For a client or a server of a kind that chance decides; a client may resume a session. */
SSL *secure_ssl_new(bool is_server);

#endif
