/* SPDX-License-Identifier: Apache-2.0 */
/* The choice of cuBLASLt's algorithms for matrix products, on the emulated device with the stand-in for cuBLASLt. */
#include <criterion/criterion.h>
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/product.h"
#include "tests/cases/case.h"
#include "tests/cuda_emu/fakes/cublaslt_mood.h"
#include "tests/gpu/tuner_fixture.h"

static void reopen(void)
{
	close_backend();
	open_backend();
}

static void begin(void)
{
	begin_with("tuning.tsv");
}

static void end(void)
{
	char name[160];
	if (backend)
		close_backend();
	snprintf(name, sizeof name, "%s.lock", file);
	unlink(name);
	unlink(file);
	cr_expect_eq(rmdir(folder), 0, "%s holds something else", folder);
}

/* What the library finds from here on: up to three algorithms; none after one whose delay is below 0. */
static void find(hd_fake_cublaslt_algorithm a, hd_fake_cublaslt_algorithm b, hd_fake_cublaslt_algorithm c)
{
	const hd_fake_cublaslt_algorithm all[3] = {a, b, c};
	hd_fake_cublaslt_algorithm_count = 0;
	for (int i = 0; i < 3 && all[i].delay_us >= 0; i++)
		hd_fake_cublaslt_algorithms[hd_fake_cublaslt_algorithm_count++] = all[i];
	hd_fake_cublaslt_products = 0;
}

#define KIND(kind, us) ((hd_fake_cublaslt_algorithm){HD_FAKE_CUBLASLT_##kind, us})
#define NONE KIND(SOUND, -1)

/* A case of an operation with a shape of its own: two products of it, right whatever the library does. */
static void run_case(const char *name, hd_shape shape, hd_dtype dtype)
{
	hd_case_run run;
	hd_status st = hd_case_run_make(&run, hd_case_find(name), &shape, 0, 0, dtype, 7, backend);
	if (st == HD_OK)
		st = hd_case_run_check(&run, backend);
	hd_case_run_free(&run, backend);
	cr_expect(st == HD_OK, "%s", hd_error_text());
}

static void forward(int64_t rows)
{
	run_case("linear_fwd", (hd_shape){{rows, 48, 24}}, HD_F32);
}

static void expect_last(hd_fake_cublaslt_kind want, int products)
{
	cr_expect_eq(hd_fake_cublaslt_last, want, "got algorithm %d, want %d", (int)hd_fake_cublaslt_last, (int)want);
	cr_expect(products < 0 || hd_fake_cublaslt_products == products, "got %d products, want %d",
	        hd_fake_cublaslt_products, products);
}

Test(product, fastest_algorithm_is_taken_and_kept, .init = begin, .fini = end)
{
	find(KIND(SOUND, 20000), KIND(SPLIT, 1000), NONE);
	forward(5);
	expect_last(HD_FAKE_CUBLASLT_SPLIT, -1);
	cr_expect(strstr(take_notes(), "matrix products of 1 shapes timed; for 1 of them another algorithm"), "got: %s",
	        text);
	cr_expect_eq(count(text, "\n"), 1, "got: %s", text);
	cr_expect_eq(count(read_file(), "\tproduct\tf32\tm=5 n=24 k=48 turned=b bias=yes align="), 1, "%s", text);
	cr_expect_eq(count(text, " splitk=2\t"), 1, "%s", text);
	/* known shapes are not timed again, nor by the next run, whatever the library would name first by then */
	find(KIND(SOUND, 0), NONE, NONE);
	forward(5);
	expect_last(HD_FAKE_CUBLASLT_SPLIT, 2);
	reopen();
	find(KIND(SOUND, 0), NONE, NONE);
	forward(5);
	expect_last(HD_FAKE_CUBLASLT_SPLIT, 2);
	cr_expect_str_eq(take_notes(), "", "got notes: %s", text);
	/* other shapes are */
	forward(6);
	expect_last(HD_FAKE_CUBLASLT_SOUND, -1);
	cr_expect_eq(count(read_file(), "\tproduct\t"), 2, "%s", text);
}

Test(product, first_algorithm_stays_where_others_are_about_as_fast, .init = begin, .fini = end)
{
	find(KIND(SOUND, 150000), KIND(SPLIT, 149500), NONE);
	forward(5);
	expect_last(HD_FAKE_CUBLASLT_SOUND, -1);
}

