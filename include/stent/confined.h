/*
 * confined.h - what is said of a file that cannot be opened, where it may be the sandbox that does not allow it.
 */
#ifndef STENT_CONFINED_H
#define STENT_CONFINED_H

/* From now on files outside of the sandbox are refused. */
void confined_begin(void);

/*
 * Why a file could not be opened (R_OK) or written or created (W_OK): strerror(err), or that the sandbox does not
 * allow it and what to do.
 */
const char *confined_error(int err, const char *path, int mode);

#endif
