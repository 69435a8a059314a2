/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tuner with made-up ways, and the ways by cuDNN against the cases of their operations, all on the emulated device
 * with the stand-in for cuDNN.
 */
#include <criterion/criterion.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/tune.h"
#include "kernels/cuda/turn.h"
#include "tests/cases/case.h"
#include "tests/cuda_emu/fakes/cudnn.h"
#include "tests/gpu/tuner_fixture.h"

#define N 300
#define TOO_LARGE 99 /* for m: a shape that wants more work than there is memory */

static void begin(void)
{
	hd_fake_cudnn_mood_now = HD_FAKE_CUDNN_SOUND;
	begin_with("deep/tuning.tsv");
}

static void end(void)
{
	char name[160];
	if (backend)
		close_backend();
	cr_expect_eq(hd_fake_cudnn_descriptors, 0, "%d descriptors of cuDNN left", hd_fake_cudnn_descriptors);
	snprintf(name, sizeof name, "%s.lock", file);
	unlink(name);
	unlink(file);
	snprintf(name, sizeof name, "%s/deep", folder);
	cr_expect(rmdir(name) == 0 || access(name, F_OK) != 0, "%s holds something else", name);
	rmdir(folder);
}

/* ---- made-up ways of y = beta*y + a + b ---- */

static int calls[HD_TUNE_WAYS];
static int delay_us[HD_TUNE_WAYS];
static enum { SOUND, WRONG, NOT_A_NUMBER, ADDS_TO_OLD, FLICKERS, CANNOT, NO_MEMORY, FAILS_LATER } habit;

static hd_status sum(const hd_tune_call *c, hd_stream *stream)
{
	hd_status st;
	float *y = c->out[0];
	if (c->beta == 0)
		return hd_cuda_add(y, c->in[0], c->in[1], c->size[0], stream);
	HD_TRY(hd_cuda_turn(y, c->in[0], c->beta, 1, c->size[0], hd_cuda_stream(stream)));
	HD_TRY(hd_cuda_add(y, y, c->in[1], c->size[0], stream));
done:
	return st;
}

static hd_status timed_sum(int way, const hd_tune_call *c, hd_stream *stream)
{
	calls[way]++;
	usleep((unsigned)delay_us[way]);
	return sum(c, stream);
}

static hd_status ours(const hd_tune_call *c, hd_stream *stream, char *why)
{
	(void)why;
	return timed_sum(0, c, stream);
}

static hd_status second(const hd_tune_call *c, hd_stream *stream, char *why)
{
	(void)why;
	return timed_sum(1, c, stream);
}

static hd_status odd(const hd_tune_call *c, hd_stream *stream, char *why)
{
	float *y = c->out[0];
	void *p = NULL;
	if (habit == CANNOT || (habit == FAILS_LATER && calls[2] > 30)) {
		snprintf(why, HD_TUNE_WHY, "does not feel like it");
		return HD_E_UNSUPPORTED;
	}
	if (habit == NO_MEMORY)
		return hd_cuda_check(cudaMalloc(&p, (size_t)1 << 60), "odd");
	hd_tune_call changed = *c;
	if (habit == ADDS_TO_OLD && c->beta == 0)
		changed.beta = 1;
	hd_status st = timed_sum(2, &changed, stream);
	if (st == HD_OK && habit == WRONG)
		st = hd_cuda_add(y + 7, y + 7, c->in[0], 1, stream);
	if (st == HD_OK && habit == NOT_A_NUMBER)
		st = hd_cuda_check(cudaMemsetAsync(y + 7, 0xff, sizeof *y, hd_cuda_stream(stream)), "odd");
	if (st == HD_OK && habit == FLICKERS && (calls[2] - 1) / 2 % 2) {
		/* by one rounding, which the bound allows */
		const float tiny = 0x1p-24f;
		st = hd_cuda_check(cudaMemcpyAsync((float *)c->work, &tiny, sizeof tiny, cudaMemcpyHostToDevice,
		                           hd_cuda_stream(stream)),
		        "odd");
		for (int i = 0; st == HD_OK && i < N; i++)
			st = hd_cuda_add(y + i, y + i, c->work, 1, stream);
	}
	return st;
}

static int64_t one_output(const int64_t *size, int i)
{
	return i == 0 ? size[0] : 0;
}

static int64_t two_inputs(const int64_t *size, int i)
{
	return i < 2 ? size[0] : 0;
}

static int64_t three_terms(const int64_t *size)
{
	(void)size;
	return 3;
}

static size_t some_work(const int64_t *size)
{
	return size[1] == TOO_LARGE ? (size_t)1 << 50 : sizeof(float);
}

