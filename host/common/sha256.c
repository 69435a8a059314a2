/* SPDX-License-Identifier: Apache-2.0 */
#include "host/common/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/common/memory.h"

#define READ_BYTES ((size_t)1 << 20)
#define SHA256_BYTES (HD_SHA256_HEX_BYTES / 2)

static hd_status refused(void)
{
	return hd_fail(HD_E_FAILED, "OpenSSL gives no SHA-256 here");
}

void hd_hex(char *out, const unsigned char *bytes, size_t count)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < count; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
	out[2 * count] = 0;
}

hd_status hd_sha256(char hex[HD_SHA256_HEX_BYTES], const void *data, size_t bytes)
{
	unsigned char digest[SHA256_BYTES];
	if (EVP_Digest(data, bytes, digest, NULL, EVP_sha256(), NULL) != 1)
		return refused();
	hd_hex(hex, digest, sizeof digest);
	return HD_OK;
}

hd_status hd_sha256_file(char hex[HD_SHA256_HEX_BYTES], const char *path)
{
	hd_status st;
	char *buffer = NULL;
	unsigned char digest[SHA256_BYTES];
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
		st = EVP_DigestFinal_ex(context, digest, NULL) == 1 ? HD_OK : refused();
	if (st == HD_OK)
		hd_hex(hex, digest, sizeof digest);
done:
	if (fd >= 0)
		close(fd);
	free(buffer);
	EVP_MD_CTX_free(context);
	return st;
}
