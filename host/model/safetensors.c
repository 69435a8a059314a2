/* SPDX-License-Identifier: Apache-2.0 */
#include "heimdall/safetensors.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "host/common/file.h"
#include "host/common/memory.h"

#define HEADER_LENGTH_BYTES 8
#define HEADER_MAX_BYTES 100000000
#define METADATA_KEY "__metadata__"
#define CHECKSUM_PREFIX "checksum:"

static const struct {
	const char *name;
	hd_dtype dtype;
} dtypes[] = {{"F32", HD_F32}, {"F64", HD_F64}, {"F16", HD_F16}, {"BF16", HD_BF16}, {"I32", HD_I32}, {"I16", HD_I16},
        {"I8", HD_I8}, {"U8", HD_U8}};
#define DTYPE_COUNT (sizeof dtypes / sizeof *dtypes)

static uint32_t crc32_of(const void *data, size_t bytes)
{
	return (uint32_t)crc32_z(0, data, bytes);
}

/* ---- reading ---- */

static hd_status parse_shape(hd_tensor *t, const json_t *shape, size_t *elements)
{
	*elements = 1;
	if (!json_is_array(shape) || json_array_size(shape) > HD_TENSOR_DIMS)
		return hd_fail(HD_E_DATA, "tensor %s: no shape of up to %d dimensions", t->name, HD_TENSOR_DIMS);
	t->ndim = (int)json_array_size(shape);
	for (int d = 0; d < t->ndim; d++) {
		const json_t *size = json_array_get(shape, (size_t)d);
		t->shape[d] = json_integer_value(size);
		if (!json_is_integer(size) || t->shape[d] < 0 ||
		        __builtin_mul_overflow(*elements, (size_t)t->shape[d], elements))
			return hd_fail(HD_E_DATA, "tensor %s: bad shape", t->name);
	}
	return HD_OK;
}

static hd_status parse_tensor(hd_tensor *t, json_t *row, const unsigned char *data, size_t data_bytes)
{
	const char *dtype = json_string_value(json_object_get(row, "dtype"));
	const json_t *offsets = json_object_get(row, "data_offsets");
	json_int_t begin = json_integer_value(json_array_get(offsets, 0)),
	           end = json_integer_value(json_array_get(offsets, 1));
	size_t known = 0, elements;
	while (known < DTYPE_COUNT && dtype && strcmp(dtypes[known].name, dtype) != 0)
		known++;
	if (!dtype || known == DTYPE_COUNT)
		return hd_fail(
		        HD_E_DATA, "tensor %s: dtype '%s' is not read by this program", t->name, dtype ? dtype : "");
	t->dtype = dtypes[known].dtype;
	hd_status st = parse_shape(t, json_object_get(row, "shape"), &elements);
	if (st != HD_OK)
		return st;
	if (json_array_size(offsets) != 2 || begin < 0 || end < begin || (uint64_t)end > data_bytes)
		return hd_fail(HD_E_DATA, "tensor %s: data_offsets outside the file", t->name);
	t->bytes = (size_t)(end - begin);
	if (elements > data_bytes || elements * hd_dtype_bytes(t->dtype) != t->bytes)
		return hd_fail(HD_E_DATA, "tensor %s: %zu bytes do not match its shape", t->name, t->bytes);
	t->data = data + begin;
	return HD_OK;
}

