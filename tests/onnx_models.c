/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random models as ONNX files, with what the engine itself makes of some features: for tests/onnx_models.py.
 *
 *   onnx_models cases                       the names of all cases
 *   onnx_models case FOLDER NAME OPSET...   NAME.safetensors (features, mu, sigma, positions), NAME.OPSET.onnx
 *   onnx_models positions FOLDER            K.safetensors, K.onnx: nothing but positions, for many origins
 *   onnx_models beyond FOLDER               beyond.onnx: weights of more than 2 GiB
 *   onnx_models checkpoint FILE NAME        the case's checkpoint alone
 *   onnx_models write CHECKPOINT FILE       one file from a checkpoint, and what that took
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "heimdall/checkpoint.h"
#include "heimdall/features.h"
#include "host/common/memory.h"
#include "host/export/network.h"
#include "kernels/half.h"
#include "tests/random_weights.h"

enum { ROWS = 3, MELS = 64, FRAMES = 96, CHANNELS_MAX = 8, PLACES = 4096 };

typedef struct model_case {
	const char *name, *size;
	int channels;
	const char *head_widths, *head_norm, *bound, *gelu;
	bool own, offsets; /* normalised by each recording's own levels; offsets taken out of receivers' levels */
} model_case;

static const model_case cases[] = {
        {"atto", "atto", 3, "128,64", "layer", "smooth", "erf", false, false},
        {"batch", "atto", 3, "96,48,32", "batch", "clamp", "erf", false, false},
        {"offsets", "atto", 5, "64", "layer", "smooth", "erf", false, true},
        {"own", "atto", 1, "64", "batch", "smooth", "erf", true, false},
        {"own-offsets", "atto", 4, "128,64", "layer", "clamp", "erf", true, true},
        {"tanh", "atto", 3, "128,64", "layer", "smooth", "tanh", false, false},
        {"femto", "femto", 3, "128,64", "layer", "smooth", "erf", false, false},
        {"pico", "pico", 3, "128,64", "layer", "smooth", "erf", false, false},
        {"nano", "nano", 3, "128,64", "layer", "smooth", "erf", false, false},
        {"tiny", "tiny", 3, "512,128,64", "layer", "smooth", "erf", false, false},
        {"small", "small", 3, "128,64", "layer", "smooth", "erf", false, false},
        {"base", "base", 3, "128,64", "layer", "smooth", "erf", false, false},
        {"large", "large", 3, "128,64", "layer", "smooth", "erf", false, false},
        {"xlarge", "xlarge", 3, "128,64", "layer", "smooth", "erf", false, false},
};
#define CASE_COUNT (sizeof cases / sizeof *cases)

/* Origins of frames: latitude, longitude. */
static const double origins[][2] = {{52.1234567, 13.4049391}, {-33.87, 151.21}, {0, 0}, {0.001, 179.9995},
        {-17.5, -179.93}, {64.2, 180}, {71.3, -180}, {89.98, 25.5}, {-89.98, -120}, {90, 0}, {-90, 77.7},
        {40.7128, -122.4194155}};
#define ORIGIN_COUNT (sizeof origins / sizeof *origins)

/* ---- a random model ---- */

static hd_status randomize(hd_model *model)
{
	hd_status st = HD_OK;
	int count;
	float *values = NULL;
	const hd_parameter *p = hd_model_parameters(model, &count);
	for (int i = 0; i < count; i++) {
		free(values);
		HD_TRY(hd_alloc(&values, (size_t)p[i].size, sizeof *values));
		for (int64_t k = 0; k < p[i].size; k++)
			values[k] = (float)random_weight(&p[i]);
		HD_TRY(hd_model_write(model, HD_FLAT_WEIGHTS, i, values));
	}
done:
	free(values);
	return st;
}

/* What a card's pointers lead to. */
typedef struct card_values {
	float mean[MELS], rstd[MELS], offset[CHANNELS_MAX];
} card_values;

