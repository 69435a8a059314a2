/* SPDX-License-Identifier: Apache-2.0 */
#include "host/model/weights.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "kernels/half.h"

#define STEM "stem.0.weight"
#define BLOCKS_MAX 10000
#define LISTED_MAX 8

/* ---- names ---- */

/*
 * A file's name against timm's. In a pattern S is the stage's number, O and E the odd and even position of a stage
 * (2S + 1, 2S) in torchvision's list of features, B a block's number, * "weight" or "bias". The first rule that fits
 * counts.
 * Sources: timm, models/convnext.py (checkpoint_filter_fn); torchvision, models/convnext.py; the original release,
 * facebookresearch/ConvNeXt, models/convnext.py.
 */
enum { TIMM, TORCHVISION, ORIGINAL, LAYOUTS };
static const char *const layout_names[LAYOUTS] = {"timm", "torchvision", "the original release"};
static const struct {
	int layout;
	const char *pattern;
	const char *name;
} rules[] = {
        {TIMM, "stem.0.*", "stem.0.*"},
        {TIMM, "stem.1.*", "stem.1.*"},
        {TIMM, "stages.S.downsample.0.*", "stages.S.downsample.0.*"},
        {TIMM, "stages.S.downsample.1.*", "stages.S.downsample.1.*"},
        {TIMM, "stages.S.blocks.B.conv_dw.*", "stages.S.blocks.B.conv_dw.*"},
        {TIMM, "stages.S.blocks.B.norm.*", "stages.S.blocks.B.norm.*"},
        {TIMM, "stages.S.blocks.B.mlp.fc1.*", "stages.S.blocks.B.mlp.fc1.*"},
        {TIMM, "stages.S.blocks.B.mlp.fc2.*", "stages.S.blocks.B.mlp.fc2.*"},
        {TIMM, "stages.S.blocks.B.gamma", "stages.S.blocks.B.gamma"},
        {TIMM, "head.norm.*", "head.norm.*"},
        {TIMM, "head.fc.*", "head.fc.*"},
        {TORCHVISION, "features.0.0.*", "stem.0.*"},
        {TORCHVISION, "features.0.1.*", "stem.1.*"},
        {TORCHVISION, "features.E.0.*", "stages.S.downsample.0.*"},
        {TORCHVISION, "features.E.1.*", "stages.S.downsample.1.*"},
        {TORCHVISION, "features.O.B.block.0.*", "stages.S.blocks.B.conv_dw.*"},
        {TORCHVISION, "features.O.B.block.2.*", "stages.S.blocks.B.norm.*"},
        {TORCHVISION, "features.O.B.block.3.*", "stages.S.blocks.B.mlp.fc1.*"},
        {TORCHVISION, "features.O.B.block.5.*", "stages.S.blocks.B.mlp.fc2.*"},
        {TORCHVISION, "features.O.B.layer_scale", "stages.S.blocks.B.gamma"},
        {TORCHVISION, "classifier.0.*", "head.norm.*"},
        {TORCHVISION, "classifier.2.*", "head.fc.*"},
        {ORIGINAL, "downsample_layers.0.0.*", "stem.0.*"},
        {ORIGINAL, "downsample_layers.0.1.*", "stem.1.*"},
        {ORIGINAL, "downsample_layers.S.0.*", "stages.S.downsample.0.*"},
        {ORIGINAL, "downsample_layers.S.1.*", "stages.S.downsample.1.*"},
        {ORIGINAL, "stages.S.B.dwconv.*", "stages.S.blocks.B.conv_dw.*"},
        {ORIGINAL, "stages.S.B.norm.*", "stages.S.blocks.B.norm.*"},
        {ORIGINAL, "stages.S.B.pwconv1.*", "stages.S.blocks.B.mlp.fc1.*"},
        {ORIGINAL, "stages.S.B.pwconv2.*", "stages.S.blocks.B.mlp.fc2.*"},
        {ORIGINAL, "stages.S.B.gamma", "stages.S.blocks.B.gamma"},
        {ORIGINAL, "norm.*", "head.norm.*"},
        {ORIGINAL, "head.*", "head.fc.*"},
};
#define RULE_COUNT (sizeof rules / sizeof *rules)

typedef struct match {
	int stage, block;
	const char *rest;
} match;

