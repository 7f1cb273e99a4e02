/* tls_memory.h - whether an allocation of OpenSSL failed. */
#ifndef STENT_TRANSPORT_TLS_MEMORY_H
#define STENT_TRANSPORT_TLS_MEMORY_H

#include <stdbool.h>

/* From now on, on this thread. */
void tls_memory_watch(void);
bool tls_memory_has_failed(void);

#endif
