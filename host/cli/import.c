/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall import: published weights as safetensors under timm's names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heimdall/safetensors.h"
#include "host/cli/cli.h"
#include "host/common/memory.h"
#include "host/model/weights.h"

#define LISTED_MAX 8

/* The known sizes keep their channel mixers as timm does: 1x1 convolutions (K,C,1,1) or linear layers (K,C). */
static void shape_as_timm(hd_tensor *t, const hd_backbone *size)
{
	if (!size->name || !strstr(t->name, ".mlp.fc") || !strstr(t->name, ".weight"))
		return;
	bool conv_mlp = hd_backbone_find(size->name)->conv_mlp;
	if (conv_mlp && t->ndim == 2)
		t->shape[2] = t->shape[3] = 1;
	if ((conv_mlp && t->ndim == 2) || (!conv_mlp && t->ndim == 4 && t->shape[2] == 1 && t->shape[3] == 1))
		t->ndim = conv_mlp ? 4 : 2;
}

/* *taken false for a tensor that has no place in timm's model. */
static hd_status convert(hd_tensor *t, const hd_weight *w, const hd_backbone *size, bool *taken)
{
	hd_status st = HD_OK;
	float *values = NULL;
	*taken = false;
	if (!w->name[0])
		return HD_OK;
	HD_TRY(hd_alloc(&values, (size_t)w->elements, sizeof *values));
	if (!hd_weights_to_float(values, w))
		goto done;
	t->name = (char *)w->name;
	t->dtype = HD_F32;
	t->ndim = w->ndim;
	memcpy(t->shape, w->shape, sizeof w->shape);
	if (w->ndim > 1 && strstr(w->name, ".gamma")) /* torchvision's (C,1,1) */
		t->ndim = 1;
	shape_as_timm(t, size);
	t->bytes = (size_t)w->elements * sizeof *values;
	t->data = values;
	values = NULL;
	*taken = true;
done:
	free(values);
	return st;
}

static void print_result(const char *out, const hd_weights *w, const hd_tensor *tensors, size_t count)
{
	char size[160];
	int64_t parameters = 0;
	for (size_t i = 0; i < count; i++)
		parameters += (int64_t)(tensors[i].bytes / sizeof(float));
	printf("%s: %zu tensors, %.2f M parameters\n", out, count, (double)parameters / 1e6);
	printf("  ConvNeXt of %s, %d input channels\n", hd_weights_size_text(&w->size, size, sizeof size), w->channels);
	printf("  from %s, names of %s\n", w->path, w->layout);
	size_t left = w->count - count, listed = 0;
	for (size_t i = 0, t = 0; i < w->count && listed < LISTED_MAX; i++) {
		if (t < count && tensors[t].name == w->tensors[i].name)
			t++;
		else
			printf("%s%s", listed++ ? ", " : "  left out: ", w->tensors[i].file_name);
	}
	if (listed)
		printf(left > listed ? " and %zu more\n" : "\n", left - listed);
	if (w->torch.others[0])
		printf("  weights only; left out too: %s\n", w->torch.others);
}

hd_status hd_cli_import(const hd_settings *s, const char **files, int count)
{
	hd_status st;
	hd_weights weights = {0};
	hd_tensor *tensors = NULL;
	size_t taken = 0;
	const hd_metadata metadata = {
	        .key = (char *)"format", .value = (char *)"pt"}; /* what Python's readers ask for */
	if (count != 1 || !s->out[0])
		return hd_fail(HD_E_USAGE,
		        "import needs one file of weights and --out: heimdall import convnext_tiny.pth "
		        "--out convnext_tiny.safetensors");
	HD_TRY(hd_weights_open(&weights, files[0]));
	HD_TRY(hd_alloc(&tensors, weights.count, sizeof *tensors));
	for (size_t i = 0; i < weights.count; i++) {
		bool fits;
		HD_TRY(convert(&tensors[taken], &weights.tensors[i], &weights.size, &fits));
		taken += fits;
	}
	HD_TRY(hd_safetensors_write(s->out, tensors, taken, &metadata, 1));
	print_result(s->out, &weights, tensors, taken);
done:
	for (size_t i = 0; tensors && i < taken; i++)
		free((void *)tensors[i].data);
	free(tensors);
	hd_weights_close(&weights);
	return st;
}