static void make_card(hd_data_card *card, card_values *values, const model_case *c)
{
	static char receivers[] = "a,b,c,d,e,f,g,h";
	receivers[2 * c->channels - 1] = 0;
	*card = (hd_data_card){.receivers = receivers,
	        .channels = c->channels,
	        .frame = {.origin_latitude_deg = 52.1, .origin_longitude_deg = 13.4, .scale_m = 250000},
	        .centre_latitude_deg = 52,
	        .centre_longitude_deg = 13,
	        .sigma_min_m = 500,
	        .sigma_max_m = 400000,
	        .height = MELS};
	for (int m = 0; m < MELS; m++) {
		values->mean[m] = (float)uniform(-70, -50);
		values->rstd[m] = (float)uniform(0.05, 0.15);
	}
	for (int k = 0; k < c->channels; k++)
		values->offset[k] = k == 1 ? 0 : (float)uniform(-12, 12);
	if (!c->own) {
		card->mean = values->mean;
		card->rstd = values->rstd;
	}
	if (c->offsets)
		card->offset = values->offset;
}

static hd_status make_settings(hd_settings *s, const model_case *c)
{
	hd_status st;
	char mels[16], frames[16];
	snprintf(mels, sizeof mels, "%d", MELS);
	snprintf(frames, sizeof frames, "%d", FRAMES);
	HD_TRY(hd_settings_init(s));
	HD_TRY(hd_settings_set(s, "backbone_size", c->size, "case"));
	HD_TRY(hd_settings_set(s, "head_widths", c->head_widths, "case"));
	HD_TRY(hd_settings_set(s, "head_norm", c->head_norm, "case"));
	HD_TRY(hd_settings_set(s, "uncertainty_bound", c->bound, "case"));
	HD_TRY(hd_settings_set(s, "gelu", c->gelu, "case"));
	HD_TRY(hd_settings_set(s, "n_mels", mels, "case"));
	HD_TRY(hd_settings_set(s, "frames", frames, "case"));
done:
	return st;
}

static hd_status save_case(const char *path, hd_backend *backend, const model_case *c)
{
	hd_status st;
	hd_settings settings = {0};
	hd_data_card card;
	card_values values;
	hd_model_config config;
	hd_model *model = NULL;
	make_card(&card, &values, c);
	HD_TRY(make_settings(&settings, c));
	HD_TRY(hd_model_config_from(&config, &settings, &card, 1));
	config.inference = true;
	HD_TRY(hd_model_create(&model, backend, &config));
	HD_TRY(randomize(model));
	HD_TRY(hd_checkpoint_save(path, model, backend, &settings, &card, &(hd_train_state){0}, false));
done:
	hd_model_free(model);
	hd_settings_free(&settings);
	return st;
}

/* ---- the engine's answers ---- */

typedef struct answers {
	uint16_t *half; /* (N,C,M,W) */
	float *features;
	float mu[2 * ROWS], sigma[2 * ROWS];
	double positions[2 * ROWS];
} answers;

/* Levels as of receivers that hear more or less; the last one hears nothing. */
static hd_status make_features(answers *a, int64_t channels)
{
	hd_status st;
	int64_t window = MELS * FRAMES, size = ROWS * channels * window;
	HD_TRY(hd_alloc(&a->half, (size_t)size, sizeof *a->half));
	HD_TRY(hd_alloc(&a->features, (size_t)size, sizeof *a->features));
	for (int64_t i = 0; i < size; i++) {
		int64_t channel = i / window % channels;
		double db = channel > 0 && channel == channels - 1 ? HD_DB_SILENCE
		                                                   : uniform(-90, -60) + 5.0 * (double)channel;
		a->half[i] = hd_float_to_half((float)db);
		a->features[i] = hd_half_to_float(a->half[i]);
	}
done:
	return st;
}