/* A number without sign or leading zeros below BLOCKS_MAX; moves *text behind it. -1 where there is none. */
static int read_number(const char **text)
{
	int value = 0;
	const char *at = *text;
	if (!isdigit((unsigned char)*at) || (at[0] == '0' && isdigit((unsigned char)at[1])))
		return -1;
	for (; isdigit((unsigned char)*at); at++)
		if ((value = 10 * value + (*at - '0')) >= BLOCKS_MAX)
			return -1;
	*text = at;
	return value;
}

static bool matches(const char *pattern, const char *name, match *m)
{
	*m = (match){.rest = ""};
	for (; *pattern; pattern++) {
		int number;
		switch (*pattern) {
		case 'S':
		case 'O':
		case 'E':
			number = read_number(&name);
			if (number < 0 || (*pattern == 'O' && number % 2 == 0) || (*pattern == 'E' && number % 2))
				return false;
			m->stage = *pattern == 'S' ? number : number / 2;
			if (m->stage >= HD_STAGES)
				return false;
			break;
		case 'B':
			m->block = read_number(&name);
			if (m->block < 0)
				return false;
			break;
		case '*':
			m->rest = name;
			return !strcmp(name, "weight") || !strcmp(name, "bias");
		default:
			if (*name++ != *pattern)
				return false;
		}
	}
	return *name == '\0';
}

static void fill(char *out, size_t bytes, const char *pattern, const match *m)
{
	size_t n = 0;
	for (; *pattern && n + 1 < bytes; pattern++) {
		if (*pattern == 'S')
			n += (size_t)snprintf(out + n, bytes - n, "%d", m->stage);
		else if (*pattern == 'B')
			n += (size_t)snprintf(out + n, bytes - n, "%d", m->block);
		else if (*pattern == '*')
			n += (size_t)snprintf(out + n, bytes - n, "%s", m->rest);
		else
			out[n++] = *pattern;
	}
	out[n < bytes ? n : bytes - 1] = '\0';
}

static const char *without_prefixes(const char *name)
{
	static const char *const prefixes[] = {"model.", "backbone.", "net.", "module.", "_orig_mod."};
	for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
		size_t n = strlen(prefixes[i]);
		if (!strncmp(name, prefixes[i], n))
			return without_prefixes(name + n);
	}
	return name;
}

/* Sets w->name; returns the layout, -1 for a name that has no place. */
static int map_name(hd_weight *w)
{
	char features[96];
	const char *name = without_prefixes(w->file_name);
	w->name[0] = '\0';
	if (!strncmp(name, "position_head.", 14) || !strncmp(name, "uncertainty_head.", 17)) {
		snprintf(w->name, sizeof w->name, "%s", strlen(name) < sizeof w->name ? name : "");
		return -1;
	}
	/* a model that keeps torchvision's features alone, as its backbone */
	if (isdigit((unsigned char)*name) && strlen(name) < sizeof features - 9) {
		snprintf(features, sizeof features, "features.%s", name);
		name = features;
	}
	for (size_t i = 0; i < RULE_COUNT; i++) {
		match m;
		if (matches(rules[i].pattern, name, &m)) {
			fill(w->name, sizeof w->name, rules[i].name, &m);
			return rules[i].layout;
		}
	}
	return -1;
}

/* ---- opening ---- */

static const hd_weight *find(const hd_weights *weights, const char *name)
{
	for (size_t i = 0; i < weights->count; i++)
		if (!strcmp(weights->tensors[i].name, name))
			return &weights->tensors[i];
	return NULL;
}

static void add(
        hd_weights *out, const char *name, hd_torch_dtype dtype, int ndim, const int64_t *shape, const void *data)
{
	hd_weight *w = &out->tensors[out->count++];
	w->file_name = name;
	w->dtype = dtype;
	w->ndim = ndim;
	w->data = data;
	w->elements = 1;
	for (int d = 0; d < ndim; d++)
		w->elements = (int64_t)((uint64_t)w->elements * (uint64_t)(w->shape[d] = shape[d]));
}

