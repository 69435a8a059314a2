/* SPDX-License-Identifier: Apache-2.0 */
/* Training on a device with memory of its own, which the CPU plays: results come late, files are written beside. */
#include <math.h>

#include "host/train/writer.h"
#include "tests/program.h"

#define SMALL                                                                                                          \
	" --data_dir $D/data --sample_rate 48000 --n_fft 512 --hop_length 128 --batch_size 4 --warmup_epochs 0 "       \
	"--receivers all --backbone_size atto --pretrained none --threads 1 --log_every_n_steps 1 --no_export "

static const hd_model_config tiny = {
        .backbone = {"tiny-test", {1, 1, 1, 1}, {8, 16, 24, 32}, false},
        .channels = 3,
        .height = 32,
        .width = 32,
        .batch = 2,
        .head_layers = 1,
        .head_widths = {16},
        .layer_decay = 1,
        .loss = {.lo = 0.01f, .hi = 1.0f},
        .average = true,
};

typedef struct fixture {
	hd_backend *backend;
	hd_model *model;
	hd_settings settings;
	hd_data_card card;
	hd_writer writer;
} fixture;

static void begin(fixture *f, const char *own_memory)
{
	*f = (fixture){.card = {.receivers = (char *)"a,b,c", .channels = 3, .height = 32}};
	make_folder();
	setenv("HD_CPU_OWN_MEMORY", own_memory, 1);
	cr_assert_eq(hd_backend_open(&f->backend, "cpu", NULL, 1), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_settings_init(&f->settings), HD_OK);
	cr_assert_eq(hd_model_create(&f->model, f->backend, &tiny), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_model_initialize(f->model, 7), HD_OK);
	cr_assert_eq(hd_model_start_average(f->model), HD_OK);
	cr_assert_eq(hd_writer_open(&f->writer, f->model, f->backend, &f->settings, &f->card), HD_OK);
}

static void end(fixture *f)
{
	hd_writer_close(&f->writer);
	hd_model_free(f->model);
	hd_settings_free(&f->settings);
	hd_backend_close(f->backend);
	remove_data();
}

static void add_file(hd_write_job *job, const char *name, bool with_state)
{
	job->files[job->count].with_state = with_state;
	cr_assert(asprintf(&job->files[job->count++].path, "%s/%s", folder, name) > 0);
}

/* All tensors of the model become NaN. */
static void spoil(fixture *f)
{
	int count;
	const hd_parameter *p = hd_model_parameters(f->model, &count);
	for (int i = 0; i < count; i++) {
		float *values = malloc((size_t)p[i].size * sizeof *values);
		for (int64_t k = 0; k < p[i].size; k++)
			values[k] = NAN;
		for (hd_flat flat = 0; flat < HD_FLAT_COUNT; flat++)
			if (hd_model_has(f->model, flat, i))
				cr_assert_eq(hd_model_write(f->model, flat, i, values), HD_OK);
		free(values);
	}
}

/* Tensors of a file; none may hold what came into the model after the write was started. */
static size_t count_whole(const char *name)
{
	char path[512];
	hd_safetensors file;
	snprintf(path, sizeof path, "%s/%s", folder, name);
	cr_assert_eq(hd_safetensors_open(&file, path, true), HD_OK, "%s", hd_error_text());
	size_t count = file.tensor_count;
	for (size_t i = 0; i < count; i++) {
		const float *values = file.tensors[i].data;
		for (size_t k = 0; k < file.tensors[i].bytes / sizeof *values; k++)
			cr_assert(isfinite(values[k]), "%s: %s[%zu] is %g", name, file.tensors[i].name, k,
			        (double)values[k]);
	}
	hd_safetensors_close(&file);
	return count;
}

