/* control_settings.h - requests of the control socket that concern the settings and the routes. */
#ifndef STENT_ADMIN_CONTROL_SETTINGS_H
#define STENT_ADMIN_CONTROL_SETTINGS_H

#include <jansson.h>
#include <stdbool.h>

struct server;
struct route;

/* The responses, the caller's; NULL: out of memory. words[0] is the command, the list ends in NULL. */
json_t *control_reload(struct server *s, char *const words[]);
json_t *control_pause(struct server *s, char *const words[]);
json_t *control_resume(struct server *s, char *const words[]);

/* For `status`: when the settings were read; the pause of a route, null: it is not paused. */
json_t *control_load_json(const struct server *s);
json_t *control_pause_json(const struct server *s, const struct route *route);

#endif
