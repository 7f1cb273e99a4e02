/* event_log.h - libevent's messages, in our log. */
#ifndef STENT_EVENT_LOG_H
#define STENT_EVENT_LOG_H

/* From now on, for the whole process. Before threads are started. */
void event_log_adopt(void);

#endif