static hd_status read_tensors(hd_weights *out)
{
	hd_status st;
	static const hd_torch_dtype from[] = {[HD_F32] = HD_TORCH_F32,
	        [HD_F16] = HD_TORCH_F16,
	        [HD_BF16] = HD_TORCH_BF16,
	        [HD_F64] = HD_TORCH_F64,
	        [HD_I8] = HD_TORCH_I8,
	        [HD_U8] = HD_TORCH_U8,
	        [HD_I16] = HD_TORCH_I16,
	        [HD_I32] = HD_TORCH_I32};
	if (hd_torch_looks_like(out->path)) {
		HD_TRY(hd_torch_open(&out->torch, out->path));
		HD_TRY(hd_alloc(&out->tensors, out->torch.count, sizeof *out->tensors));
		for (size_t i = 0; i < out->torch.count; i++) {
			const hd_torch_tensor *t = &out->torch.tensors[i];
			add(out, t->name, t->dtype, t->ndim, t->shape, t->data);
		}
	} else {
		HD_TRY(hd_safetensors_open(&out->container, out->path, true));
		HD_TRY(hd_alloc(&out->tensors, out->container.tensor_count, sizeof *out->tensors));
		for (size_t i = 0; i < out->container.tensor_count; i++) {
			const hd_tensor *t = &out->container.tensors[i];
			add(out, t->name, from[t->dtype], t->ndim, t->shape, t->data);
		}
	}
done:
	return st;
}

static bool is_head(const char *name)
{
	return !strncmp(name, "head.", 5) || !strncmp(name, "position_head.", 14) ||
	       !strncmp(name, "uncertainty_head.", 17);
}

static hd_status map_names(hd_weights *out)
{
	size_t votes[LAYOUTS] = {0}, backbone = 0;
	for (size_t i = 0; i < out->count; i++) {
		hd_weight *w = &out->tensors[i];
		int layout = map_name(w);
		char name[sizeof w->name];
		memcpy(name, w->name, sizeof name);
		w->name[0] = '\0'; /* so that the search finds others only */
		const hd_weight *other = name[0] ? find(out, name) : NULL;
		if (other)
			return hd_fail(HD_E_DATA, "%s: tensors %s and %s are both %s: keep one model in the file",
			        out->path, other->file_name, w->file_name, name);
		memcpy(w->name, name, sizeof name);
		if (layout >= 0)
			votes[layout]++;
		backbone += name[0] && !is_head(name);
	}
	if (!backbone)
		return hd_fail(HD_E_DATA,
		        "%s: none of its %zu tensors (%s, ...) is one of a ConvNeXt backbone under the names of timm, "
		        "torchvision or the original release",
		        out->path, out->count, out->count ? out->tensors[0].file_name : "");
	size_t best = TIMM;
	for (size_t k = 0; k < LAYOUTS; k++)
		if (votes[k] > votes[best])
			best = k;
	out->layout = layout_names[best];
	return HD_OK;
}

static void find_size(hd_weights *out)
{
	int count;
	const hd_backbone *known = hd_backbone_list(&count);
	hd_backbone *s = &out->size;
	for (size_t i = 0; i < out->count; i++) {
		const hd_weight *w = &out->tensors[i];
		match m;
		if (!matches("stages.S.blocks.B.conv_dw.*", w->name, &m) || strcmp(m.rest, "weight") != 0 ||
		        w->ndim < 1)
			continue;
		if (m.block + 1 > s->depths[m.stage])
			s->depths[m.stage] = m.block + 1;
		s->widths[m.stage] = w->shape[0] < INT32_MAX ? (int)w->shape[0] : INT32_MAX;
	}
	const hd_weight *fc1 = find(out, "stages.0.blocks.0.mlp.fc1.weight"), *stem = find(out, STEM);
	s->conv_mlp = fc1 && fc1->ndim == 4;
	out->channels = stem && stem->ndim == 4 && stem->shape[1] < INT32_MAX ? (int)stem->shape[1] : 0;
	for (int i = 0; i < count; i++)
		if (!memcmp(known[i].depths, s->depths, sizeof s->depths) &&
		        !memcmp(known[i].widths, s->widths, sizeof s->widths))
			s->name = known[i].name;
}

hd_status hd_weights_open(hd_weights *out, const char *path)
{
	hd_status st;
	*out = (hd_weights){0};
	HD_TRY(hd_strdup(&out->path, path));
	HD_TRY(read_tensors(out));
	HD_TRY(map_names(out));
	find_size(out);
	return HD_OK;
done:
	hd_weights_close(out);
	return st;
}

