/* SPDX-License-Identifier: Apache-2.0 */
#include "host/model/torch_file.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

#include "host/common/memory.h"
#include "host/model/pickle.h"

#define NAME_LENGTH_MAX 512
#define PICKLE_ENTRY "data.pkl"
/* Tensors may share a storage (tied weights); together they may not grow beyond this many times the file. */
#define SHARING_MAX 4
#define SHARING_FREE_BYTES (1u << 20)

static const struct {
	const char *name;
	const char *storage;
	size_t bytes;
} dtypes[HD_TORCH_DTYPE_COUNT] = {
#define X(name, storage, bytes) {#name, storage, bytes},
        HD_TORCH_DTYPES(X)
#undef X
};

size_t hd_torch_dtype_bytes(hd_torch_dtype dtype)
{
	return dtypes[dtype].bytes;
}

const char *hd_torch_dtype_name(hd_torch_dtype dtype)
{
	return dtypes[dtype].name;
}

typedef struct reader {
	hd_torch_file *out;
	zip_t *zip;
	uint64_t file_bytes;
	char prefix[NAME_LENGTH_MAX]; /* of all entries, "archive/" */
	unsigned char *pickle_bytes;
	hd_pickle pickle;
	/* the storage read last */
	char *storage_name;
	unsigned char *storage;
	size_t storage_bytes;
	uint64_t tensor_bytes; /* of all tensors so far */
} reader;

/* ---- what kind of file ---- */

static const unsigned char zip_magic[] = {'P', 'K', 3, 4};
/* protocol 2, then a long: how torch.save's own magic number begins before PyTorch 1.6 */
static const unsigned char old_magic[] = {0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20};
#define TAR_MAGIC_AT 257

static size_t read_start(const char *path, unsigned char *bytes, size_t count)
{
	FILE *f = fopen(path, "rb");
	size_t got = f ? fread(bytes, 1, count, f) : 0;
	if (f)
		fclose(f);
	return got;
}

static bool is_old(const unsigned char *start, size_t n)
{
	return (n >= sizeof old_magic && !memcmp(start, old_magic, sizeof old_magic)) ||
	       (n >= TAR_MAGIC_AT + 5 && !memcmp(start + TAR_MAGIC_AT, "ustar", 5));
}

int hd_torch_looks_like(const char *path)
{
	unsigned char start[512];
	size_t n = read_start(path, start, sizeof start);
	return is_old(start, n) || (n >= sizeof zip_magic && !memcmp(start, zip_magic, sizeof zip_magic));
}

static hd_status check_kind(const char *path)
{
	unsigned char start[512];
	FILE *f = fopen(path, "rb");
	if (!f)
		return hd_fail(HD_E_IO, "cannot open: %m");
	fclose(f);
	size_t n = read_start(path, start, sizeof start);
	if (is_old(start, n))
		return hd_fail(HD_E_DATA, "written in PyTorch's format from before 1.6, which is not read here. Write "
		                          "it again with Python: "
		                          "torch.save(torch.load('old.pth', map_location='cpu'), 'new.pth')");
	if (n < sizeof zip_magic || memcmp(start, zip_magic, sizeof zip_magic) != 0)
		return hd_fail(HD_E_DATA, "no zip archive, so no file of torch.save since PyTorch 1.6");
	return HD_OK;
}

/* ---- the archive ---- */

static hd_status open_zip(reader *r, const char *path)
{
	int code = 0;
	r->zip = zip_open(path, ZIP_RDONLY, &code);
	if (!r->zip) {
		zip_error_t error;
		zip_error_init_with_code(&error, code);
		hd_fail(HD_E_DATA, "damaged or cut off: %s", zip_error_strerror(&error));
		zip_error_fini(&error);
		return HD_E_DATA;
	}
	FILE *f = fopen(path, "rb");
	if (f && fseeko(f, 0, SEEK_END) == 0)
		r->file_bytes = (uint64_t)ftello(f);
	if (f)
		fclose(f);
	return HD_OK;
}