static int by_data(const void *a, const void *b)
{
	const hd_tensor *x = a, *y = b;
	if (x->data != y->data)
		return (const char *)x->data < (const char *)y->data ? -1 : 1;
	return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static hd_status parse_metadata(hd_safetensors *out, json_t *object)
{
	hd_status st = HD_OK;
	const char *key;
	json_t *value;
	HD_TRY(hd_alloc(&out->metadata, json_object_size(object), sizeof *out->metadata));
	json_object_foreach(object, key, value)
	{
		if (!json_is_string(value)) {
			st = hd_fail(HD_E_DATA, "metadata '%s' is not a string", key);
			goto done;
		}
		hd_metadata *row = &out->metadata[out->metadata_count++];
		HD_TRY(hd_strdup(&row->key, key));
		HD_TRY(hd_strdup(&row->value, json_string_value(value)));
	}
done:
	return st;
}

static hd_status parse_header(hd_safetensors *out, json_t *header, const unsigned char *data, size_t data_bytes)
{
	hd_status st;
	const char *name;
	json_t *row;
	HD_TRY(hd_alloc(&out->tensors, json_object_size(header), sizeof *out->tensors));
	json_object_foreach(header, name, row)
	{
		if (!json_is_object(row)) {
			st = hd_fail(HD_E_DATA, "header: '%s' is no object", name);
			goto done;
		}
		if (!strcmp(name, METADATA_KEY)) {
			HD_TRY(parse_metadata(out, row));
			continue;
		}
		hd_tensor *t = &out->tensors[out->tensor_count++];
		HD_TRY(hd_strdup(&t->name, name));
		HD_TRY(parse_tensor(t, row, data, data_bytes));
	}
	qsort(out->tensors, out->tensor_count, sizeof *out->tensors, by_data);
	const unsigned char *at = data;
	for (size_t i = 0; i < out->tensor_count; at += out->tensors[i++].bytes) {
		if (out->tensors[i].data != at) {
			st = hd_fail(HD_E_DATA, "tensor %s: data overlap or leave a gap", out->tensors[i].name);
			goto done;
		}
	}
	if (at != data + data_bytes)
		st = hd_fail(HD_E_DATA, "%zu bytes behind the last tensor", (size_t)(data + data_bytes - at));
done:
	return st;
}

static hd_status verify_checksums(const hd_safetensors *file)
{
	for (size_t i = 0; i < file->tensor_count; i++) {
		char *key, crc[16];
		hd_status st = hd_sprintf(&key, CHECKSUM_PREFIX "%s", file->tensors[i].name);
		if (st != HD_OK)
			return st;
		const char *want = hd_safetensors_metadata(file, key);
		free(key);
		snprintf(crc, sizeof crc, "%08x", crc32_of(file->tensors[i].data, file->tensors[i].bytes));
		hd_file_forget(file->tensors[i].data, file->tensors[i].bytes);
		if (want && strcmp(want, crc) != 0)
			return hd_fail(HD_E_DATA, "tensor %s: checksum %s, want %s: the file is damaged",
			        file->tensors[i].name, crc, want);
	}
	return HD_OK;
}

static hd_status parse(hd_safetensors *out, bool verify)
{
	const unsigned char *file = out->map;
	uint64_t length = 0;
	if (out->map_bytes < HEADER_LENGTH_BYTES)
		return hd_fail(HD_E_DATA, "%zu bytes are no safetensors file", out->map_bytes);
	for (int i = 0; i < HEADER_LENGTH_BYTES; i++)
		length |= (uint64_t)file[i] << (8 * i);
	if (length > HEADER_MAX_BYTES || length > out->map_bytes - HEADER_LENGTH_BYTES)
		return hd_fail(HD_E_DATA, "header of %llu bytes in a file of %zu: truncated, or no safetensors file",
		        (unsigned long long)length, out->map_bytes);
	json_error_t error;
	json_t *header = json_loadb((const char *)file + HEADER_LENGTH_BYTES, length, JSON_REJECT_DUPLICATES, &error);
	if (!header)
		return hd_fail(HD_E_DATA, "header: %s", error.text);
	hd_status st = HD_OK;
	if (!json_is_object(header))
		st = hd_fail(HD_E_DATA, "header: no JSON object");
	if (st == HD_OK)
		st = parse_header(out, header, file + HEADER_LENGTH_BYTES + length,
		        out->map_bytes - HEADER_LENGTH_BYTES - length);
	json_decref(header);
	return st == HD_OK && verify ? verify_checksums(out) : st;
}

hd_status hd_safetensors_open(hd_safetensors *out, const char *path, bool verify)
{
	const void *map;
	*out = (hd_safetensors){0};
	hd_status st = hd_file_map(&map, &out->map_bytes, path);
	if (st != HD_OK)
		return st;
	out->map = (void *)map;
	st = parse(out, verify);
	if (st != HD_OK) {
		hd_context(st, "%s", path);
		hd_safetensors_close(out);
	}
	return st;
}

void hd_safetensors_close(hd_safetensors *file)
{
	if (!file)
		return;
	for (size_t i = 0; i < file->metadata_count; i++) {
		free(file->metadata[i].value);
		free(file->metadata[i].key);
	}
	free(file->metadata);
	for (size_t i = 0; i < file->tensor_count; i++)
		free(file->tensors[i].name);
	free(file->tensors);
	hd_file_unmap(file->map, file->map_bytes);
	*file = (hd_safetensors){0};
}

const hd_tensor *hd_safetensors_find(const hd_safetensors *file, const char *name)
{
	for (size_t i = 0; i < file->tensor_count; i++)
		if (!strcmp(file->tensors[i].name, name))
			return &file->tensors[i];
	return NULL;
}

const char *hd_safetensors_metadata(const hd_safetensors *file, const char *key)
{
	for (size_t i = 0; i < file->metadata_count; i++)
		if (!strcmp(file->metadata[i].key, key))
			return file->metadata[i].value;
	return NULL;
}

/* ---- writing ---- */

static json_t *tensor_json(const hd_tensor *t, size_t offset)
{
	json_t *shape = json_array();
	for (int d = 0; d < t->ndim; d++)
		json_array_append_new(shape, json_integer(t->shape[d]));
	const char *dtype = "";
	for (size_t i = 0; i < DTYPE_COUNT; i++)
		if (dtypes[i].dtype == t->dtype)
			dtype = dtypes[i].name;
	return json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype, "shape", shape, "data_offsets", (json_int_t)offset,
	        (json_int_t)offset + (json_int_t)t->bytes);
}

