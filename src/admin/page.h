/* page.h - the status page and the form to log in, made from HTML by embed.py when building. */
#ifndef STENT_ADMIN_PAGE_H
#define STENT_ADMIN_PAGE_H

#include <stddef.h>

extern const unsigned char page_html[];
extern const size_t page_html_len;
extern const char page_policy[];	/* a content policy that allows only its own style and script */
extern const unsigned char login_html[];
extern const size_t login_html_len;
extern const char login_policy[];

#endif