static const hd_tune_op made_up = {
        .name = "made_up",
        .sizes = "n m",
        .ways = {{"ours", ours, NULL}, {"second", second, NULL}, {"odd", odd, NULL}},
        .scaled = true,
        .out_count = one_output,
        .in_count = two_inputs,
        .terms = three_terms,
        .work_bytes = some_work,
};

/* Runs it on numbers, in another shape for every m, and looks at the result. */
static void run_made_up(int64_t m)
{
	float a[N], b[N], y[N];
	void *device[4];
	for (int i = 0; i < N; i++) {
		a[i] = (float)i;
		b[i] = (float)(m * 1000);
	}
	for (int i = 0; i < 4; i++)
		cr_assert_eq(backend->alloc(backend, &device[i], sizeof a), HD_OK);
	cr_assert_eq(backend->upload(backend, device[1], a, sizeof a, NULL), HD_OK);
	cr_assert_eq(backend->upload(backend, device[2], b, sizeof b, NULL), HD_OK);
	hd_tune_call call = {
	        .dt = HD_F32, .size = {N, m}, .out = {device[0]}, .in = {device[1], device[2]}, .work = device[3]};
	cr_assert_eq(hd_cuda_tune_run(&made_up, &call, NULL), HD_OK, "%s", hd_error_text());
	cr_assert_eq(backend->download(backend, y, device[0], sizeof y, NULL), HD_OK);
	for (int i = 0; i < N; i++)
		cr_assert(y[i] == a[i] + b[i], "element %d: got %g, want %g", i, (double)y[i], (double)(a[i] + b[i]));
	for (int i = 0; i < 4; i++)
		backend->free(backend, device[i]);
}

static void expect_chosen(int64_t m, const char *want)
{
	hd_tune_call call = {.dt = HD_F32, .size = {N, m}};
	const char *got = hd_cuda_tune_chosen(&made_up, &call);
	cr_expect_str_eq(got ? got : "none", want, "m %ld: got %s, want %s", (long)m, got ? got : "none", want);
}

static void set(int first, int other, int last)
{
	delay_us[0] = first;
	delay_us[1] = other;
	delay_us[2] = last;
	memset(calls, 0, sizeof calls);
}

Test(tune, fastest_way_is_taken_and_kept, .init = begin, .fini = end)
{
	habit = SOUND;
	set(20000, 2000, 40000);
	run_made_up(1);
	expect_chosen(1, "second");
	set(2000, 40000, 20000);
	run_made_up(2);
	expect_chosen(2, "ours");
	set(40000, 20000, 2000);
	run_made_up(3);
	expect_chosen(3, "odd");
	/* a line for each choice, and nothing else */
	cr_expect_eq(count(take_notes(), "\n"), 3, "%s", text);
	cr_expect_eq(count(text, "tuning: made_up n=300 m=1: by second, "), 1, "%s", text);
	cr_expect_eq(count(text, "tuning: made_up n=300 m=2: by ours, "), 1, "%s", text);
	cr_expect_eq(count(text, "tuning: made_up n=300 m=3: by odd, "), 1, "%s", text);
	cr_expect_eq(count(read_file(), "\tmade_up\tf32\tn=300 m="), 3, "%s", text);
	cr_expect_eq(count(text, "m=1\tsecond\t"), 1, "%s", text);
	cr_expect_eq(count(text, "m=2\tours\t"), 1, "%s", text);
	/* known shapes are not tried again */
	set(0, 0, 0);
	run_made_up(1);
	cr_expect(calls[0] == 0 && calls[1] == 1 && calls[2] == 0, "got %d %d %d calls", calls[0], calls[1], calls[2]);
	/* nor by the next run, whatever is fast by then */
	close_backend();
	open_backend();
	set(0, 12000, 0);
	run_made_up(1);
	expect_chosen(1, "second");
	cr_expect(calls[0] == 0 && calls[1] == 1 && calls[2] == 0, "got %d %d %d calls", calls[0], calls[1], calls[2]);
}

Test(tune, ours_stays_where_others_are_about_as_fast, .init = begin, .fini = end)
{
	habit = SOUND;
	set(40000, 39800, 40000);
	run_made_up(1);
	expect_chosen(1, "ours");
}

static void expect_left_out(int habit_now, const char *reason)
{
	habit = habit_now;
	set(20000, 2000, 0);
	run_made_up(habit_now);
	expect_chosen(habit_now, "second");
	cr_expect(strstr(take_notes(), "odd is left out: ") && strstr(text, reason), "habit %d: want '%s', got: %s",
	        habit_now, reason, text);
}