static void expect_left_out(hd_fake_cublaslt_kind kind, const char *reason)
{
	const hd_fake_cublaslt_algorithm odd = {kind, 0};
	find(KIND(SOUND, 60000), KIND(SPLIT, 2000), odd);
	forward(10 + (int64_t)kind);
	expect_last(HD_FAKE_CUBLASLT_SPLIT, -1);
	cr_expect(strstr(take_notes(), "1 algorithms left out") && strstr(text, reason), "kind %d: want '%s', got: %s",
	        (int)kind, reason, text);
	/* the library's own favourite too */
	find(odd, KIND(SOUND, 2000), KIND(SPLIT, 60000));
	forward(20 + (int64_t)kind);
	expect_last(HD_FAKE_CUBLASLT_SOUND, -1);
	take_notes();
	/* nothing but that: the own kernel, from then on */
	find(odd, NONE, NONE);
	forward(30 + (int64_t)kind);
	cr_expect(strstr(take_notes(), "all 1 algorithms of cuBLASLt are left out") && strstr(text, reason),
	        "kind %d: want '%s', got: %s", (int)kind, reason, text);
	reopen();
	find(KIND(SOUND, 0), NONE, NONE);
	forward(30 + (int64_t)kind);
	cr_expect_eq(hd_fake_cublaslt_products, 0, "got %d products", hd_fake_cublaslt_products);
	cr_expect_eq(cudaGetLastError(), cudaSuccess);
}

Test(product, algorithms_that_are_not_sound_are_left_out, .init = begin, .fini = end)
{
	expect_left_out(HD_FAKE_CUBLASLT_WRONG, "further from the own kernel's");
	expect_left_out(HD_FAKE_CUBLASLT_ADDS, "element 0 is further from the own kernel's");
	expect_left_out(HD_FAKE_CUBLASLT_FLICKERS, "element 0 has other bits the second time");
	expect_left_out(HD_FAKE_CUBLASLT_FAILS, "fails with status 13");
	expect_left_out(HD_FAKE_CUBLASLT_REFUSES, "fails with status 15");
}

Test(product, unsound_in_16_bits, .init = begin, .fini = end)
{
	static const hd_dtype dtypes[] = {HD_BF16, HD_F16};
	static const char *const names[] = {"linear_fwd", "linear_bwd_data", "linear_bwd_weight"};
	for (int d = 0; d < 2; d++) {
		for (int i = 0; i < 3; i++) {
			find(KIND(WRONG, 0), KIND(FLICKERS, 0), KIND(SPLIT, 1000));
			run_case(names[i], (hd_shape){{17, 40, 24}}, dtypes[d]);
			expect_last(HD_FAKE_CUBLASLT_SPLIT, -1);
			cr_expect(strstr(take_notes(), "2 algorithms left out"), "%s: got: %s", names[i], text);
		}
	}
}

Test(product, partial_sums_of_16_bit_results_are_float, .init = begin, .fini = end)
{
	find(KIND(SOUND, 0), NONE, NONE);
	run_case("linear_fwd", (hd_shape){{3, 8, 8}}, HD_BF16);
	cr_expect_eq(hd_fake_cublaslt_reductions, 2u, "got mask %x", hd_fake_cublaslt_reductions);
	run_case("linear_bwd_weight", (hd_shape){{3, 8, 8}}, HD_BF16);
	cr_expect_eq(hd_fake_cublaslt_reductions, 7u, "got mask %x", hd_fake_cublaslt_reductions);
}

Test(product, another_library_is_timed_anew, .init = begin, .fini = end)
{
	find(KIND(SOUND, 20000), KIND(SPLIT, 1000), NONE);
	forward(5);
	expect_last(HD_FAKE_CUBLASLT_SPLIT, -1);
	hd_fake_cublaslt_version++;
	reopen();
	find(KIND(SOUND, 1000), KIND(SPLIT, 20000), NONE);
	forward(5);
	expect_last(HD_FAKE_CUBLASLT_SOUND, -1);
	cr_expect_eq(count(read_file(), "m=5 "), 2, "%s", text);
	/* the first library's line is still there */
	hd_fake_cublaslt_version--;
	reopen();
	find(KIND(SOUND, 0), NONE, NONE);
	forward(5);
	expect_last(HD_FAKE_CUBLASLT_SPLIT, 2);
}

/* The file with one character of the algorithm's words changed, or its line cut off behind some of them. */
static void expect_ignored(size_t at, bool cut)
{
	find(KIND(SOUND, 20000), KIND(SPLIT, 1000), NONE);
	forward(5);
	char changed[TEXT];
	snprintf(changed, sizeof changed, "%s", read_file());
	char *words = strstr(changed, "workspace=");
	cr_assert_not_null(words);
	words = strchr(words, '\t') + 1;
	words[at] = cut ? '\0' : words[at] == '0' ? '1' : '0';
	write_file(changed);
	reopen();
	find(KIND(SOUND, 1000), KIND(SPLIT, 20000), NONE);
	forward(5);
	expect_last(HD_FAKE_CUBLASLT_SOUND, -1);
	cr_expect(strstr(take_notes(), "is ignored"), "at %zu: got: %s", at, text);
	cr_expect_eq(strncmp(read_file(), changed, strlen(changed)), 0, "what was there is gone: %s", text);
	/* the line made in its place counts */
	reopen();
	find(KIND(SPLIT, 0), NONE, NONE);
	forward(5);
	expect_last(HD_FAKE_CUBLASLT_SOUND, 2);
	unlink(file);
	reopen();
}