static hd_status upload_new(hd_backend *b, void *out_pointer, const void *host, size_t bytes)
{
	void *p = NULL;
	hd_status st = host ? b->alloc(b, &p, bytes) : HD_OK;
	memcpy(out_pointer, &p, sizeof p);
	return host && st == HD_OK ? b->upload(b, p, host, bytes, NULL) : st;
}

static hd_status fill_input(hd_backend *b, hd_model *model, const hd_checkpoint *from, const answers *a)
{
	hd_status st;
	const hd_data_card *card = &from->card;
	size_t row = (size_t)card->height * sizeof(float);
	float silence_db[MELS], *mean = NULL, *rstd = NULL, *silence = NULL, *offset = NULL;
	uint16_t *db = NULL;
	int32_t *index = NULL, *start = NULL;
	for (int m = 0; m < MELS; m++)
		silence_db[m] = HD_DB_SILENCE;
	size_t values = (size_t)ROWS * card->channels * MELS * FRAMES;
	HD_TRY(upload_new(b, &db, a->half, values * sizeof *a->half));
	HD_TRY(upload_new(b, &index, (int32_t[ROWS]){0, 1, 2}, ROWS * sizeof *index));
	HD_TRY(upload_new(b, &start, (int32_t[ROWS]){0}, ROWS * sizeof *start));
	HD_TRY(upload_new(b, &mean, card->mean, row));
	HD_TRY(upload_new(b, &rstd, card->rstd, row));
	HD_TRY(upload_new(b, &silence, silence_db, row));
	HD_TRY(upload_new(b, &offset, card->offset, (size_t)card->channels * sizeof(float)));
	HD_TRY(b->ops.assemble_batch(hd_model_buffers(model)->input, db, index, start, mean, rstd, silence, offset,
	        NULL, NULL, NULL, HD_F32, ROWS, card->channels, MELS, FRAMES, FRAMES, NULL));
	HD_TRY(b->sync(b, NULL));
done:;
	void *device[] = {offset, silence, rstd, mean, start, index, db};
	for (size_t i = 0; i < sizeof device / sizeof *device; i++)
		b->free(b, device[i]);
	return st;
}

static hd_status ask_engine(answers *a, hd_backend *b, const hd_checkpoint *from)
{
	hd_status st;
	hd_model *model = NULL;
	HD_TRY(make_features(a, from->card.channels));
	HD_TRY(hd_checkpoint_model(&model, from, b, ROWS, false));
	const hd_model_io *io = hd_model_buffers(model);
	HD_TRY(fill_input(b, model, from, a));
	HD_TRY(b->fill(b, io->target, 0, sizeof a->mu, NULL));
	HD_TRY(b->fill(b, io->weight, 0, ROWS * sizeof(float), NULL));
	HD_TRY(hd_model_forward(model, false));
	HD_TRY(hd_model_loss(model, 1));
	HD_TRY(b->download(b, a->mu, io->mu, sizeof a->mu, NULL));
	HD_TRY(b->download(b, a->sigma, io->sigma, sizeof a->sigma, NULL));
	HD_TRY(b->sync(b, NULL));
	const hd_label_frame *f = &from->card.frame;
	for (int r = 0; r < ROWS; r++)
		hd_geo_from_local_m(f, (double)a->mu[2 * r] * f->scale_m, (double)a->mu[2 * r + 1] * f->scale_m,
		        &a->positions[2 * r], &a->positions[2 * r + 1]);
done:
	hd_model_free(model);
	return st;
}

static hd_tensor tensor(const char *name, hd_dtype dtype, const void *data, int ndim, const int64_t *shape)
{
	hd_tensor t = {
	        .name = (char *)name, .dtype = dtype, .ndim = ndim, .data = data, .bytes = dtype == HD_F64 ? 8 : 4};
	for (int d = 0; d < ndim; d++)
		t.bytes *= (size_t)(t.shape[d] = shape[d]);
	return t;
}