Test(tune, ways_that_are_not_sound_are_left_out, .init = begin, .fini = end)
{
	expect_left_out(WRONG, "output 0, index 7: ");
	expect_left_out(NOT_A_NUMBER, "nan");
	expect_left_out(ADDS_TO_OLD, "nan");
	expect_left_out(FLICKERS, "the second time");
	expect_left_out(CANNOT, "does not feel like it");
	expect_left_out(NO_MEMORY, "status");
	/* the device is sound afterwards */
	cr_expect_eq(cudaGetLastError(), cudaSuccess);
}

Test(tune, a_way_that_fails_later_gives_its_place_up, .init = begin, .fini = end)
{
	habit = SOUND;
	set(20000, 2000, 0);
	run_made_up(1);
	expect_chosen(1, "odd");
	habit = FAILS_LATER;
	calls[2] = 31;
	run_made_up(1);
	expect_chosen(1, "ours");
	cr_expect(strstr(take_notes(), "odd fails, ours takes its place: does not feel like it"), "got: %s", text);
}

Test(tune, off_takes_ours, .init = begin, .fini = end)
{
	habit = SOUND;
	setenv("HEIMDALL_TUNING", "off", 1);
	set(400, 0, 0);
	run_made_up(1);
	cr_expect(calls[0] == 1 && calls[1] == 0 && calls[2] == 0, "got %d %d %d calls", calls[0], calls[1], calls[2]);
	cr_expect_str_eq(read_file(), "");
	cr_expect_str_eq(take_notes(), "");
}

Test(tune, other_machines_and_broken_lines_do_not_count, .init = begin, .fini = end)
{
	habit = SOUND;
	set(20000, 2000, 40000);
	run_made_up(1);
	char kept[TEXT], changed[TEXT + 64];
	snprintf(kept, sizeof kept, "%s", read_file());
	close_backend();
	/* another device's line, one that was cut off and one that names a way of which there is none */
	char *line = strstr(kept, "way_us\n") + 7, *way = strstr(line, "second");
	snprintf(changed, sizeof changed, "Other %s%.*snone\t1\t1\n%.*s", line, (int)(way - line), line, 20, line);
	write_file(changed);
	open_backend();
	set(2000, 30000, 30000);
	run_made_up(1);
	expect_chosen(1, "ours");
	cr_expect_eq(strncmp(read_file(), changed, strlen(changed)), 0, "what was there is gone: %s", text);
}

Test(tune, captured_streams_are_not_measured, .init = begin, .fini = end)
{
	float *p;
	cudaGraph_t graph;
	habit = SOUND;
	set(12000, 0, 0);
	cr_assert_eq(backend->alloc(backend, (void **)&p, 4 * N * sizeof *p), HD_OK);
	hd_tune_call call = {.dt = HD_F32, .size = {N, 5}, .out = {p}, .in = {p + N, p + 2 * N}, .work = p + 3 * N};
	cr_assert_eq(cudaStreamBeginCapture(hd_cuda_main_stream.cuda, cudaStreamCaptureModeThreadLocal), cudaSuccess);
	cr_expect_eq(hd_cuda_tune_run(&made_up, &call, NULL), HD_OK);
	cr_expect_eq(cudaStreamEndCapture(hd_cuda_main_stream.cuda, &graph), cudaSuccess);
	cr_expect_eq(cudaGraphDestroy(graph), cudaSuccess);
	cr_expect(calls[0] == 1 && calls[1] == 0 && calls[2] == 0, "got %d %d %d calls", calls[0], calls[1], calls[2]);
	backend->free(backend, p);
	/* and that is what the run goes on with */
	run_made_up(5);
	expect_chosen(5, "ours");
	cr_expect_eq(count(read_file(), "m=5\tours\t-\t-"), 1, "%s", text);
	cr_expect(strstr(take_notes(), "while a graph is captured"), "got: %s", text);
}

Test(tune, a_file_that_cannot_be_written_is_said_once, .init = begin, .fini = end)
{
	habit = SOUND;
	setenv("HEIMDALL_TUNING", "/dev/null/tuning.tsv", 1);
	set(20000, 2000, 40000);
	run_made_up(1);
	run_made_up(2);
	expect_chosen(2, "second");
	cr_expect_eq(count(take_notes(), "choices are not kept"), 1, "got: %s", text);
}

Test(tune, out_of_memory_leaves_ours, .init = begin, .fini = end)
{
	habit = SOUND;
	set(12000, 0, 0);
	run_made_up(TOO_LARGE);
	expect_chosen(TOO_LARGE, "ours");
	cr_expect(strstr(take_notes(), "not measured, ours stays"), "got: %s", text);
}