Test(product, broken_lines_are_ignored, .init = begin, .fini = end)
{
	expect_ignored(3, false);      /* of the first word */
	expect_ignored(17, false);     /* of the second */
	expect_ignored(8 * 17, false); /* of the checksum */
	expect_ignored(16, false);     /* a space */
	expect_ignored(100, true);
}

/* What is whole but belongs to another product: the library has the last word. */
Test(product, algorithms_of_another_shape_are_ignored, .init = begin, .fini = end)
{
	char changed[TEXT];
	find(KIND(SOUND, 20000), KIND(SPLIT, 1000), NONE);
	forward(5);
	snprintf(changed, sizeof changed, "%s", read_file());
	char *shape = strstr(changed, "m=5 ");
	cr_assert_not_null(shape);
	shape[2] = '6';
	write_file(changed);
	reopen();
	find(KIND(SOUND, 0), NONE, NONE);
	forward(6);
	expect_last(HD_FAKE_CUBLASLT_SOUND, -1);
	cr_expect(strstr(take_notes(), "is ignored"), "got: %s", text);
}

Test(product, off_takes_the_first, .init = begin, .fini = end)
{
	setenv("HEIMDALL_TUNING", "off", 1);
	find(KIND(SPLIT, 2000), KIND(SOUND, 0), NONE);
	forward(5);
	expect_last(HD_FAKE_CUBLASLT_SPLIT, 2);
	cr_expect_str_eq(read_file(), "");
	cr_expect_str_eq(take_notes(), "");
}

Test(product, captured_streams_are_not_timed, .init = begin, .fini = end)
{
	float *p;
	cudaGraph_t graph;
	find(KIND(SPLIT, 20000), KIND(SOUND, 0), NONE);
	cr_assert_eq(backend->alloc(backend, (void **)&p, 4096), HD_OK);
	cr_assert_eq(cudaStreamBeginCapture(hd_cuda_main_stream.cuda, cudaStreamCaptureModeThreadLocal), cudaSuccess);
	hd_status st = hd_cuda_linear_fwd(p, p + 64, p + 128, NULL, HD_F32, 4, 4, 4, NULL);
	cr_expect_eq(st, HD_OK, "%s", hd_error_text());
	cr_expect_eq(cudaStreamEndCapture(hd_cuda_main_stream.cuda, &graph), cudaSuccess);
	cr_expect_eq(cudaGraphDestroy(graph), cudaSuccess);
	expect_last(HD_FAKE_CUBLASLT_SPLIT, 1);
	cr_expect(strstr(take_notes(), "not timed, cuBLASLt's first algorithm is taken: first called while a graph"),
	        "got: %s", text);
	cr_expect_eq(count(read_file(), "splitk=2\t-\t-"), 1, "%s", text);
	/* and that is what a later run goes on with */
	reopen();
	st = hd_cuda_linear_fwd(p, p + 64, p + 128, NULL, HD_F32, 4, 4, 4, NULL);
	cr_expect_eq(st, HD_OK, "%s", hd_error_text());
	expect_last(HD_FAKE_CUBLASLT_SPLIT, 2);
}

Test(product, a_kept_algorithm_that_is_refused_gives_its_place_up, .init = begin, .fini = end)
{
	find(KIND(SOUND, 0), NONE, NONE);
	forward(5);
	take_notes();
	hd_fake_cublaslt_refuses = true;
	forward(5);
	cr_expect_eq(count(take_notes(), "cuBLASLt refuses its own algorithm with status 15"), 1, "got: %s", text);
	hd_fake_cublaslt_refuses = false;
}

/* In a process of its own, whose exit status is the algorithm that it takes. */
static pid_t start_process(int first_us, int second_us)
{
	pid_t child = fork();
	if (child != 0)
		return child;
	open_backend();
	find(KIND(SOUND, first_us), KIND(SPLIT, second_us), NONE);
	forward(5);
	close_backend();
	_exit((int)hd_fake_cublaslt_last);
}

Test(product, processes_that_start_together_choose_alike, .init = begin, .fini = end)
{
	int status[2];
	close_backend();
	pid_t children[2] = {start_process(1000, 20000), start_process(20000, 1000)};
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(waitpid(children[i], &status[i], 0), children[i]);
		cr_assert(WIFEXITED(status[i]));
	}
	cr_expect_eq(WEXITSTATUS(status[0]), WEXITSTATUS(status[1]), "took %d and %d", WEXITSTATUS(status[0]),
	        WEXITSTATUS(status[1]));
	cr_expect_eq(count(read_file(), "m=5 "), 1, "%s", text);
}