/* Adds to an object; HD_E_FAILED for a key that is there or text that is no UTF-8, which JSON cannot hold. */
static hd_status add_new(json_t *object, const char *key, json_t *value)
{
	if (json_object_get(object, key)) {
		json_decref(value);
		return hd_fail(HD_E_FAILED, "'%s' is there twice", key);
	}
	if (json_object_set_new(object, key, value) != 0)
		return hd_fail(HD_E_FAILED, "'%s' is not valid UTF-8, or host memory is out", key);
	return HD_OK;
}

static hd_status header_json(json_t **out, const hd_tensor *tensors, const uint32_t *checksums, size_t tensor_count,
        const hd_metadata *metadata, size_t metadata_count)
{
	hd_status st = HD_OK;
	json_t *header = json_object(), *meta = json_object();
	size_t offset = 0;
	*out = header;
	HD_TRY(add_new(header, METADATA_KEY, json_incref(meta)));
	for (size_t i = 0; i < metadata_count; i++)
		HD_TRY(add_new(meta, metadata[i].key, json_string(metadata[i].value)));
	for (size_t i = 0; i < tensor_count; i++) {
		char crc[16], *key;
		HD_TRY(hd_sprintf(&key, CHECKSUM_PREFIX "%s", tensors[i].name));
		snprintf(crc, sizeof crc, "%08x", checksums[i]);
		st = add_new(meta, key, json_string(crc));
		free(key);
		if (st != HD_OK)
			goto done;
	}
	for (size_t i = 0; i < tensor_count; offset += tensors[i++].bytes)
		HD_TRY(add_new(header, tensors[i].name, tensor_json(&tensors[i], offset)));
done:
	json_decref(meta);
	return st;
}

