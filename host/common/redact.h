/* SPDX-License-Identifier: Apache-2.0 */
/* URLs as they may be shown and kept: without the password. Thread-safe. */
#ifndef HD_COMMON_REDACT_H
#define HD_COMMON_REDACT_H

#include <stdbool.h>

#include "heimdall/status.h"

/*
 * A copy of text. Where that is a URL (RFC 3986, scheme://user:password@host/...?password=...), password and
 * parameters that hold one (password, sslpassword) are left out; user, host and path stay. A database's URL whose
 * password holds an unescaped '/', '?', '#' or '@' loses all of it. Owned by the caller.
 */
hd_status hd_redact(char **out, const char *text);

/* Whether hd_redact would leave something out. */
bool hd_has_password(const char *text);

/* Whether a password before the host holds characters that end it early, of "/?#@[]" and blanks; they are written %2F.
 */
bool hd_password_is_unescaped(const char *text);

/* postgresql:// or postgres://, as libpq takes them. */
bool hd_is_database_url(const char *text);

#endif
