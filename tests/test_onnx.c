/* SPDX-License-Identifier: Apache-2.0 */
/* The ONNX writer, by what protobuf-c reads from its files. What the models compute: onnx_models.sh. */
#include <dirent.h>
#include <string.h>

#include "host/common/file.h"
#include "host/common/version.h"
#include "host/export/network.h"
#include "onnx/onnx.pb-c.h"
#include "tests/folder.h"

TestSuite(onnx, .init = start, .fini = stop);

enum { BIG = 3000, SMALL = 4 };
static float values[BIG];

static void fill_values(void)
{
	for (int i = 0; i < BIG; i++)
		values[i] = (float)i * 0.5f - 7;
}

/* Bytes of a file, in memory of their own. */
static uint8_t *slurp(const char *path, size_t *bytes)
{
	const void *data;
	cr_assert_eq(hd_file_map(&data, bytes, path), HD_OK, "%s", hd_error_text());
	uint8_t *copy = malloc(*bytes + 1);
	memcpy(copy, data, *bytes);
	hd_file_unmap(data, *bytes);
	return copy;
}

static Onnx__ModelProto *read_model(const char *path)
{
	size_t bytes;
	uint8_t *data = slurp(path, &bytes);
	Onnx__ModelProto *model = onnx__model_proto__unpack(NULL, bytes, data);
	cr_assert_not_null(model, "%s is no model", path);
	free(data);
	return model;
}

static void free_model(Onnx__ModelProto *model)
{
	onnx__model_proto__free_unpacked(model, NULL);
}

static hd_onnx *new_graph(int opset)
{
	hd_onnx *g;
	cr_assert_eq(hd_onnx_create(&g, opset, "test"), HD_OK, "%s", hd_error_text());
	return g;
}

static hd_status reverse(void *out, const void *source)
{
	const float *from = source;
	float *to = out;
	for (int i = 0; i < BIG; i++)
		to[i] = from[BIG - 1 - i];
	return HD_OK;
}

static hd_status fail_to_fill(void *out, const void *source)
{
	(void)out;
	(void)source;
	return hd_fail(HD_E_DATA, "no such bytes");
}

static const hd_onnx_dim row[] = {{.name = "N"}, {.size = BIG}};

/* x (N,BIG) times a filled weight plus a mapped, a small one and a constant. */
static hd_onnx *some_graph(int opset, const void *mapped)
{
	hd_onnx *g = new_graph(opset);
	hd_onnx_value x = hd_onnx_input(g, "x", HD_ONNX_F32, 2, row);
	hd_onnx_scope(g, "part/");
	x = HD_ONNX_NODE(g, "Mul", x,
	        hd_onnx_weight(g, "filled",
	                &(hd_onnx_tensor){
	                        .type = HD_ONNX_F32, .ndim = 1, .shape = {BIG}, .fill = reverse, .source = values}));
	x = HD_ONNX_NODE(g, "Add", x,
	        hd_onnx_weight(g, "mapped",
	                &(hd_onnx_tensor){
	                        .type = HD_ONNX_F32, .ndim = 1, .shape = {BIG}, .data = mapped, .mapped = true}));
	HD_ONNX_NODE(g, "Add", x,
	        hd_onnx_weight(g, "small",
	                &(hd_onnx_tensor){.type = HD_ONNX_I8, .ndim = 2, .shape = {2, SMALL / 2}, .data = "\1\2\3\4"}));
	x = HD_ONNX_NODE(g, "Mul", x, hd_onnx_f32(g, 0.25f));
	hd_onnx_output(g, x, "y", HD_ONNX_F32, 2, row);
	return g;
}

static const Onnx__TensorProto *tensor_of(const Onnx__ModelProto *m, const char *name)
{
	for (size_t i = 0; i < m->graph->n_initializer; i++)
		if (!strcmp(m->graph->initializer[i]->name, name))
			return m->graph->initializer[i];
	cr_assert_fail("no tensor %s", name);
	return NULL;
}