/* In a process of its own, which finds the other way fast; its exit status is the way that it takes. */
static pid_t start_process(int other_us, int last_us)
{
	pid_t child = fork();
	if (child != 0)
		return child;
	open_backend();
	habit = SOUND;
	set(20000, other_us, last_us);
	run_made_up(1);
	hd_tune_call call = {.dt = HD_F32, .size = {N, 1}};
	const char *name = hd_cuda_tune_chosen(&made_up, &call);
	int way = 0;
	while (way < 2 && strcmp(made_up.ways[way].name, name) != 0)
		way++;
	close_backend();
	_exit(way);
}

Test(tune, processes_that_start_together_choose_alike, .init = begin, .fini = end)
{
	int status[2];
	close_backend();
	pid_t children[2] = {start_process(2000, 40000), start_process(40000, 2000)};
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(waitpid(children[i], &status[i], 0), children[i]);
		cr_assert(WIFEXITED(status[i]));
	}
	cr_expect_eq(WEXITSTATUS(status[0]), WEXITSTATUS(status[1]), "took ways %d and %d", WEXITSTATUS(status[0]),
	        WEXITSTATUS(status[1]));
	cr_expect_neq(WEXITSTATUS(status[0]), 0);
	cr_expect_eq(count(read_file(), "m=1\t"), 1, "%s", text);
}

/* ---- cuDNN's ways ---- */

/* Every shape of an operation's case, by the way that the file names: first as tuned, then with `way` written in. */
static void check_by(const char *name, const char *way)
{
	const hd_case *op = hd_case_find(name);
	static const double betas[] = {0, 1, 0.5};
	char changed[TEXT];
	int convolutions = 0, variants = op->variants > 1 ? op->variants : 1;
	for (int pass = 0; pass < 2; pass++) {
		convolutions = hd_fake_cudnn_convolutions;
		for (int s = 0; s < op->shape_count; s++) {
			for (int v = 0; v < variants; v++) {
				for (int b = 0; b < (op->betas ? 3 : 1); b++) {
					hd_case_run run;
					hd_status st = hd_case_run_make(
					        &run, op, &op->shapes[s], v, betas[b], HD_F32, 11, backend);
					if (st == HD_OK)
						st = hd_case_run_check(&run, backend);
					hd_case_run_free(&run, backend);
					cr_expect(st == HD_OK, "pass %d: %s", pass, hd_error_text());
				}
			}
		}
		convolutions = hd_fake_cudnn_convolutions - convolutions;
		if (pass == 1)
			break;
		take_notes();
		close_backend();
		/* the fifth field of every line */
		size_t used = 0;
		for (const char *line = strtok((char *)read_file(), "\n"); line; line = strtok(NULL, "\n")) {
			const char *field = line;
			for (int i = 0; *line != '#' && i < 4; i++)
				field = strchr(field, '\t') + 1;
			used += (size_t)snprintf(changed + used, sizeof changed - used, "%.*s%s%s\n",
			        (int)(field - line), line, field > line ? way : "",
			        field > line ? field + strcspn(field, "\t") : line);
		}
		write_file(changed);
		open_backend();
	}
	cr_expect(convolutions >= op->shape_count, "%s by %s: only %d convolutions by cuDNN", name, way, convolutions);
	take_notes();
	cr_expect_eq(count(text, "fails"), count(text, "do not cover"), "got: %s", text);
}

#define BY(test, operation, way)                                                                                       \
	Test(cudnn, test, .init = begin, .fini = end)                                                                  \
	{                                                                                                              \
		check_by(operation, way);                                                                              \
	}

BY(dwconv7_fwd, "dwconv7_fwd", "cudnn")
BY(dwconv7_fwd_precomp, "dwconv7_fwd", "cudnn-precomp")
BY(dwconv7_bwd_data, "dwconv7_bwd_data", "cudnn")
BY(dwconv7_bwd_weight, "dwconv7_bwd_weight", "cudnn")
BY(dwconv7_fwd_kcrs, "dwconv7_fwd", "cudnn-kcrs")
BY(dwconv7_fwd_precomp_kcrs, "dwconv7_fwd", "cudnn-precomp-kcrs")
BY(dwconv7_bwd_data_kcrs, "dwconv7_bwd_data", "cudnn-kcrs")
BY(dwconv7_bwd_weight_kcrs, "dwconv7_bwd_weight", "cudnn-kcrs")
BY(patch_conv_fwd, "patch_conv_fwd", "cudnn")
BY(patch_conv_fwd_precomp, "patch_conv_fwd", "cudnn-precomp")
BY(patch_conv_bwd_data, "patch_conv_bwd_data", "cudnn")
BY(patch_conv_bwd_weight, "patch_conv_bwd_weight", "cudnn")