static hd_status save_answers(const char *path, const answers *a, const hd_data_card *card)
{
	const int64_t shape[] = {ROWS, card->channels, MELS, FRAMES}, pairs[] = {ROWS, 2};
	const double frame[] = {card->frame.origin_latitude_deg, card->frame.origin_longitude_deg, card->frame.scale_m};
	const hd_tensor tensors[] = {tensor("features", HD_F32, a->features, 4, shape),
	        tensor("mu", HD_F32, a->mu, 2, pairs), tensor("sigma", HD_F32, a->sigma, 2, pairs),
	        tensor("positions", HD_F64, a->positions, 2, pairs), tensor("frame", HD_F64, frame, 1, (int64_t[]){3})};
	return hd_safetensors_write(path, tensors, sizeof tensors / sizeof *tensors, NULL, 0);
}

/* ---- the files ---- */

static hd_status export_model(const char *path, const hd_checkpoint *from, int opset, hd_onnx_external external)
{
	hd_status st;
	hd_onnx *g = NULL;
	hd_onnx_value mu, sigma, positions, uncertainties;
	const hd_onnx_dim pair[] = {{.name = "N"}, {.size = 2}};
	const hd_onnx_dim dims[] = {{.name = "N"}, {.size = from->card.channels}, {.size = from->card.height},
	        {.size = from->settings.frames}};
	HD_TRY(hd_onnx_create(&g, opset, "heimdall"));
	hd_onnx_value features = hd_onnx_input(g, "features", HD_ONNX_F32, 4, dims);
	HD_TRY(hd_export_network(g, from, HD_ONNX_FP32, NULL, features, &mu, &sigma));
	hd_export_positions(g, &from->card.frame, mu, sigma, &positions, &uncertainties);
	hd_onnx_output(g, mu, "mu", HD_ONNX_F32, 2, pair);
	hd_onnx_output(g, sigma, "sigma", HD_ONNX_F32, 2, pair);
	hd_onnx_output(g, positions, "positions", HD_ONNX_F32, 2, pair);
	hd_onnx_output(g, uncertainties, "uncertainties", HD_ONNX_F32, 2, pair);
	HD_TRY(hd_onnx_write(g, path, external));
done:
	hd_onnx_free(g);
	return st;
}

static const model_case *find_case(const char *name)
{
	for (size_t i = 0; i < CASE_COUNT; i++)
		if (!strcmp(cases[i].name, name))
			return &cases[i];
	return NULL;
}

static hd_status write_case(const char *folder, const model_case *c, char **opsets, int count)
{
	hd_status st;
	char path[512];
	answers a = {0};
	hd_backend *backend = NULL;
	hd_checkpoint checkpoint = {0};
	HD_TRY(hd_backend_open(&backend, "cpu", NULL, 0));
	snprintf(path, sizeof path, "%s/checkpoint", folder);
	HD_TRY(save_case(path, backend, c));
	HD_TRY(hd_checkpoint_open(&checkpoint, path));
	HD_TRY(ask_engine(&a, backend, &checkpoint));
	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof path, "%s/%s.%s.onnx", folder, c->name, opsets[i]);
		/* every other one with its weights beside it */
		HD_TRY(export_model(
		        path, &checkpoint, atoi(opsets[i]), i % 2 ? HD_ONNX_EXTERNAL_ALWAYS : HD_ONNX_EXTERNAL_AUTO));
	}
	snprintf(path, sizeof path, "%s/%s.safetensors", folder, c->name);
	HD_TRY(save_answers(path, &a, &checkpoint.card));
done:
	free(a.features);
	free(a.half);
	hd_checkpoint_close(&checkpoint);
	hd_backend_close(backend);
	return st;
}

