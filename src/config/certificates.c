/*
 * certificates.c - reads what a leg's TLS keys name, and makes its context: at
 * the end of reading the settings, so that they are taken with all of their
 * files or not at all.
 *
 * A certificate that has expired is a warning, as a start with it is better
 * than none: its peers say what they think of it.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "config/make.h"
#include "stent/certificate.h"
#include "stent/user.h"

#define DAY_S 86400
#define SOON_S (30 * DAY_S)

/* One file of a leg, and where it was written. */
struct named_file {
	struct parsed *parsed;
	const struct entry *entry;
	const char *path;
};

const char *
date_text(int64_t at_s, char buf[DATE_MAX])
{
	const time_t t = (time_t)at_s;
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL || strftime(buf, DATE_MAX, "%Y-%m-%d %H:%M UTC", &tm) == 0)
		strcpy(buf, "an unknown date");
	return buf;
}

static void
warn_of_date(const struct named_file *f, const struct certificate *c)
{
	const int64_t now_s = time(NULL);
	struct errors *errors = &f->parsed->errors;
	const struct entry *e = f->entry;
	char date[DATE_MAX];

	if (c->until_s <= now_s)
		errors_warn(errors, e->line, "%s: the certificate \"%s\" expired on %s, and peers that verify it refuse it; renew it",
		    e->name, c->subject, date_text(c->until_s, date));
	else if (c->from_s > now_s)
		errors_warn(errors, e->line, "%s: the certificate \"%s\" is not valid before %s; check it, and this machine's clock",
		    e->name, c->subject, date_text(c->from_s, date));
	else if (c->until_s <= now_s + SOON_S)
		errors_warn(errors, e->line, "%s: the certificate \"%s\" expires on %s, in %" PRId64 " days; renew it", e->name, c->subject,
		    date_text(c->until_s, date), (c->until_s - now_s) / DAY_S);
}

/* Of a chain the one that expires first counts, of CAs the one that expires last: until then the file is good for something. */
static const struct certificate *
decisive(const struct certificates *all, bool is_chain)
{
	const struct certificate *best = &all->list[0];

	for (size_t i = 1; i < all->n; i++)
		if ((all->list[i].until_s < best->until_s) == is_chain)
			best = &all->list[i];
	return best;
}

/* When the certificates of a file expire. What is wrong with the file is found when the context is made. */
static int64_t
read_expiry(const struct named_file *f, bool is_chain)
{
	struct certificates all;
	int64_t until_s;

	if (f->path == NULL || certificates_read(&all, f->path) < 0)
		return 0;
	until_s = decisive(&all, is_chain)->until_s;
	warn_of_date(f, decisive(&all, is_chain));
	certificates_clear(&all);
	return until_s;
}

/* False, after adding the error: reading it might never end. */
static bool
check_kind(const struct named_file *f)
{
	struct stat st;

	if (f->path == NULL || stat(f->path, &st) != 0 || S_ISREG(st.st_mode))
		return true;
	errors_add(&f->parsed->errors, f->entry->line, "%s: \"%s\" is not a regular file; write the path of a PEM file", f->entry->name, f->path);
	return false;
}

/* What is read now by root has to be read again by its user when the settings are loaded anew. */
static void
warn_of_rights(const struct config *c, const struct named_file *f)
{
	uid_t uid;
	gid_t gid;
	int r;

	if (f->path == NULL || access(f->path, R_OK) != 0 || !user_is_to_change(c->user, &uid, &gid))
		return;
	r = user_access(uid, gid, f->path);
	if (r < 0)
		errors_warn(&f->parsed->errors, f->entry->line, "%s: \"%s\" cannot be read by user %s: %s; a reload "
		    "would fail, so give that user the right to read it", f->entry->name, f->path, c->user,
		    strerror(-r));
}

static void
warn_of_openness(const struct named_file *f)
{
	struct stat st;

	if (f->path != NULL && stat(f->path, &st) == 0 && (st.st_mode & (S_IROTH | S_IWOTH)) != 0)
		errors_warn(&f->parsed->errors, f->entry->line, "%s: the private key \"%s\" can be read by every user of this machine; "
		    "take that right away (chmod o-rwx)", f->entry->name, f->path);
}

static bool
is_about(const char *error, const char *path)
{
	const size_t len = path != NULL ? strlen(path) : 0;

	return len > 0 && strncmp(error, path, len) == 0 && error[len] == ':';
}

/* An error begins with the file that it is about; one that has both certificate and key is that of the certificate. */
static void
report(const char *error, const struct named_file files[3], const struct entry *mode)
{
	const struct entry *e = mode;

	for (size_t i = 0; i < 3; i++)
		if (is_about(error, files[i].path))
			e = files[i].entry;
	errors_add(&files[0].parsed->errors, e->line, "%s: %s", e->name, error);
}

void
resolve_certificates(struct route *r, struct parsed *d, const struct section *s, enum side side, bool is_good)
{
	static const char *const keys_of_files[] = { "tls_ca", "tls_key", "tls_cert" };
	struct leg_settings *leg = &r->leg[side];
	const char *const paths[] = { leg->tls.ca, leg->tls.key, leg->tls.cert };
	struct named_file files[3];
	char error[TLS_ERROR_MAX];

	for (size_t i = 0; i < 3; i++) {
		files[i] = (struct named_file){ d, parsed_decides(d, s, key_find_leg(keys_of_files[i], side), side), paths[i] };
		if (!check_kind(&files[i]))
			return;
		warn_of_rights(r->config, &files[i]);
	}
	warn_of_openness(&files[1]);
	leg->tls_expiry.ca_s = read_expiry(&files[0], false);
	leg->tls_expiry.cert_s = read_expiry(&files[2], true);
	if (!is_good)
		return;
	leg->tls_context = tls_context_new(&leg->tls, side == CLIENT, r->codec != NULL ? r->codec->alpn[side] : NULL, error);
	if (leg->tls_context == NULL)
		report(error, files, parsed_decides(d, s, key_find_leg("tls", side), side));
}