/* Length and header, padded to 8 bytes; its size does not depend on the checksums. *out is owned. */
static hd_status make_header(char **out, size_t *bytes, const hd_tensor *tensors, const uint32_t *checksums,
        size_t tensor_count, const hd_metadata *metadata, size_t metadata_count)
{
	hd_status st;
	json_t *header = NULL;
	char *text = NULL;
	HD_TRY(header_json(&header, tensors, checksums, tensor_count, metadata, metadata_count));
	text = json_dumps(header, JSON_COMPACT);
	if (!text) {
		st = hd_fail(HD_E_MEMORY, "out of host memory for the header");
		goto done;
	}
	size_t whole = (strlen(text) + 7) / 8 * 8;
	if (whole > HEADER_MAX_BYTES) {
		st = hd_fail(HD_E_FAILED, "a header of %zu bytes is too long", whole);
		goto done;
	}
	*bytes = HEADER_LENGTH_BYTES + whole;
	HD_TRY(hd_alloc(out, *bytes + 1, 1));
	for (int i = 0; i < HEADER_LENGTH_BYTES; i++)
		(*out)[i] = (char)(whole >> (8 * i));
	snprintf(*out + HEADER_LENGTH_BYTES, whole + 1, "%-*s", (int)whole, text);
done:
	free(text);
	json_decref(header);
	return st;
}

static hd_status append_tensors(hd_new_file *file, const hd_tensor *tensors, uint32_t *checksums, size_t count,
        hd_tensor_fetch fetch, void *context)
{
	hd_status st = HD_OK;
	char *buffer = NULL;
	size_t largest = 0;
	for (size_t i = 0; i < count; i++)
		largest = tensors[i].bytes > largest ? tensors[i].bytes : largest;
	if (fetch)
		HD_TRY(hd_alloc(&buffer, largest, 1));
	for (size_t i = 0; i < count; i++) {
		const void *data = fetch ? buffer : tensors[i].data;
		if (fetch)
			HD_TRY(fetch(context, i, buffer));
		if (fetch)
			checksums[i] = crc32_of(data, tensors[i].bytes);
		HD_TRY(hd_new_file_append(file, data, tensors[i].bytes));
	}
done:
	free(buffer);
	return st;
}

/* The checksums stand before the data; of data that are fetched they are known after: the header is written twice. */
hd_status hd_safetensors_write_fetched(const char *path, const hd_tensor *tensors, size_t tensor_count,
        const hd_metadata *metadata, size_t metadata_count, hd_tensor_fetch fetch, void *context)
{
	hd_status st;
	hd_new_file file = {.fd = -1};
	uint32_t *checksums = NULL;
	char *header = NULL;
	size_t bytes = 0;
	HD_TRY(hd_alloc(&checksums, tensor_count, sizeof *checksums));
	for (size_t i = 0; i < tensor_count && !fetch; i++)
		checksums[i] = crc32_of(tensors[i].data, tensors[i].bytes);
	st = make_header(&header, &bytes, tensors, checksums, tensor_count, metadata, metadata_count);
	if (st != HD_OK) {
		hd_context(st, "%s", path);
		goto done;
	}
	HD_TRY(hd_new_file_open(&file, path));
	HD_TRY(hd_new_file_append(&file, header, bytes));
	HD_TRY(append_tensors(&file, tensors, checksums, tensor_count, fetch, context));
	if (fetch) {
		free(header);
		header = NULL;
		HD_TRY(make_header(&header, &bytes, tensors, checksums, tensor_count, metadata, metadata_count));
		HD_TRY(hd_new_file_rewrite(&file, header, bytes));
	}
	HD_TRY(hd_new_file_commit(&file, 1));
done:
	hd_new_file_close(&file);
	free(header);
	free(checksums);
	return st;
}

hd_status hd_safetensors_write(const char *path, const hd_tensor *tensors, size_t tensor_count,
        const hd_metadata *metadata, size_t metadata_count)
{
	return hd_safetensors_write_fetched(path, tensors, tensor_count, metadata, metadata_count, NULL, NULL);
}