static void expect_bytes(const void *got, size_t got_bytes, const void *want, size_t bytes, const char *what)
{
	cr_assert_eq(got_bytes, bytes, "%s: %zu bytes, want %zu", what, got_bytes, bytes);
	cr_assert(!memcmp(got, want, bytes), "%s: other bytes", what);
}

static const void *map_values(void)
{
	const void *data;
	size_t bytes;
	fill_values();
	cr_assert_eq(hd_file_write(file_in("values"), &(hd_span){values, sizeof values}, 1, 0), HD_OK);
	cr_assert_eq(hd_file_map(&data, &bytes, file_in("values")), HD_OK);
	return data;
}

Test(onnx, opsets_that_cannot_be)
{
	hd_onnx *g;
	for (int opset = HD_ONNX_OPSET_MIN - 1; opset <= HD_ONNX_OPSET_MAX + 1;
	        opset += HD_ONNX_OPSET_MAX - HD_ONNX_OPSET_MIN + 2) {
		cr_assert_eq(hd_onnx_create(&g, opset, "test"), HD_E_USAGE);
		cr_assert_null(g);
	}
}

/* ONNX, docs/Versioning.md. */
Test(onnx, versions)
{
	static const int ir[] = {7, 8, 8, 8, 8, 9, 9};
	for (int opset = HD_ONNX_OPSET_MIN; opset <= HD_ONNX_OPSET_MAX; opset++) {
		hd_onnx *g = new_graph(opset);
		cr_assert_eq(hd_onnx_opset(g), opset);
		hd_onnx_output(g, hd_onnx_input(g, "x", HD_ONNX_F32, 2, row), "y", HD_ONNX_F32, 2, row);
		hd_onnx_metadata(g, "key", "a value");
		cr_assert_eq(hd_onnx_write(g, file_in("m.onnx"), HD_ONNX_EXTERNAL_AUTO), HD_OK, "%s", hd_error_text());
		hd_onnx_free(g);
		Onnx__ModelProto *m = read_model(file_in("m.onnx"));
		cr_assert_eq(m->ir_version, ir[opset - HD_ONNX_OPSET_MIN]);
		cr_assert_eq(m->n_opset_import, 1);
		cr_assert_eq(m->opset_import[0]->version, opset);
		cr_assert_str_eq(m->producer_name, "heimdall");
		cr_assert_str_eq(m->producer_version, hd_version);
		cr_assert_eq(m->n_metadata_props, 1);
		cr_assert_str_eq(m->metadata_props[0]->key, "key");
		cr_assert_str_eq(m->metadata_props[0]->value, "a value");
		free_model(m);
	}
}

Test(onnx, weights_in_the_file)
{
	const void *mapped = map_values();
	float reversed[BIG];
	reverse(reversed, values);
	hd_onnx *g = some_graph(17, mapped);
	/* a graph may be written again */
	for (int i = 0; i < 2; i++)
		cr_assert_eq(hd_onnx_write(g, file_in("m.onnx"), HD_ONNX_EXTERNAL_AUTO), HD_OK, "%s", hd_error_text());
	hd_onnx_free(g);
	Onnx__ModelProto *m = read_model(file_in("m.onnx"));
	const Onnx__TensorProto *t = tensor_of(m, "filled");
	expect_bytes(t->raw_data.data, t->raw_data.len, reversed, sizeof reversed, "filled");
	t = tensor_of(m, "mapped");
	expect_bytes(t->raw_data.data, t->raw_data.len, values, sizeof values, "mapped");
	t = tensor_of(m, "small");
	expect_bytes(t->raw_data.data, t->raw_data.len, "\1\2\3\4", SMALL, "small");
	cr_assert_eq(t->data_type, ONNX__TENSOR_PROTO__DATA_TYPE__INT8);
	cr_assert_eq(t->n_dims, 2);
	cr_assert(t->dims[0] == 2 && t->dims[1] == 2);
	free_model(m);
	/* pages that were let go of come back */
	cr_assert(!memcmp(mapped, values, sizeof values));
	hd_file_unmap(mapped, sizeof values);
}