static void check_written(const char *own_memory)
{
	fixture f;
	hd_write_job job = {0};
	int parameters;
	begin(&f, own_memory);
	hd_model_parameters(f.model, &parameters);
	add_file(&job, "best.safetensors", false);
	add_file(&job, "last.safetensors", true);
	cr_assert_eq(shell("touch $D/old"), 0);
	cr_assert(asprintf(&job.removed, "%s/old", folder) > 0);
	job.state.global_step = 11;
	cr_assert_eq(hd_writer_start(&f.writer, &job), HD_OK, "%s", hd_error_text());
	cr_assert_eq(job.count, 0, "the job was not taken over");
	spoil(&f);
	cr_assert_eq(hd_writer_wait(&f.writer), HD_OK, "%s", hd_error_text());
	cr_expect_eq(count_whole("best.safetensors"), (size_t)parameters);
	cr_expect_eq(count_whole("last.safetensors"), 4 * (size_t)parameters);
	cr_expect_neq(shell("test -e $D/old"), 0, "what should be removed is there");
	end(&f);
}

Test(writer, writes_what_the_model_was_when_it_started)
{
	check_written("1");
}

Test(writer, writes_at_once_where_memory_is_the_hosts)
{
	fixture f;
	begin(&f, "0");
	cr_expect_null(f.writer.snapshot, "a copy of the model in host memory");
	end(&f);
	check_written("0");
}

static void start_write(fixture *f, const char *name, hd_status want)
{
	hd_write_job job = {0};
	add_file(&job, name, true);
	hd_status st = hd_writer_start(&f->writer, &job);
	cr_assert_eq(st, want, "%d: %s", (int)st, hd_error_text());
}

Test(writer, error_comes_with_the_next_call)
{
	fixture f;
	begin(&f, "1");
	start_write(&f, "nowhere/last.safetensors", HD_OK);
	cr_assert_eq(hd_writer_wait(&f.writer), HD_E_IO);
	cr_expect_not_null(strstr(hd_error_text(), "nowhere/last.safetensors"), "%s", hd_error_text());
	cr_assert_eq(hd_writer_wait(&f.writer), HD_OK, "an error that was given comes again: %s", hd_error_text());
	start_write(&f, "nowhere/last.safetensors", HD_OK);
	start_write(&f, "last.safetensors", HD_E_IO);
	start_write(&f, "nowhere/last.safetensors", HD_OK);
	hd_status st = HD_OK;
	for (int i = 0; st == HD_OK && i < 1000; i++) {
		st = hd_writer_check(&f.writer);
		usleep(1000);
	}
	cr_assert_eq(st, HD_E_IO, "hd_writer_check never says so");
	end(&f);
}

/* Copies in both directions through memory of alloc_host, ordered by events. */
Test(writer, copies_between_streams)
{
	fixture f;
	begin(&f, "1");
	hd_backend *b = f.backend;
	hd_stream *stream;
	hd_event *event;
	int *in, *out, *device;
	cr_assert_eq(b->open_stream(b, &stream), HD_OK);
	cr_assert_eq(b->open_event(b, &event), HD_OK);
	cr_assert_eq(b->alloc_host(b, (void **)&in, sizeof *in), HD_OK);
	cr_assert_eq(b->alloc_host(b, (void **)&out, sizeof *out), HD_OK);
	cr_assert_eq(b->alloc(b, (void **)&device, sizeof *device), HD_OK);
	cr_assert_eq(b->wait(b, event), HD_OK);
	*in = 12345;
	cr_assert_eq(b->copy(b, device, in, sizeof *in, stream), HD_OK);
	cr_assert_eq(b->record(b, event, stream), HD_OK);
	cr_assert_eq(b->await(b, NULL, event), HD_OK);
	cr_assert_eq(b->copy(b, out, device, sizeof *out, NULL), HD_OK);
	cr_assert_eq(b->sync(b, NULL), HD_OK);
	cr_expect_eq(*out, 12345, "got %d", *out);
	b->free(b, device);
	b->free_host(b, out);
	b->free_host(b, in);
	b->close_event(b, event);
	b->close_stream(b, stream);
	end(&f);
}

/* ---- whole trainings ---- */

static void make_data(void)
{
	make_folder();
	cr_assert_eq(heimdall("synth --out $D/data --sessions 30 --sample_rate 48000 --samples 3968"), 0, "%s", text);
}

