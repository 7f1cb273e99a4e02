/* page.h - the page of `stent demo --web`, made from page.html when building. */
#ifndef STENT_DEMO_PAGE_H
#define STENT_DEMO_PAGE_H

#include <stddef.h>

extern const unsigned char demo_page_html[];
extern const size_t demo_page_html_len;
extern const char demo_page_policy[];	/* Content-Security-Policy: only its own style and script */

#endif