static hd_status write_frame(const char *folder, size_t number)
{
	hd_status st;
	char path[512];
	static float mu[PLACES][2], sigma[PLACES][2];
	static double positions[PLACES][2];
	const hd_label_frame frame = {origins[number][0], origins[number][1], 300000};
	const hd_onnx_dim pair[] = {{.name = "N"}, {.size = 2}};
	hd_onnx_value out[2];
	hd_onnx *g = NULL;
	for (int i = 0; i < PLACES; i++) {
		/* distances of 3 m to 10,000 km; the first ones straight north, south, east, west and nowhere */
		double units = pow(10, uniform(-5, 1.52)), angle = uniform(-M_PI, M_PI);
		mu[i][0] = (float)(i == 0 || i > 4 ? units * cos(angle) : i == 1 ? units : i == 2 ? -units : 0);
		mu[i][1] = (float)(i > 4 ? units * sin(angle) : i == 3 ? units : i == 4 ? -units : 0);
		if (i == 0)
			mu[i][0] = 0;
		sigma[i][0] = (float)uniform(0.01, 1);
		sigma[i][1] = (float)uniform(0.01, 1);
		hd_geo_from_local_m(&frame, (double)mu[i][0] * frame.scale_m, (double)mu[i][1] * frame.scale_m,
		        &positions[i][0], &positions[i][1]);
	}
	HD_TRY(hd_onnx_create(&g, number % 2 ? HD_ONNX_OPSET_MIN : HD_ONNX_OPSET_MAX, "positions"));
	hd_onnx_value in[] = {
	        hd_onnx_input(g, "mu", HD_ONNX_F32, 2, pair), hd_onnx_input(g, "sigma", HD_ONNX_F32, 2, pair)};
	hd_export_positions(g, &frame, in[0], in[1], &out[0], &out[1]);
	hd_onnx_output(g, out[0], "positions", HD_ONNX_F32, 2, pair);
	hd_onnx_output(g, out[1], "uncertainties", HD_ONNX_F32, 2, pair);
	snprintf(path, sizeof path, "%s/positions.%zu.onnx", folder, number);
	HD_TRY(hd_onnx_write(g, path, HD_ONNX_EXTERNAL_AUTO));
	const int64_t pairs[] = {PLACES, 2};
	const double about[] = {frame.origin_latitude_deg, frame.origin_longitude_deg, frame.scale_m};
	const hd_tensor tensors[] = {tensor("mu", HD_F32, mu, 2, pairs), tensor("sigma", HD_F32, sigma, 2, pairs),
	        tensor("positions", HD_F64, positions, 2, pairs), tensor("frame", HD_F64, about, 1, (int64_t[]){3})};
	snprintf(path, sizeof path, "%s/positions.%zu.safetensors", folder, number);
	HD_TRY(hd_safetensors_write(path, tensors, sizeof tensors / sizeof *tensors, NULL, 0));
done:
	hd_onnx_free(g);
	return st;
}

/* Element k of weight number i is i + k % CYCLE. */
enum { WEIGHTS = 33, WEIGHT_SIZE = 1 << 24, CYCLE = 1000 };

static hd_status fill_weight(void *out, const void *number)
{
	float *to = out, first = (float)*(const int *)number;
	for (int k = 0; k < WEIGHT_SIZE; k++)
		to[k] = first + (float)(k % CYCLE);
	return HD_OK;
}