void hd_weights_close(hd_weights *weights)
{
	if (!weights)
		return;
	free(weights->tensors);
	hd_torch_close(&weights->torch);
	hd_safetensors_close(&weights->container);
	free(weights->path);
	*weights = (hd_weights){0};
}

const char *hd_weights_size_text(const hd_backbone *size, char *buffer, size_t bytes)
{
	const int *d = size->depths, *w = size->widths;
	snprintf(buffer, bytes, "depths %d, %d, %d, %d and widths %d, %d, %d, %d (%s)", d[0], d[1], d[2], d[3], w[0],
	        w[1], w[2], w[3], size->name ? size->name : "no published size");
	return buffer;
}

/* ---- numbers ---- */

bool hd_weights_to_float(float *out, const hd_weight *w)
{
	/* a safetensors file aligns nothing: elements are taken out by memcpy */
	const unsigned char *data = w->data;
	if (w->dtype > HD_TORCH_BF16)
		return false;
	for (int64_t i = 0; i < w->elements; i++) {
		double wide;
		uint16_t narrow;
		if (w->dtype == HD_TORCH_F32) {
			memcpy(&out[i], data + i * 4, 4);
		} else if (w->dtype == HD_TORCH_F64) {
			memcpy(&wide, data + i * 8, 8);
			out[i] = (float)wide;
		} else {
			memcpy(&narrow, data + i * 2, 2);
			out[i] = w->dtype == HD_TORCH_F16 ? hd_half_to_float(narrow) : hd_bf16_to_float(narrow);
		}
	}
	return true;
}

/* ---- loading ---- */

/* Equal but for dimensions of 1 at the end. */
static bool same_shape(const hd_weight *w, const hd_parameter *p)
{
	for (int d = 0; d < w->ndim || d < p->ndim; d++)
		if ((d < w->ndim ? w->shape[d] : 1) != (d < p->ndim ? p->shape[d] : 1))
			return false;
	return true;
}

static bool same_but_channels(const hd_weight *w, const hd_parameter *p)
{
	return !strcmp(p->name, STEM) && w->ndim == 4 && p->ndim == 4 && w->shape[0] == p->shape[0] &&
	       w->shape[1] > 0 && w->shape[2] == p->shape[2] && w->shape[3] == p->shape[3];
}

/* The formula of hd_weights_load. to: (K,M,taps), from: (K,F,taps). */
static void adapt_stem(float *to, const float *from, int64_t K, int64_t M, int64_t F, int64_t taps)
{
	const float scale = (float)F / (float)M;
	for (int64_t k = 0; k < K; k++)
		for (int64_t c = 0; c < M; c++)
			for (int64_t t = 0; t < taps; t++) {
				const float *column = from + k * F * taps + t;
				double sum = 0;
				for (int64_t f = 0; M == 1 && f < F; f++)
					sum += (double)column[f * taps];
				to[(k * M + c) * taps + t] = M == 1 ? (float)sum : scale * column[c % F * taps];
			}
}

/* *fits false where the tensor belongs to a head of another shape or holds whole numbers. */
static hd_status load_one(hd_model *model, int index, const hd_weights *weights, const hd_weight *w, bool *fits)
{
	hd_status st = HD_OK;
	int count;
	const hd_parameter *p = &hd_model_parameters(model, &count)[index];
	float *values = NULL, *adapted = NULL;
	bool adapt = !same_shape(w, p) && same_but_channels(w, p);
	*fits = false;
	if (!adapt && !same_shape(w, p))
		return is_head(p->name) ? HD_OK
		                        : hd_fail(HD_E_DATA, "%s: tensor %s is of another shape than the model's %s",
		                                  weights->path, w->file_name, p->name);
	HD_TRY(hd_alloc(&values, (size_t)w->elements, sizeof *values));
	if (!hd_weights_to_float(values, w)) {
		st = hd_fail(HD_E_DATA, "%s: tensor %s holds %s, want floating point", weights->path, w->file_name,
		        hd_torch_dtype_name(w->dtype));
		goto done;
	}
	if (adapt) {
		HD_TRY(hd_alloc(&adapted, (size_t)p->size, sizeof *adapted));
		adapt_stem(adapted, values, p->shape[0], p->shape[1], w->shape[1], p->shape[2] * p->shape[3]);
	}
	HD_TRY(hd_model_write(model, HD_FLAT_WEIGHTS, index, adapted ? adapted : values));
	*fits = true;
done:
	free(adapted);
	free(values);
	return st;
}