static void expect_same_tensors(const char *name)
{
	char path[512];
	hd_safetensors a, b;
	snprintf(path, sizeof path, "%s/host/%s", folder, name);
	cr_assert_eq(hd_safetensors_open(&a, path, true), HD_OK, "%s", hd_error_text());
	snprintf(path, sizeof path, "%s/own/%s", folder, name);
	cr_assert_eq(hd_safetensors_open(&b, path, true), HD_OK, "%s", hd_error_text());
	cr_assert_eq(a.tensor_count, b.tensor_count);
	for (size_t i = 0; i < a.tensor_count; i++) {
		const hd_tensor *t = hd_safetensors_find(&b, a.tensors[i].name);
		cr_assert(t && t->bytes == a.tensors[i].bytes && !memcmp(t->data, a.tensors[i].data, t->bytes),
		        "%s: %s differs", name, a.tensors[i].name);
	}
	cr_expect_str_eq(hd_safetensors_metadata(&a, "state"), hd_safetensors_metadata(&b, "state"));
	hd_safetensors_close(&b);
	hd_safetensors_close(&a);
}

Test(own_memory, gives_the_same_files, .timeout = 180)
{
	make_data();
	const char *const options = SMALL "--epochs 3 --accumulate_grad_batches 2 --ema_decay 0.9 --checkpoint_every 2 "
	                                  "--save_top_k 1";
	char words[1024];
	snprintf(words, sizeof words, "HD_CPU_OWN_MEMORY=0 \"$H\" train --checkpoint_dir $D/host %s", options);
	cr_assert_eq(shell(words), 0, "%s", text);
	snprintf(words, sizeof words, "HD_CPU_OWN_MEMORY=1 \"$H\" train --checkpoint_dir $D/own %s", options);
	cr_assert_eq(shell(words), 0, "%s", text);
	expect_same_tensors("last.safetensors");
	expect_same_tensors("best.safetensors");
	cr_assert_eq(shell("cmp $D/host/steps.csv $D/own/steps.csv && test $(wc -l < $D/own/steps.csv) -gt 6"), 0, "%s",
	        text);
	cr_assert_eq(
	        shell("for d in host own; do ls $D/$d > $D/$d.files; sed 's/,[^,]*$//' $D/$d/metrics.csv > "
	              "$D/$d.metrics; done; diff $D/host.files $D/own.files && diff $D/host.metrics $D/own.metrics"),
	        0, "%s", text);
	remove_data();
}

/* The step behind the bad one is queued by then: the bad one is named all the same. */
Test(own_memory, names_the_step_that_is_not_finite, .timeout = 180)
{
	make_data();
	char said[2][2048] = {{0}};
	for (int own = 0; own < 2; own++) {
		char words[1024];
		snprintf(words, sizeof words,
		        "HD_CPU_OWN_MEMORY=%d \"$H\" train --checkpoint_dir $D/ck%d" SMALL
		        "--gradient_clip 0 --learning_rate 10 --weight_decay 10 --epochs 30",
		        own, own);
		cr_assert_eq(shell(words), 1, "%s", text);
		expect_text("sessions/s0000");
		const char *line = strstr(text, "is not finite in epoch");
		cr_assert_not_null(line, "%s", text);
		snprintf(said[own], sizeof said[own], "%s", line);
	}
	cr_expect_str_eq(said[0], said[1]);
	/* the checkpoint of before is whole */
	cr_assert_eq(heimdall("train --resume_training --learning_rate 0.0001 --checkpoint_dir $D/ck1" SMALL
	                      "--epochs 1 --checkpoint $D/ck1/last.safetensors"),
	        0, "%s", text);
	remove_data();
}

Test(own_memory, ends_where_a_checkpoint_cannot_be_written, .timeout = 180)
{
	make_data();
	cr_assert_eq(shell("mkdir -p $D/ck/last.safetensors"), 0);
	cr_assert_eq(
	        shell("HD_CPU_OWN_MEMORY=1 \"$H\" train --checkpoint_dir $D/ck" SMALL "--epochs 3"), 1, "%s", text);
	expect_text("last.safetensors: cannot replace");
	remove_data();
}