static long entry_of(const Onnx__TensorProto *t, const char *key)
{
	for (size_t i = 0; i < t->n_external_data; i++)
		if (!strcmp(t->external_data[i]->key, key))
			return atol(t->external_data[i]->value);
	cr_assert_fail("%s: no %s", t->name, key);
	return 0;
}

Test(onnx, weights_beside_the_file)
{
	const void *mapped = map_values();
	float reversed[BIG];
	reverse(reversed, values);
	hd_onnx *g = some_graph(17, mapped);
	/* over a file that has its weights inside, then over one that has them beside */
	cr_assert_eq(hd_onnx_write(g, file_in("m.onnx"), HD_ONNX_EXTERNAL_NEVER), HD_OK, "%s", hd_error_text());
	for (int i = 0; i < 2; i++)
		cr_assert_eq(
		        hd_onnx_write(g, file_in("m.onnx"), HD_ONNX_EXTERNAL_ALWAYS), HD_OK, "%s", hd_error_text());
	hd_onnx_free(g);
	Onnx__ModelProto *m = read_model(file_in("m.onnx"));
	size_t bytes;
	uint8_t *beside = slurp(file_in("m.onnx.data"), &bytes);
	const struct {
		const char *name;
		const float *want;
	} expected[] = {{"filled", reversed}, {"mapped", values}};
	for (int i = 0; i < 2; i++) {
		const Onnx__TensorProto *t = tensor_of(m, expected[i].name);
		long offset = entry_of(t, "offset");
		cr_assert_eq(t->data_location, ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL);
		cr_assert_str_eq(t->external_data[0]->value, "m.onnx.data");
		cr_assert_eq(t->raw_data.len, 0);
		cr_assert_eq(offset % 65536, 0, "offset %ld", offset);
		cr_assert_leq(offset + entry_of(t, "length"), (long)bytes);
		expect_bytes(beside + offset, (size_t)entry_of(t, "length"), expected[i].want, sizeof values, t->name);
	}
	const Onnx__TensorProto *t = tensor_of(m, "small");
	cr_assert_eq(t->data_location, ONNX__TENSOR_PROTO__DATA_LOCATION__DEFAULT);
	expect_bytes(t->raw_data.data, t->raw_data.len, "\1\2\3\4", SMALL, "small");
	free(beside);
	free_model(m);
	hd_file_unmap(mapped, sizeof values);
}

/* Of several megabytes, which go to the file piece by piece; beside the file and then inside. */
Test(onnx, a_big_mapped_weight)
{
	const int64_t count = (9 << 18) + 5;
	size_t bytes, all = (size_t)count * sizeof(float);
	const void *mapped;
	float *big = malloc(all);
	for (int64_t i = 0; i < count; i++)
		big[i] = (float)i;
	cr_assert_eq(hd_file_write(file_in("values"), &(hd_span){big, all}, 1, 0), HD_OK);
	cr_assert_eq(hd_file_map(&mapped, &bytes, file_in("values")), HD_OK);
	hd_onnx *g = new_graph(17);
	hd_onnx_weight(g, "w",
	        &(hd_onnx_tensor){.type = HD_ONNX_F32, .ndim = 1, .shape = {count}, .data = mapped, .mapped = true});
	cr_assert_eq(hd_onnx_write(g, file_in("m.onnx"), HD_ONNX_EXTERNAL_ALWAYS), HD_OK, "%s", hd_error_text());
	uint8_t *beside = slurp(file_in("m.onnx.data"), &bytes);
	expect_bytes(beside, bytes, big, all, "beside");
	cr_assert_eq(hd_onnx_write(g, file_in("m.onnx"), HD_ONNX_EXTERNAL_NEVER), HD_OK, "%s", hd_error_text());
	Onnx__ModelProto *m = read_model(file_in("m.onnx"));
	const Onnx__TensorProto *t = tensor_of(m, "w");
	expect_bytes(t->raw_data.data, t->raw_data.len, big, all, "inside");
	cr_assert_eq(t->n_external_data, 0);
	cr_assert_eq(t->data_location, ONNX__TENSOR_PROTO__DATA_LOCATION__DEFAULT);
	free_model(m);
	hd_onnx_free(g);
	free(beside);
	free(big);
	hd_file_unmap(mapped, all);
}