static hd_status check_size(const hd_model *model, const hd_weights *weights)
{
	const hd_backbone *want = &hd_model_get_config(model)->backbone, *got = &weights->size;
	char a[160], b[160];
	if (!memcmp(want->depths, got->depths, sizeof got->depths) &&
	        !memcmp(want->widths, got->widths, sizeof got->widths))
		return HD_OK;
	hd_weights_size_text(got, a, sizeof a);
	hd_weights_size_text(want, b, sizeof b);
	return hd_fail(HD_E_DATA, "%s: it holds a ConvNeXt of %s, the model has %s%s%s", weights->path, a, b,
	        got->name ? ": --backbone_size " : "", got->name ? got->name : "");
}

hd_status hd_weights_load(hd_model *model, const hd_weights *weights, hd_weights_report *report)
{
	hd_status st;
	int count;
	const hd_parameter *p = hd_model_parameters(model, &count);
	bool *used = NULL;
	*report = (hd_weights_report){
	        .file_channels = weights->channels, .model_channels = hd_model_get_config(model)->channels};
	HD_TRY(check_size(model, weights));
	HD_TRY(hd_alloc(&used, weights->count, sizeof *used));
	HD_TRY(hd_alloc(&report->loaded, (size_t)count, sizeof *report->loaded));
	HD_TRY(hd_alloc(&report->missing, (size_t)count, sizeof *report->missing));
	HD_TRY(hd_alloc(&report->unused, weights->count, sizeof *report->unused));
	for (int i = 0; i < count; i++) {
		const hd_weight *w = find(weights, p[i].name);
		bool fits = false;
		if (w)
			HD_TRY(load_one(model, i, weights, w, &fits));
		if (fits) {
			used[w - weights->tensors] = true;
			report->loaded[report->loaded_count++] = p[i].name;
			report->loaded_parameters += p[i].size;
		} else {
			report->missing[report->missing_count++] = p[i].name;
			report->missing_parameters += p[i].size;
		}
	}
	for (size_t i = 0; i < weights->count; i++)
		if (!used[i])
			report->unused[report->unused_count++] = weights->tensors[i].file_name;
done:
	free(used);
	if (st != HD_OK)
		hd_weights_report_free(report);
	return st;
}

void hd_weights_report_free(hd_weights_report *report)
{
	if (!report)
		return;
	free(report->unused);
	free(report->missing);
	free(report->loaded);
	*report = (hd_weights_report){0};
}

/* Names one after the other, those of one module ("position_head") as one entry with their number. */
static void print_names(FILE *to, const char *title, const char **names, size_t count)
{
	size_t listed = 0, i = 0;
	if (!count)
		return;
	fprintf(to, "  %s: ", title);
	while (i < count && listed < LISTED_MAX) {
		int module = (int)strcspn(names[i], ".");
		size_t from = i;
		while (i < count && !strncmp(names[i], names[from], (size_t)module + 1))
			i++;
		if (i - from > 1)
			fprintf(to, "%s%.*s (%zu tensors)", listed ? ", " : "", module, names[from], i - from);
		else
			fprintf(to, "%s%s", listed ? ", " : "", names[from]);
		listed++;
	}
	if (i < count)
		fprintf(to, " and %zu more", count - i);
	fputc('\n', to);
}

void hd_weights_report_print(FILE *to, const hd_weights *weights, const hd_weights_report *report)
{
	char size[160];
	fprintf(to, "%s: ConvNeXt of %s, names of %s\n", weights->path,
	        hd_weights_size_text(&weights->size, size, sizeof size), weights->layout);
	fprintf(to, "  loaded: %zu tensors, %.2f M parameters\n", report->loaded_count,
	        (double)report->loaded_parameters / 1e6);
	if (report->file_channels && report->file_channels != report->model_channels)
		fprintf(to, "  stem: %d channels in the file, repeated and scaled for %d\n", report->file_channels,
		        report->model_channels);
	print_names(to, "not used", report->unused, report->unused_count);
	print_names(to, "not in the file, random", report->missing, report->missing_count);
	if (weights->torch.others[0])
		fprintf(to, "  weights only; passed over: %s\n", weights->torch.others);
}