/* How many convolutions by cuDNN a run of patch_conv_fwd has once its way is chosen. */
static int convolutions_of(hd_conv conv, int64_t p)
{
	hd_case_run run;
	const hd_shape shape = {{2, 4, 8, 3, 5, p}};
	hd_cuda_tune_conv(conv);
	hd_status st = hd_case_run_make(&run, hd_case_find("patch_conv_fwd"), &shape, 0, 0, HD_F32, 9, backend);
	if (st == HD_OK)
		st = hd_case_run_check(&run, backend);
	int before = hd_fake_cudnn_convolutions;
	if (st == HD_OK)
		st = hd_case_run_check(&run, backend);
	hd_case_run_free(&run, backend);
	cr_expect(st == HD_OK, "%s", hd_error_text());
	return hd_fake_cudnn_convolutions - before;
}

static void expect_conv_settings(void)
{
	cr_expect_eq(convolutions_of(HD_CONV_OWN, 2), 0);
	cr_expect_eq(convolutions_of(HD_CONV_CUDNN, 2), 2);
	/* patches that leave a border are none that cuDNN can */
	cr_expect_eq(convolutions_of(HD_CONV_CUDNN, 3), 0);
	hd_cuda_tune_conv(HD_CONV_AUTO);
}

Test(conv, setting_narrows_the_ways, .init = begin, .fini = end)
{
	expect_conv_settings();
	read_file();
	cr_expect(strstr(text, "\tpatch_conv_fwd by cudnn\tf32\t") && !strstr(text, "by own"), "%s", text);
	/* and from the file */
	close_backend();
	open_backend();
	expect_conv_settings();
}

Test(conv, setting_holds_where_tuning_is_off, .init = begin, .fini = end)
{
	setenv("HEIMDALL_TUNING", "off", 1);
	expect_conv_settings();
	cr_expect_eq(convolutions_of(HD_CONV_AUTO, 2), 0);
}

Test(conv, without_cudnn_ours_runs_whatever_the_setting, .init = begin, .fini = end)
{
	hd_fake_cudnn_mood_now = HD_FAKE_CUDNN_ABSENT;
	close_backend();
	open_backend();
	cr_expect_eq(convolutions_of(HD_CONV_CUDNN, 2), 0);
	hd_cuda_tune_conv(HD_CONV_AUTO);
}

/* Made-up ways are not cuDNN's: they take part in what is our own, and in nothing else. */
Test(conv, other_ways_are_not_cudnn, .init = begin, .fini = end)
{
	habit = SOUND;
	set(20000, 2000, 40000);
	hd_cuda_tune_conv(HD_CONV_CUDNN);
	run_made_up(1);
	expect_chosen(1, "ours");
	hd_cuda_tune_conv(HD_CONV_OWN);
	run_made_up(1);
	expect_chosen(1, "second");
	hd_cuda_tune_conv(HD_CONV_AUTO);
}

/* One shape of an operation with cuDNN in a mood; the operation is right whatever cuDNN does. */
static void check_in_mood(hd_fake_cudnn_mood mood, const char *reason)
{
	const hd_case *op = hd_case_find("dwconv7_bwd_weight");
	const hd_shape shape = {{1, 3, 8, 31}};
	hd_case_run run;
	hd_fake_cudnn_mood_now = mood;
	close_backend();
	unlink(file);
	open_backend();
	hd_status st = hd_case_run_make(&run, op, &shape, 0, 0.5, HD_F32, 5, backend);
	if (st == HD_OK)
		st = hd_case_run_check(&run, backend);
	hd_case_run_free(&run, backend);
	cr_expect(st == HD_OK, "%s", hd_error_text());
	cr_expect(*reason ? strstr(take_notes(), reason) != NULL : !*take_notes(), "want '%s', got: %s", reason, text);
}

Test(cudnn, its_errors_stop_nothing, .init = begin, .fini = end)
{
	check_in_mood(HD_FAKE_CUDNN_WRONG, "cudnn is left out: output 0");
	check_in_mood(HD_FAKE_CUDNN_REFUSES, "convolution: 3000 CUDNN_STATUS_NOT_SUPPORTED");
	check_in_mood(HD_FAKE_CUDNN_GREEDY, "wants 1099511627776 bytes of workspace");
	check_in_mood(HD_FAKE_CUDNN_ABSENT, "");
}
