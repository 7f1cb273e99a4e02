/* notify.h - tells systemd about the state of the process (sd_notify(3)), if it was started with Type=notify. */
#ifndef STENT_NOTIFY_H
#define STENT_NOTIFY_H

#include <stdint.h>

/* Lines "NAME=VALUE", separated by newlines; nothing happens without $NOTIFY_SOCKET. 0 or -errno. */
int notify_send(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* How often WATCHDOG=1 is due, half of what systemd allows; 0: it does not watch this process. */
int64_t notify_watchdog_us(void);

#endif