/* One element of each weight, side by side, chosen by the input. */
static hd_status write_beyond(const char *folder)
{
	hd_status st;
	char path[512], name[16];
	static int numbers[WEIGHTS];
	static const int64_t index[] = {0, WEIGHT_SIZE - 1};
	float wanted[2 * WEIGHTS];
	hd_onnx_value picked[WEIGHTS];
	hd_onnx *g = NULL;
	HD_TRY(hd_onnx_create(&g, HD_ONNX_OPSET_MAX, "beyond"));
	hd_onnx_value x = hd_onnx_input(g, "index", HD_ONNX_F32, 1, (hd_onnx_dim[]){{.size = 2}});
	x = HD_ONNX_NODE(g, "Cast", x);
	hd_onnx_attr_int(g, "to", HD_ONNX_I64);
	for (int i = 0; i < WEIGHTS; i++) {
		numbers[i] = i;
		snprintf(name, sizeof name, "weight%d", i);
		picked[i] = HD_ONNX_NODE(g, "Gather",
		        hd_onnx_weight(g, name,
		                &(hd_onnx_tensor){.type = HD_ONNX_F32,
		                        .ndim = 1,
		                        .shape = {WEIGHT_SIZE},
		                        .fill = fill_weight,
		                        .source = &numbers[i]}),
		        x);
		for (int k = 0; k < 2; k++)
			wanted[2 * i + k] = (float)(i + index[k] % CYCLE);
	}
	x = hd_onnx_node(g, "Concat", WEIGHTS, picked);
	hd_onnx_attr_int(g, "axis", 0);
	hd_onnx_output(g, x, "picked", HD_ONNX_F32, 1, (hd_onnx_dim[]){{.size = 2 * WEIGHTS}});
	snprintf(path, sizeof path, "%s/beyond.0.onnx", folder);
	HD_TRY(hd_onnx_write(g, path, HD_ONNX_EXTERNAL_AUTO));
	const float at[] = {(float)index[0], (float)index[1]};
	const hd_tensor tensors[] = {tensor("index", HD_F32, at, 1, (int64_t[]){2}),
	        tensor("picked", HD_F32, wanted, 1, (int64_t[]){2 * WEIGHTS})};
	snprintf(path, sizeof path, "%s/beyond.safetensors", folder);
	HD_TRY(hd_safetensors_write(path, tensors, sizeof tensors / sizeof *tensors, NULL, 0));
done:
	hd_onnx_free(g);
	return st;
}

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static hd_status measure(const char *checkpoint_path, const char *path)
{
	hd_status st;
	hd_checkpoint checkpoint = {0};
	struct rusage before, after;
	double start = seconds();
	HD_TRY(hd_checkpoint_open(&checkpoint, checkpoint_path));
	double opened = seconds();
	getrusage(RUSAGE_SELF, &before);
	HD_TRY(export_model(path, &checkpoint, HD_ONNX_OPSET_MAX, HD_ONNX_EXTERNAL_AUTO));
	getrusage(RUSAGE_SELF, &after);
	printf("opened in %.1f s, peak %ld MB; written in %.1f s, peak %ld MB\n", opened - start,
	        before.ru_maxrss / 1024, seconds() - opened, after.ru_maxrss / 1024);
done:
	hd_checkpoint_close(&checkpoint);
	return st;
}

static hd_status run(int argc, char **argv)
{
	hd_status st = HD_OK;
	const char *command = argc > 1 ? argv[1] : "";
	const model_case *c = argc > 3 ? find_case(argv[3]) : NULL;
	hd_backend *backend = NULL;
	if (!strcmp(command, "cases")) {
		for (size_t i = 0; i < CASE_COUNT; i++)
			puts(cases[i].name);
	} else if (!strcmp(command, "case") && c) {
		st = write_case(argv[2], c, argv + 4, argc - 4);
	} else if (!strcmp(command, "positions") && argc == 3) {
		for (size_t i = 0; i < ORIGIN_COUNT; i++)
			HD_TRY(write_frame(argv[2], i));
	} else if (!strcmp(command, "beyond") && argc == 3) {
		st = write_beyond(argv[2]);
	} else if (!strcmp(command, "checkpoint") && c) {
		HD_TRY(hd_backend_open(&backend, "cpu", NULL, 0));
		st = save_case(argv[2], backend, c);
	} else if (!strcmp(command, "write") && argc == 4) {
		st = measure(argv[2], argv[3]);
	} else {
		st = hd_fail(HD_E_USAGE, "onnx_models: cases, case, positions, beyond, checkpoint or write");
	}
done:
	hd_backend_close(backend);
	return st;
}

int main(int argc, char **argv)
{
	hd_status st = run(argc, argv);
	if (st != HD_OK)
		fprintf(stderr, "%s\n", hd_error_text());
	return hd_status_exit_code(st);
}