static int files_in_folder(void)
{
	int count = 0;
	DIR *dir = opendir(folder);
	for (struct dirent *e; (e = readdir(dir));)
		count += e->d_name[0] != '.';
	closedir(dir);
	return count;
}

Test(onnx, a_failure_leaves_the_old_file)
{
	size_t bytes, bytes_after;
	for (int beside = 0; beside < 2; beside++) {
		hd_onnx_external external = beside ? HD_ONNX_EXTERNAL_ALWAYS : HD_ONNX_EXTERNAL_NEVER;
		hd_onnx *g = new_graph(17);
		hd_onnx_value x = hd_onnx_input(g, "x", HD_ONNX_F32, 2, row);
		hd_onnx_output(g, x, "y", HD_ONNX_F32, 2, row);
		cr_assert_eq(hd_onnx_write(g, file_in("m.onnx"), HD_ONNX_EXTERNAL_NEVER), HD_OK);
		uint8_t *before = slurp(file_in("m.onnx"), &bytes);
		hd_onnx_weight(g, "w",
		        &(hd_onnx_tensor){.type = HD_ONNX_F32,
		                .ndim = 1,
		                .shape = {BIG},
		                .fill = fail_to_fill,
		                .source = values});
		cr_assert_eq(hd_onnx_write(g, file_in("m.onnx"), external), HD_E_DATA);
		cr_assert_str_eq(hd_error_text(), "no such bytes");
		hd_onnx_free(g);
		uint8_t *after = slurp(file_in("m.onnx"), &bytes_after);
		expect_bytes(after, bytes_after, before, bytes, "the old file");
		cr_assert_eq(files_in_folder(), 1);
		free(after);
		free(before);
	}
}

/* Told before a byte is written. */
Test(onnx, more_than_protobuf_takes)
{
	hd_onnx *g = new_graph(17);
	hd_onnx_weight(g, "w",
	        &(hd_onnx_tensor){.type = HD_ONNX_U8, .ndim = 2, .shape = {1 << 16, 1 << 15}, .fill = fail_to_fill});
	cr_assert_eq(hd_onnx_write(g, file_in("m.onnx"), HD_ONNX_EXTERNAL_NEVER), HD_E_USAGE);
	cr_assert_eq(files_in_folder(), 0);
	hd_onnx_free(g);
}

