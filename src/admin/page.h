/* page.h - the status page, made from page.html by embed.py when building. */
#ifndef STENT_ADMIN_PAGE_H
#define STENT_ADMIN_PAGE_H

#include <stddef.h>

extern const unsigned char page_html[];
extern const size_t page_html_len;
extern const char page_policy[];	/* a content policy that allows only its own style and script */
extern const char page_headers[];	/* HTTP header lines, that among them */

#endif