/* A convolution that is tuned multiplies meanwhile, which is tuned too: both choices are there, nobody waits. */
Test(product, choices_nest, .init = begin, .fini = end)
{
	find(KIND(SOUND, 0), NONE, NONE);
	run_case("patch_conv_fwd", (hd_shape){{2, 4, 4, 3, 5, 2}}, HD_F32);
	cr_expect_eq(count(read_file(), "\tpatch_conv_fwd\t"), 1, "%s", text);
	cr_expect(count(text, "\tproduct\t") >= 1, "%s", text);
}

/* Largest error of a product in units of the sum of its terms' absolute values. */
static double largest_error(void)
{
	enum { ROWS = 8, C = 32, K = 8 };
	static float x[ROWS * C], w[K * C], y[ROWS * K];
	float *device;
	double worst = 0;
	for (int i = 0; i < ROWS * C; i++)
		x[i] = sinf((float)i) + 0.25f;
	for (int i = 0; i < K * C; i++)
		w[i] = cosf((float)(3 * i)) + 0.25f;
	cr_assert_eq(backend->alloc(backend, (void **)&device, sizeof x + sizeof w + sizeof y), HD_OK);
	float *device_w = device + ROWS * C, *device_y = device_w + K * C;
	cr_assert_eq(backend->upload(backend, device, x, sizeof x, NULL), HD_OK);
	cr_assert_eq(backend->upload(backend, device_w, w, sizeof w, NULL), HD_OK);
	hd_status st = hd_cuda_linear_fwd(device_y, device, device_w, NULL, HD_F32, ROWS, C, K, NULL);
	cr_assert_eq(st, HD_OK, "%s", hd_error_text());
	cr_assert_eq(backend->download(backend, y, device_y, sizeof y, NULL), HD_OK);
	backend->free(backend, device);
	for (int r = 0; r < ROWS; r++) {
		for (int k = 0; k < K; k++) {
			double sum = 0, size = 0;
			for (int c = 0; c < C; c++) {
				double term = (double)x[r * C + c] * (double)w[k * C + c];
				sum += term;
				size += fabs(term);
			}
			worst = fmax(worst, fabs((double)y[r * K + k] - sum) / size);
		}
	}
	return worst;
}

Test(product, tf32_is_a_wish, .init = begin, .fini = end)
{
	/* C terms of float sums, and factors of 11 bits: (1 + 2^-11)^2 - 1 */
	double sums = (hd_sum_c(32) + 1) * HD_EPS, factors = 0x1p-10 + 0x1p-22;
	find(KIND(SOUND, 0), KIND(SPLIT, 0), KIND(WRONG, 0));
	double error = largest_error();
	cr_expect(error <= sums, "float32 is off by %g", error);
	hd_cuda_linear_allow_tf32(true);
	error = largest_error();
	cr_expect(error > sums && error <= sums + factors, "TF32 is off by %g, which is not between %g and %g", error,
	        sums, sums + factors);
	cr_expect_eq(count(read_file(), "\tproduct\ttf32\t"), 1, "%s", text);
	cr_expect_eq(count(text, "\tproduct\tf32\t"), 1, "%s", text);
	hd_cuda_linear_allow_tf32(false);
	error = largest_error();
	cr_expect(error <= sums, "float32 is off by %g", error);
	cr_expect(strstr(take_notes(), "2 algorithms left out"), "got: %s", text);
}

/* Shapes of the cases, in every type and with every beta, by an algorithm that sums in another order. */
Test(product, cases_by_a_tuned_algorithm, .init = begin, .fini = end)
{
	static const char *const names[] = {"linear_fwd", "linear_bwd_data", "linear_bwd_weight"};
	static const double betas[] = {0, 1, 0.5};
	find(KIND(FLICKERS, 0), KIND(SPLIT, 0), NONE);
	for (int i = 0; i < 3; i++) {
		const hd_case *op = hd_case_find(names[i]);
		int types;
		const hd_dtype *dtypes = hd_case_dtypes(op, &types);
		for (int s = 0; s < op->shape_count; s += 3) {
			for (int b = 0; b < (op->betas ? 3 : 1) * types; b++) {
				hd_case_run run;
				hd_status st = hd_case_run_make(
				        &run, op, &op->shapes[s], 0, betas[b / types], dtypes[b % types], 3, backend);
				if (st == HD_OK)
					st = hd_case_run_check(&run, backend);
				hd_case_run_free(&run, backend);
				cr_expect(st == HD_OK, "%s", hd_error_text());
			}
		}
	}
	expect_last(HD_FAKE_CUBLASLT_SPLIT, -1);
	cr_expect_eq(count(read_file(), "splitk=1\t"), 0, "%s", text);
}
