/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/common/memory.h"

#define READ_BYTES ((size_t)1 << 20)

static hd_status refused(void)
{
	return hd_fail(HD_E_FAILED, "OpenSSL gives no SHA-256 here");
}

static hd_status finish(char hex[HD_SHA256_HEX_BYTES], EVP_MD_CTX *context)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int bytes = 0;
	if (EVP_DigestFinal_ex(context, digest, &bytes) != 1 || 2 * bytes + 1 != HD_SHA256_HEX_BYTES)
		return refused();
	for (unsigned int i = 0; i < bytes; i++) {
		hex[2 * i] = digits[digest[i] >> 4];
		hex[2 * i + 1] = digits[digest[i] & 15];
	}
	hex[2 * bytes] = 0;
	return HD_OK;
}

hd_status hd_sha256(char hex[HD_SHA256_HEX_BYTES], const void *data, size_t bytes)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool ok = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1 &&
	          EVP_DigestUpdate(context, data, bytes) == 1;
	hd_status st = ok ? finish(hex, context) : refused();
	EVP_MD_CTX_free(context);
	return st;
}

hd_status hd_sha256_file(char hex[HD_SHA256_HEX_BYTES], const char *path)
{
	hd_status st;
	char *buffer = NULL;
	ssize_t got;
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		st = hd_fail(HD_E_IO, "%s: %s", path, strerror(errno));
		goto done;
	}
	HD_TRY(hd_alloc(&buffer, READ_BYTES, 1));
	st = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1 ? HD_OK : refused();
	while (st == HD_OK && (got = read(fd, buffer, READ_BYTES)) != 0) {
		if (got < 0)
			st = hd_fail(HD_E_IO, "%s: %s", path, strerror(errno));
		else if (EVP_DigestUpdate(context, buffer, (size_t)got) != 1)
			st = refused();
	}
	if (st == HD_OK)
		st = finish(hex, context);
done:
	if (fd >= 0)
		close(fd);
	free(buffer);
	EVP_MD_CTX_free(context);
	return st;
}
