/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints that two runs of the program left, compared. Include once per test program. */
#ifndef HD_TESTS_SAME_WEIGHTS_H
#define HD_TESTS_SAME_WEIGHTS_H

#include "heimdall/safetensors.h"
#include "tests/program.h"

/* Every tensor of two checkpoints is the same to the bit. */
static void expect_same_weights(const char *a, const char *b)
{
	char path[2][512];
	hd_safetensors file[2];
	snprintf(path[0], sizeof path[0], "%s/%s/best.safetensors", folder, a);
	snprintf(path[1], sizeof path[1], "%s/%s/best.safetensors", folder, b);
	for (int i = 0; i < 2; i++)
		cr_assert_eq(hd_safetensors_open(&file[i], path[i], true), HD_OK, "%s", hd_error_text());
	cr_assert(file[0].tensor_count > 50 && file[0].tensor_count == file[1].tensor_count, "%zu and %zu tensors",
	        file[0].tensor_count, file[1].tensor_count);
	for (size_t t = 0; t < file[0].tensor_count; t++) {
		const hd_tensor *x = &file[0].tensors[t], *y = hd_safetensors_find(&file[1], x->name);
		cr_assert(y && x->bytes == y->bytes && !memcmp(x->data, y->data, x->bytes), "%s: %s differs from %s",
		        x->name, a, b);
	}
	hd_safetensors_close(&file[1]);
	hd_safetensors_close(&file[0]);
}

#endif
