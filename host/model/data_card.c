/* SPDX-License-Identifier: Apache-2.0 */
#include "host/model/data_card.h"

#include <jansson.h>
#include <stdlib.h>

#include "host/common/memory.h"

#define JSON_FLAGS (JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17))

void hd_data_card_free(hd_data_card *card)
{
	if (!card)
		return;
	free(card->offset);
	free(card->rstd);
	free(card->mean);
	free(card->receivers);
	*card = (hd_data_card){0};
}

static json_t *floats_json(const float *values, int n)
{
	json_t *array = json_array();
	for (int i = 0; values && i < n; i++)
		json_array_append_new(array, json_real((double)values[i]));
	return array;
}

hd_status hd_data_card_write(char **out, const hd_data_card *c)
{
	json_t *json = json_pack("{s:s, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:i, s:o, s:o, s:o}", "receivers",
	        c->receivers, "channels", c->channels, "origin_latitude_deg", c->frame.origin_latitude_deg,
	        "origin_longitude_deg", c->frame.origin_longitude_deg, "scale_m", c->frame.scale_m,
	        "centre_latitude_deg", c->centre_latitude_deg, "centre_longitude_deg", c->centre_longitude_deg,
	        "sigma_min_m", c->sigma_min_m, "sigma_max_m", c->sigma_max_m, "height", c->height, "mean",
	        floats_json(c->mean, c->height), "rstd", floats_json(c->rstd, c->height), "offset",
	        floats_json(c->offset, c->channels));
	*out = json ? json_dumps(json, JSON_FLAGS) : NULL;
	json_decref(json);
	return *out ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory for the data card");
}

static hd_status read_floats(float **out, const json_t *array, int n)
{
	if (json_array_size(array) == 0)
		return HD_OK;
	if (json_array_size(array) != (size_t)n)
		return hd_fail(HD_E_DATA, "%zu statistics, want %d", json_array_size(array), n);
	hd_status st = hd_alloc(out, (size_t)n, sizeof(float));
	for (int i = 0; st == HD_OK && i < n; i++)
		(*out)[i] = (float)json_number_value(json_array_get(array, (size_t)i));
	return st;
}

static hd_status read_card(hd_data_card *c, json_t *json)
{
	hd_status st;
	json_t *mean, *rstd, *offset;
	const char *receivers;
	json_error_t error;
	if (json_unpack_ex(json, &error, 0, "{s:s, s:i, s:F, s:F, s:F, s:F, s:F, s:F, s:F, s:i, s:o, s:o, s:o}",
	            "receivers", &receivers, "channels", &c->channels, "origin_latitude_deg",
	            &c->frame.origin_latitude_deg, "origin_longitude_deg", &c->frame.origin_longitude_deg, "scale_m",
	            &c->frame.scale_m, "centre_latitude_deg", &c->centre_latitude_deg, "centre_longitude_deg",
	            &c->centre_longitude_deg, "sigma_min_m", &c->sigma_min_m, "sigma_max_m", &c->sigma_max_m, "height",
	            &c->height, "mean", &mean, "rstd", &rstd, "offset", &offset))
		return hd_fail(HD_E_DATA, "%s", error.text);
	HD_TRY(hd_strdup(&c->receivers, receivers));
	HD_TRY(read_floats(&c->mean, mean, c->height));
	HD_TRY(read_floats(&c->rstd, rstd, c->height));
	HD_TRY(read_floats(&c->offset, offset, c->channels));
done:
	return st;
}

hd_status hd_data_card_read(hd_data_card *out, const char *text, const char *key)
{
	json_error_t error;
	*out = (hd_data_card){0};
	json_t *json = json_loads(text, JSON_DECODE_ANY, &error);
	hd_status st = json ? read_card(out, json) : hd_fail(HD_E_DATA, "%s", error.text);
	json_decref(json);
	if (st != HD_OK)
		hd_data_card_free(out);
	return st == HD_OK ? st : hd_context(st, "metadata '%s'", key);
}