/* The folder that holds data.pkl is the prefix of every entry. */
static hd_status find_prefix(reader *r)
{
	zip_int64_t count = zip_get_num_entries(r->zip, 0);
	const size_t wanted = strlen(PICKLE_ENTRY);
	for (zip_int64_t i = 0; i < count; i++) {
		const char *name = zip_get_name(r->zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
		size_t n = name ? strlen(name) : 0;
		if (n < wanted || n >= NAME_LENGTH_MAX || strcmp(name + n - wanted, PICKLE_ENTRY) != 0)
			continue;
		if (n > wanted && name[n - wanted - 1] != '/')
			continue;
		snprintf(r->prefix, sizeof r->prefix, "%.*s", (int)(n - wanted), name);
		return HD_OK;
	}
	return hd_fail(HD_E_DATA, "a zip archive of %lld entries without " PICKLE_ENTRY ": not written by torch.save",
	        (long long)count);
}

/* A whole entry. Stored as it is, so that its size is bounded by the file's. */
static hd_status read_entry(reader *r, const char *name, unsigned char **out, size_t *bytes)
{
	hd_status st = HD_OK;
	zip_stat_t stat;
	zip_file_t *file = NULL;
	unsigned char extra;
	*out = NULL;
	zip_int64_t index = zip_name_locate(r->zip, name, ZIP_FL_ENC_RAW);
	if (index < 0 || zip_stat_index(r->zip, (zip_uint64_t)index, 0, &stat) != 0)
		return hd_fail(HD_E_DATA, "it has no entry %s", name);
	const zip_uint64_t needed = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
	if ((stat.valid & needed) != needed || stat.comp_method != ZIP_CM_STORE || stat.size != stat.comp_size)
		return hd_fail(HD_E_DATA, "entry %s is compressed, as torch.save never does", name);
	if (stat.size > r->file_bytes)
		return hd_fail(HD_E_DATA, "entry %s of %llu bytes is larger than the file", name,
		        (unsigned long long)stat.size);
	*bytes = (size_t)stat.size;
	file = zip_fopen_index(r->zip, (zip_uint64_t)index, 0);
	if (!file)
		return hd_fail(HD_E_DATA, "entry %s: %s", name, zip_strerror(r->zip));
	HD_TRY(hd_alloc(out, *bytes, 1));
	/* the read behind the end makes libzip compare the checksum */
	if (zip_fread(file, *out, stat.size) != (zip_int64_t)stat.size || zip_fread(file, &extra, 1) != 0)
		st = hd_fail(HD_E_DATA, "entry %s is damaged: %s", name, zip_file_strerror(file));
done:
	if (file)
		zip_fclose(file);
	if (st != HD_OK) {
		free(*out);
		*out = NULL;
	}
	return st;
}

static hd_status read_pickle(reader *r)
{
	hd_status st;
	char *name = NULL;
	unsigned char *order = NULL;
	size_t bytes = 0;
	HD_TRY(hd_sprintf(&name, "%sbyteorder", r->prefix));
	if (zip_name_locate(r->zip, name, ZIP_FL_ENC_RAW) >= 0) {
		HD_TRY(read_entry(r, name, &order, &bytes));
		if (!order || bytes != 6 || memcmp(order, "little", 6) != 0) {
			st = hd_fail(HD_E_DATA, "its numbers are not little-endian: write it again on another machine");
			goto done;
		}
	}
	free(name);
	name = NULL;
	HD_TRY(hd_sprintf(&name, "%s" PICKLE_ENTRY, r->prefix));
	HD_TRY(read_entry(r, name, &r->pickle_bytes, &bytes));
	HD_TRY(hd_pickle_read(&r->pickle, r->pickle_bytes, bytes));
done:
	free(order);
	free(name);
	return st;
}

/* ---- tensors ---- */

static hd_status read_sizes(const hd_pickle_value *tuple, int64_t *sizes, int *count)
{
	if ((tuple->kind != HD_PICKLE_TUPLE && tuple->kind != HD_PICKLE_LIST) || tuple->count > HD_TENSOR_DIMS)
		return hd_fail(HD_E_DATA, "no sizes or strides of up to %d dimensions", HD_TENSOR_DIMS);
	*count = (int)tuple->count;
	for (size_t d = 0; d < tuple->count; d++) {
		sizes[d] = tuple->items[d]->integer;
		if (tuple->items[d]->kind != HD_PICKLE_INT || sizes[d] < 0)
			return hd_fail(HD_E_DATA, "size or stride %zu is no number from 0", d);
	}
	return HD_OK;
}

/* Makes the storage of a tensor the one read last, and its dtype and element count known. */
static hd_status read_storage(reader *r, const hd_pickle_value *s, hd_torch_dtype *dtype, int64_t *elements)
{
	hd_status st;
	char *name = NULL, what[256];
	int d = 0;
	if (s->kind != HD_PICKLE_STORAGE || s->count < 5 || s->items[2]->kind != HD_PICKLE_TEXT ||
	        s->items[4]->kind != HD_PICKLE_INT || s->items[4]->integer < 0 || s->items[2]->text_length > 64)
		return hd_fail(HD_E_DATA, "its storage is not described as torch.save does");
	while (d < HD_TORCH_DTYPE_COUNT && !hd_pickle_is_global(s->items[1], "torch", dtypes[d].storage))
		d++;
	if (d == HD_TORCH_DTYPE_COUNT)
		return hd_fail(HD_E_DATA, "its storage is of %s, which this program does not read",
		        hd_pickle_describe(s->items[1], what, sizeof what));
	*dtype = (hd_torch_dtype)d;
	*elements = s->items[4]->integer;
	HD_TRY(hd_sprintf(&name, "%sdata/%.*s", r->prefix, (int)s->items[2]->text_length, s->items[2]->text));
	if (!r->storage_name || strcmp(name, r->storage_name) != 0) {
		free(r->storage);
		free(r->storage_name);
		r->storage = NULL;
		r->storage_name = NULL;
		HD_TRY(read_entry(r, name, &r->storage, &r->storage_bytes));
		r->storage_name = name;
		name = NULL;
	}
	if ((uint64_t)*elements > r->storage_bytes / dtypes[d].bytes)
		st = hd_fail(HD_E_DATA, "entry %s holds %zu bytes, want %lld elements of %zu", r->storage_name,
		        r->storage_bytes, (long long)*elements, dtypes[d].bytes);
done:
	free(name);
	return st;
}

/* Elements of the shape, and that the last one lies inside the storage. */
static hd_status check_extent(const hd_torch_tensor *t, const int64_t *strides, int64_t offset, int64_t stored,
        size_t *elements, bool *contiguous)
{
	int64_t last = offset, count = 1, step, plain = 1;
	bool inside = offset >= 0, empty = false;
	for (int d = 0; d < t->ndim; d++)
		empty |= t->shape[d] == 0;
	*contiguous = true;
	for (int d = t->ndim - 1; d >= 0 && !empty && inside; d--) {
		inside = !__builtin_mul_overflow(t->shape[d] - 1, strides[d], &step) &&
		         !__builtin_add_overflow(last, step, &last) &&
		         !__builtin_mul_overflow(count, t->shape[d], &count);
		*contiguous &= t->shape[d] == 1 || strides[d] == plain;
		plain = count;
	}
	*elements = empty ? 0 : (size_t)count;
	if (!inside || (!empty && (last >= stored || count > stored)))
		return hd_fail(HD_E_DATA, "its shape, strides and offset reach beyond the %lld elements of its storage",
		        (long long)stored);
	return HD_OK;
}

/* Elements in the order of the shape out of wherever the strides put them. */
static void gather(
        hd_torch_tensor *t, const unsigned char *storage, const int64_t *strides, int64_t offset, size_t elements)
{
	int64_t index[HD_TENSOR_DIMS] = {0}, at = offset;
	size_t size = dtypes[t->dtype].bytes;
	for (size_t i = 0; i < elements; i++) {
		memcpy((unsigned char *)t->data + i * size, storage + (size_t)at * size, size);
		for (int d = t->ndim - 1; d >= 0; d--) {
			at += strides[d];
			if (++index[d] < t->shape[d])
				break;
			at -= index[d] * strides[d];
			index[d] = 0;
		}
	}
}

static hd_status read_tensor(reader *r, hd_torch_tensor *t, const hd_pickle_value *v)
{
	hd_status st;
	int64_t strides[HD_TENSOR_DIMS] = {0}, offset, stored = 0;
	int stride_count = 0;
	size_t elements = 0;
	bool contiguous = false;
	if (v->count < 4 || v->items[1]->kind != HD_PICKLE_INT)
		return hd_fail(HD_E_DATA, "it is not described as torch.save does");
	offset = v->items[1]->integer;
	HD_TRY(read_sizes(v->items[2], t->shape, &t->ndim));
	HD_TRY(read_sizes(v->items[3], strides, &stride_count));
	if (t->ndim != stride_count)
		return hd_fail(HD_E_DATA, "%d sizes and %d strides", t->ndim, stride_count);
	HD_TRY(read_storage(r, v->items[0], &t->dtype, &stored));
	HD_TRY(check_extent(t, strides, offset, stored, &elements, &contiguous));
	t->bytes = elements * dtypes[t->dtype].bytes;
	r->tensor_bytes += t->bytes;
	if (r->tensor_bytes > SHARING_MAX * r->file_bytes + SHARING_FREE_BYTES)
		return hd_fail(HD_E_DATA, "the tensors together are more than %d times the file", SHARING_MAX);
	HD_TRY(hd_alloc(&t->data, t->bytes, 1));
	if (contiguous && elements)
		memcpy(t->data, r->storage + (size_t)offset * dtypes[t->dtype].bytes, t->bytes);
	else
		gather(t, r->storage, strides, offset, elements);
done:
	return st;
}

static hd_status copy_name(char **out, const hd_pickle_value *key)
{
	if (key->text_length == 0 || key->text_length > NAME_LENGTH_MAX)
		return hd_fail(HD_E_DATA, "a tensor's name of %zu bytes", key->text_length);
	for (size_t i = 0; i < key->text_length; i++)
		if ((unsigned char)key->text[i] < 0x20 || key->text[i] == 0x7f)
			return hd_fail(HD_E_DATA, "a tensor's name with control characters");
	return hd_sprintf(out, "%.*s", (int)key->text_length, key->text);
}

/* One entry of a state dictionary; plain values are passed over. */
static hd_status read_item(reader *r, const hd_pickle_value *key, const hd_pickle_value *v)
{
	hd_status st;
	hd_torch_file *out = r->out;
	char what[256];
	if (key->kind != HD_PICKLE_TEXT || (v->kind != HD_PICKLE_TENSOR && v->kind != HD_PICKLE_OPAQUE))
		return HD_OK;
	HD_TRY(hd_grow(&out->tensors, &out->capacity, out->count + 1, sizeof *out->tensors));
	hd_torch_tensor *t = &out->tensors[out->count++];
	HD_TRY(copy_name(&t->name, key));
	if (v->kind == HD_PICKLE_OPAQUE) {
		st = hd_fail(HD_E_DATA, "tensor %s: made by %s, which is never called: refused", t->name,
		        hd_pickle_describe(v, what, sizeof what));
		goto done;
	}
	st = read_tensor(r, t, v);
	if (st != HD_OK)
		hd_context(st, "tensor %s", t->name);
done:
	return st;
}

/* ---- the object tree ---- */

static void list_others(hd_torch_file *out, const hd_pickle_value *root)
{
	for (size_t i = 0; i + 1 < root->count; i += 2) {
		const hd_pickle_value *key = root->items[i];
		size_t used = strlen(out->others), n = key->text_length;
		if (key->kind != HD_PICKLE_TEXT ||
		        (n == strlen(out->container) && !memcmp(key->text, out->container, n)))
			continue;
		snprintf(out->others + used, sizeof out->others - used, "%s%.*s", used ? ", " : "",
		        (int)(n < 60 ? n : 60), key->text);
	}
	for (char *c = out->others; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
}

static hd_status find_container(reader *r, const hd_pickle_value **found)
{
	static const char *const containers[] = {
	        "state_dict", "model", "model_state", "model_state_dict", "model_ema", "state_dict_ema"};
	const hd_pickle_value *root = r->pickle.root;
	char what[256];
	r->out->container = "";
	if (root->kind != HD_PICKLE_DICT)
		return hd_fail(HD_E_DATA,
		        "it holds %s, no dictionary of tensors: write it with torch.save(model.state_dict(), "
		        "'new.pth')",
		        hd_pickle_describe(root, what, sizeof what));
	*found = root;
	for (size_t i = 0; i < sizeof containers / sizeof *containers; i++) {
		const hd_pickle_value *v = hd_pickle_get(root, containers[i]);
		if (v && v->kind == HD_PICKLE_OPAQUE)
			return hd_fail(HD_E_DATA,
			        "its entry %s is %s, no dictionary of tensors: keep model.state_dict() there",
			        containers[i], hd_pickle_describe(v, what, sizeof what));
		if (!v || v->kind != HD_PICKLE_DICT)
			continue;
		*found = v;
		r->out->container = containers[i];
		list_others(r->out, root);
		break;
	}
	return HD_OK;
}

static hd_status read_all(reader *r, const char *path)
{
	hd_status st;
	const hd_pickle_value *container = NULL;
	HD_TRY(check_kind(path));
	HD_TRY(open_zip(r, path));
	HD_TRY(find_prefix(r));
	HD_TRY(read_pickle(r));
	HD_TRY(find_container(r, &container));
	for (size_t i = 0; container && i + 1 < container->count; i += 2)
		HD_TRY(read_item(r, container->items[i], container->items[i + 1]));
	if (!r->out->count)
		st = hd_fail(HD_E_DATA, "it holds no tensor");
done:
	return st;
}

hd_status hd_torch_open(hd_torch_file *out, const char *path)
{
	*out = (hd_torch_file){.container = ""};
	reader r = {.out = out};
	hd_status st = read_all(&r, path);
	if (st != HD_OK) {
		hd_context(st, "%s", path);
		hd_torch_close(out);
	}
	free(r.storage);
	free(r.storage_name);
	hd_pickle_free(&r.pickle);
	free(r.pickle_bytes);
	if (r.zip)
		zip_discard(r.zip);
	return st;
}

void hd_torch_close(hd_torch_file *file)
{
	if (!file)
		return;
	for (size_t i = 0; i < file->count; i++) {
		free(file->tensors[i].data);
		free(file->tensors[i].name);
	}
	free(file->tensors);
	*file = (hd_torch_file){.container = ""};
}