Test(onnx, nodes)
{
	hd_onnx *g = new_graph(18);
	hd_onnx_value x = hd_onnx_input(g, "x", HD_ONNX_F32, 2, row);
	hd_onnx_scope(g, "a.b/");
	hd_onnx_value first = HD_ONNX_NODE(g, "Split", x, hd_onnx_i64s(g, 2, (int64_t[]){1, BIG - 1}));
	hd_onnx_attr_int(g, "axis", 1);
	hd_onnx_value second = hd_onnx_more_output(g);
	hd_onnx_value again = HD_ONNX_NODE(g, "Split", second, "", "");
	hd_onnx_attr_ints(g, "list", 3, (int64_t[]){5, -6, 7});
	hd_onnx_attr_float(g, "number", 0.125f);
	hd_onnx_attr_text(g, "text", "words");
	cr_assert_str_eq(first, "a.b/Split");
	cr_assert_str_eq(again, "a.b/Split_1");
	cr_assert_str_neq(first, second);
	hd_onnx_output(g, first, first, HD_ONNX_F32, 2, row);
	hd_onnx_output(g, again, "y", HD_ONNX_F32, 2, row);
	cr_assert_eq(hd_onnx_write(g, file_in("m.onnx"), HD_ONNX_EXTERNAL_AUTO), HD_OK, "%s", hd_error_text());
	Onnx__ModelProto *m = read_model(file_in("m.onnx"));
	cr_assert_eq(m->graph->n_node, 3);
	const Onnx__NodeProto *node = m->graph->node[0];
	cr_assert_eq(node->n_output, 2);
	cr_assert_str_eq(node->output[1], second);
	cr_assert(node->attribute[0]->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT && node->attribute[0]->i == 1);
	node = m->graph->node[1];
	cr_assert_str_eq(node->name, "a.b/Split_1");
	cr_assert_eq(node->n_input, 3);
	cr_assert_str_eq(node->input[0], second);
	cr_assert_str_eq(node->input[2], "");
	cr_assert_eq(node->n_attribute, 3);
	cr_assert_eq(node->attribute[0]->type, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
	cr_assert(node->attribute[0]->n_ints == 3 && node->attribute[0]->ints[1] == -6);
	cr_assert_eq(node->attribute[1]->f, 0.125f);
	expect_bytes(node->attribute[2]->s.data, node->attribute[2]->s.len, "words", 5, "text");
	/* an output of another name is an Identity, one of the value's own name is none */
	cr_assert_str_eq(m->graph->node[2]->op_type, "Identity");
	cr_assert_str_eq(m->graph->node[2]->output[0], "y");
	cr_assert_str_eq(m->graph->output[0]->name, first);
	cr_assert_str_eq(m->graph->input[0]->type->tensor_type->shape->dim[0]->dim_param, "N");
	cr_assert_eq(m->graph->input[0]->type->tensor_type->shape->dim[1]->dim_value, BIG);
	free_model(m);
	hd_onnx_free(g);
}

Test(onnx, constants_are_stored_once)
{
	hd_onnx *g = new_graph(17);
	hd_onnx_value half = hd_onnx_f32(g, 0.5f);
	cr_assert_str_eq(hd_onnx_f32(g, 0.5f), half);
	cr_assert_str_neq(hd_onnx_f32(g, 0.50000006f), half);
	cr_assert_str_neq(hd_onnx_f32(g, -0.0f), hd_onnx_f32(g, 0));
	cr_assert_str_neq(hd_onnx_i64(g, 3), hd_onnx_i64s(g, 1, (int64_t[]){3}));
	cr_assert_str_neq(hd_onnx_i64s(g, 2, (int64_t[]){1, 2}), hd_onnx_i64s(g, 1, (int64_t[]){12}));
	hd_onnx_f32s(g, "table", 2, (int64_t[]){2, 1}, (float[]){1, 2});
	hd_onnx_f32s(g, "table", 2, (int64_t[]){2, 1}, (float[]){1, 2});
	cr_assert_eq(hd_onnx_status(g), HD_OK);
	cr_assert_eq(hd_onnx_write(g, file_in("m.onnx"), HD_ONNX_EXTERNAL_ALWAYS), HD_OK);
	Onnx__ModelProto *m = read_model(file_in("m.onnx"));
	/* 0.5, 0.50000006, -0, 0, 3, [3], [1 2], [12], table */
	cr_assert_eq(m->graph->n_initializer, 9, "%zu", m->graph->n_initializer);
	cr_assert_eq(tensor_of(m, half)->n_dims, 0);
	cr_assert_eq(*(float *)(void *)tensor_of(m, half)->raw_data.data, 0.5f);
	free_model(m);
	hd_onnx_f32s(g, "table", 1, (int64_t[]){2}, (float[]){1, 2});
	cr_assert_eq(hd_onnx_status(g), HD_E_FAILED);
	hd_onnx_free(g);
	g = new_graph(17);
	hd_onnx_f32s(g, "table", 1, (int64_t[]){2}, (float[]){1, 2});
	hd_onnx_f32s(g, "table", 1, (int64_t[]){2}, (float[]){1, 3});
	cr_assert_eq(hd_onnx_status(g), HD_E_FAILED);
	hd_onnx_free(g);
}

/* The first failure stays, whatever follows. */
static void expect_failed(hd_onnx *g, const char *words)
{
	hd_fail(HD_E_IO, "something else");
	cr_assert_eq(hd_onnx_status(g), HD_E_FAILED);
	cr_assert_not_null(strstr(hd_error_text(), words), "'%s' lacks '%s'", hd_error_text(), words);
	cr_assert_str_eq(hd_onnx_f32(g, 1), "");
	cr_assert_str_eq(HD_ONNX_NODE(g, "Relu", "elsewhere"), "");
	cr_assert_str_eq(hd_onnx_input(g, "late", HD_ONNX_F32, 2, row), "");
	cr_assert_str_eq(hd_onnx_more_output(g), "");
	hd_onnx_attr_int(g, "axis", 1);
	hd_onnx_output(g, "late", "later", HD_ONNX_F32, 2, row);
	cr_assert_eq(hd_onnx_write(g, file_in("m.onnx"), HD_ONNX_EXTERNAL_AUTO), HD_E_FAILED);
	cr_assert_not_null(strstr(hd_error_text(), words), "'%s' lacks '%s'", hd_error_text(), words);
	cr_assert_eq(files_in_folder(), 0);
	hd_onnx_free(g);
}

Test(onnx, graphs_that_cannot_be)
{
	const hd_onnx_tensor tensor = {.type = HD_ONNX_F32, .ndim = 1, .shape = {BIG}, .data = values};
	hd_onnx *g = new_graph(17);
	hd_onnx_weight(g, "w", &tensor);
	hd_onnx_weight(g, "w", &tensor);
	expect_failed(g, "'w'");

	g = new_graph(17);
	HD_ONNX_NODE(g, "Relu", "nothing");
	expect_failed(g, "'nothing'");

	g = new_graph(17);
	hd_onnx_weight(g, "w", &(hd_onnx_tensor){.type = HD_ONNX_F32, .ndim = 1, .shape = {BIG}});
	expect_failed(g, "'w' has no data");

	g = new_graph(17);
	hd_onnx_attr_int(g, "axis", 1);
	expect_failed(g, "no node");

	g = new_graph(17);
	hd_onnx_failed(g, hd_fail(HD_E_FAILED, "the builder's words"));
	expect_failed(g, "the builder's words");
}

Test(onnx, a_checkpoint_without_a_tensor)
{
	hd_checkpoint c = {
	        .card = {
	                .channels = 3, .height = 64, .frame = {.scale_m = 1000}, .sigma_min_m = 1, .sigma_max_m = 100}};
	hd_onnx_value mu, sigma;
	float stem[16];
	cr_assert_eq(hd_settings_init(&c.settings), HD_OK);
	for (int wrong = 0; wrong < 2; wrong++) {
		hd_tensor tensor = {
		        .name = (char *)"stem.0.weight", .dtype = HD_F32, .ndim = 2, .shape = {4, 4}, .data = stem};
		hd_onnx *g = new_graph(17);
		hd_onnx_value x = hd_onnx_input(g, "features", HD_ONNX_F32, 4,
		        (hd_onnx_dim[]){{.name = "N"}, {.size = 3}, {.size = 64}, {.size = 32}});
		c.file.tensors = &tensor;
		c.file.tensor_count = (size_t)wrong;
		cr_assert_eq(hd_export_network(g, &c, HD_ONNX_FP32, NULL, x, &mu, &sigma), HD_E_DATA);
		cr_assert_str_eq(hd_error_text(), wrong ? "tensor stem.0.weight is of another shape or dtype"
		                                        : "tensor stem.0.weight is missing");
		hd_onnx_free(g);
	}
	hd_settings_free(&c.settings);
}
