/* SPDX-License-Identifier: Apache-2.0 */
/* Every operation of kernels.def, on every instruction tier of this processor, against its reference. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "tests/cases/case.h"
#include "tests/ref/ref.h"

#define SEED 20240117u

static const char *const tiers[] = {"base", "v2", "v3", "v4"};
static const double betas[] = {0, 1, 0.5};

/* One shape in one variant; the reference's gradient only once, on the first tier. */
static void check_one(
        const hd_case *op, int shape, int variant, double beta, hd_dtype dtype, hd_backend *backend, bool gradient)
{
	hd_case_run run;
	uint64_t seed = SEED + (uint64_t)shape * 101 + (uint64_t)variant;
	hd_status st = hd_case_run_make(&run, op, &op->shapes[shape], variant, beta, dtype, seed, backend);
	if (st == HD_OK)
		st = hd_case_run_check(&run, backend);
	if (st == HD_OK && gradient && dtype == HD_F32 && op->gradient)
		st = op->gradient(&run);
	hd_case_run_free(&run, backend);
	cr_expect(st == HD_OK, "%s", hd_error_text());
}

static void check_tier(const hd_case *op, hd_backend *backend, bool gradient)
{
	int variants = op->variants > 1 ? op->variants : 1, beta_count = op->betas ? HD_COUNT(betas) : 1;
	int dtype_count;
	const hd_dtype *dtypes = hd_case_dtypes(op, &dtype_count);
	for (int shape = 0; shape < op->shape_count; shape++)
		for (int variant = 0; variant < variants; variant++)
			for (int b = 0; b < beta_count; b++)
				for (int d = 0; d < dtype_count; d++)
					check_one(op, shape, variant, betas[b], dtypes[d], backend, gradient);
}

static void check_op(const char *name, hd_op_kind kind)
{
	const hd_case *op = hd_case_find(name);
	int ran = 0, empty = 0;
	cr_assert(op != NULL, "%s: no case object; add hd_case_%s under tests/cases", name, name);
	for (int t = 0; t < HD_COUNT(tiers); t++) {
		hd_backend *backend;
		if (hd_backend_open_cpu(&backend, tiers[t], 0) != HD_OK)
			continue;
		if (hd_case_present(&backend->ops, name)) {
			check_tier(op, backend, ran++ == 0);
		} else {
			cr_expect(kind == HD_FUSED, "%s cpu/%s: a required slot is empty", name, tiers[t]);
			printf("skip %s cpu/%s: fused slot is empty\n", name, tiers[t]);
			empty++;
		}
		hd_backend_close(backend);
	}
	cr_assert(ran + empty > 0, "%s: this processor has no tier of this build", name);
	if (ran == 0)
		cr_skip_test("%s: fused slot is empty on all %d tiers", name, empty);
}

#define HD_OP(name, kind, params)                                                                                      \
	Test(ops, name)                                                                                                \
	{                                                                                                              \
		check_op(#name, kind);                                                                                 \
	}
#define HD_WORK(name, params)
#include "kernels/kernels.def"
#undef HD_OP
#undef HD_WORK

/* Known answers of Salmon et al., Random123 kat_vectors, philox 4x32 10. */
Test(reference, philox_known_answers)
{
	static const uint32_t cases[][10] = {
	        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
	        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e,
	                0xa20bc7c6, 0x6d5451fd},
	        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb,
	                0x5001e420, 0x24126ea1},
	};
	for (int i = 0; i < HD_COUNT(cases); i++) {
		uint32_t out[4];
		ref_philox(out, cases[i], cases[i] + 4);
		for (int k = 0; k < 4; k++)
			cr_expect(out[k] == cases[i][6 + k], "vector %d word %d: got %08x, want %08x", i, k, out[k],
			        cases[i][6 + k]);
	}
}

Test(reference, half_round_trip)
{
	for (uint32_t bits = 0; bits < 0x10000; bits++) {
		double value = ref_half((uint16_t)bits);
		if (value == value && value < 1e9 && value > -1e9)
			cr_expect(ref_to_half(value) == bits, "half %04x: got %04x", bits, ref_to_half(value));
	}
}
