/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4), by OpenSSL. */
#ifndef HD_COMMON_SHA256_H
#define HD_COMMON_SHA256_H

#include <stddef.h>

#include "heimdall/status.h"

#define HD_SHA256_HEX_BYTES 65

/* out (2*count+1): lower-case hex digits, ended by 0. */
void hd_hex(char *out, const unsigned char *bytes, size_t count);

hd_status hd_sha256(char hex[HD_SHA256_HEX_BYTES], const void *data, size_t bytes);
hd_status hd_sha256_file(char hex[HD_SHA256_HEX_BYTES], const char *path);

#endif
