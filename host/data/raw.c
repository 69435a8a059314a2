/* SPDX-License-Identifier: Apache-2.0 */
/* Bare samples: interleaved I,Q of one type, little endian, without a header. */
#include "host/data/iq_formats.h"

#include <string.h>

static const struct {
	const char *name;
	hd_raw_format format;
	hd_dtype dtype;
} formats[] = {{"cu8", HD_RAW_CU8, HD_U8}, {"cs8", HD_RAW_CS8, HD_I8}, {"cs16", HD_RAW_CS16, HD_I16},
        {"cf32", HD_RAW_CF32, HD_F32}};

#define FORMATS (sizeof formats / sizeof *formats)

hd_raw_format hd_raw_of_name(const char *path)
{
	const char *dot = strrchr(path, '.');
	for (size_t i = 0; dot && i < FORMATS; i++)
		if (!strcasecmp(dot + 1, formats[i].name))
			return formats[i].format;
	return HD_RAW_AUTO;
}

hd_status hd_raw_parse(hd_layout *l, hd_iq_info *info, const hd_source *source, hd_raw_format raw)
{
	size_t i = 0;
	while (i + 1 < FORMATS && formats[i].format != raw)
		i++;
	size_t pair = 2 * hd_dtype_bytes(formats[i].dtype);
	info->format = "raw";
	if (!source->stream && source->bytes % pair)
		return hd_fail(HD_E_DATA,
		        "%zu bytes are not a whole number of %s samples of %zu bytes; is it truncated, or of another "
		        "--iq_format?",
		        source->bytes, formats[i].name, pair);
	if (source->bytes < pair)
		return hd_fail(
		        HD_E_DATA, "%zu bytes hold no %s sample of %zu bytes", source->bytes, formats[i].name, pair);
	hd_layout_pairs(l, formats[i].dtype, 1, (int64_t)(source->bytes / pair), source->data);
	l->swap = HD_HOST_BIG_ENDIAN && pair > 2;
	return HD_OK;
}
