/* SPDX-License-Identifier: Apache-2.0 */
#include "heimdall/checkpoint.h"

#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/file.h"
#include "host/common/json.h"
#include "host/common/memory.h"
#include "host/common/version.h"
#include "host/model/data_card.h"

#define HEAD_WIDTH_MAX 65536
#define STATE_TENSOR "exp_avg.position_head.fc1.weight" /* any model in training has it */
#define JSON_FLAGS (JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17))

void hd_train_state_free(hd_train_state *state)
{
	if (!state)
		return;
	for (size_t i = 0; i < state->top_count; i++)
		free(state->top[i].path);
	free(state->top);
	*state = (hd_train_state){0};
}

hd_status hd_train_state_copy(hd_train_state *out, const hd_train_state *state)
{
	hd_status st;
	*out = *state;
	out->top = NULL;
	out->top_count = out->top_capacity = 0;
	HD_TRY(hd_grow(&out->top, &out->top_capacity, state->top_count, sizeof *out->top));
	for (size_t i = 0; i < state->top_count; i++) {
		HD_TRY(hd_strdup(&out->top[i].path, state->top[i].path));
		out->top[i].val_loss = state->top[i].val_loss;
		out->top_count++;
	}
done:
	if (st != HD_OK)
		hd_train_state_free(out);
	return st;
}

hd_status hd_head_widths_parse(hd_model_config *out, const char *text)
{
	out->head_layers = 0;
	for (const char *at = text;;) {
		char *end;
		long width = strtol(at, &end, 10);
		if (end == at || width < 1 || width > HEAD_WIDTH_MAX || (*end && *end != ','))
			return hd_fail(HD_E_USAGE, "head_widths: '%s' is no list of widths of 1 to %d, as 512,128,64",
			        text, HEAD_WIDTH_MAX);
		if (out->head_layers == HD_HEAD_LAYERS_MAX)
			return hd_fail(
			        HD_E_USAGE, "head_widths: '%s' has more than %d layers", text, HD_HEAD_LAYERS_MAX);
		out->head_widths[out->head_layers++] = (int)width;
		if (!*end)
			return HD_OK;
		at = end + 1;
	}
}

hd_status hd_model_config_from(hd_model_config *out, const hd_settings *settings, const hd_data_card *card, int batch)
{
	const hd_backbone *backbone = hd_backbone_find(settings->backbone_size);
	if (!backbone)
		return hd_fail(HD_E_USAGE, "backbone_size: no size '%s'", settings->backbone_size);
	*out = (hd_model_config){
	        .backbone = *backbone,
	        .channels = card->channels,
	        .height = card->height,
	        .width = (int)settings->frames,
	        .batch = batch,
	        .gelu = (hd_gelu_form)hd_settings_choice("gelu", settings->gelu),
	        .dropout = (float)settings->dropout_rate,
	        .drop_path = (float)settings->drop_path,
	        .layer_decay = (float)settings->layer_decay,
	        .head_norm = (hd_head_norm)hd_settings_choice("head_norm", settings->head_norm),
	        .loss = {.kind = (hd_loss_kind)hd_settings_choice("loss", settings->loss),
	                .bound = (hd_sigma_bound)hd_settings_choice("uncertainty_bound", settings->uncertainty_bound),
	                .lo = (float)(card->sigma_min_m / card->frame.scale_m),
	                .hi = (float)(card->sigma_max_m / card->frame.scale_m),
	                .beta = (float)settings->nll_beta},
	        .frozen = settings->freeze_backbone && settings->unfreeze_epoch == 0,
	        .average = settings->ema_decay > 0,
	};
	return hd_head_widths_parse(out, settings->head_widths);
}

/* ---- metadata ---- */

static json_t *state_json(const hd_train_state *s)
{
	json_t *top = json_array();
	for (size_t i = 0; i < s->top_count; i++)
		json_array_append_new(top, json_pack("[s, f]", s->top[i].path, s->top[i].val_loss));
	/* JSON has no infinity: null stands for "none yet" */
	json_t *best = hd_json_number(s->best_loss);
	json_t *stop = hd_json_number(s->stop_loss);
	return json_pack("{s:I, s:I, s:I, s:o, s:o, s:I, s:I, s:[f,f,f,f], s:[f,f], s:[f,i], s:b, s:o}", "epoch",
	        (json_int_t)s->epoch, "step", (json_int_t)s->step, "global_step", (json_int_t)s->global_step,
	        "best_loss", best, "stop_loss", stop, "best_epoch", (json_int_t)s->best_epoch, "bad_epochs",
	        (json_int_t)s->bad_epochs, "sums", s->sums[0], s->sums[1], s->sums[2], s->sums[3], "norms", s->norm_sum,
	        s->norm_max, "loss_scale", (double)s->loss_scale, s->good_steps, "finished", s->finished, "top", top);
}

static json_t *runtime_json(const hd_backend *b, const char *run)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:i, s:s}", "version", hd_version, "commit", hd_commit, "backend",
	        b->name, "tier", b->tier, "threads", b->threads, "run", run);
}

static hd_status add_json(hd_metadata *to, const char *key, json_t *value)
{
	to->key = (char *)key;
	to->value = value ? json_dumps(value, JSON_FLAGS) : NULL;
	json_decref(value);
	return to->value ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory for the metadata '%s'", key);
}

enum { META_FORMAT, META_CONFIG, META_CARD, META_STATE, META_RUNTIME, META_COUNT };
static const char *const meta_keys[META_COUNT] = {"format", "config", "data", "state", "runtime"};

static hd_status make_metadata(hd_metadata *meta, const hd_backend *backend, const hd_settings *settings,
        const hd_data_card *card, const hd_train_state *state)
{
	hd_status st;
	char *yaml = NULL;
	HD_TRY(hd_settings_dump(settings, &yaml));
	HD_TRY(add_json(&meta[META_FORMAT], meta_keys[META_FORMAT], json_integer(HD_CHECKPOINT_FORMAT)));
	meta[META_CARD].key = (char *)meta_keys[META_CARD];
	HD_TRY(hd_data_card_write(&meta[META_CARD].value, card));
	HD_TRY(add_json(&meta[META_STATE], meta_keys[META_STATE], state_json(state)));
	HD_TRY(add_json(&meta[META_RUNTIME], meta_keys[META_RUNTIME], runtime_json(backend, state->run)));
	meta[META_CONFIG] = (hd_metadata){.key = (char *)meta_keys[META_CONFIG], .value = yaml};
	yaml = NULL;
done:
	free(yaml);
	return st;
}

/* ---- writing ---- */

/* What a whole state holds: the weights as they are trained, the moments, the average. */
static const struct {
	hd_flat flat;
	const char *prefix;
} saved[] = {{HD_FLAT_WEIGHTS, ""}, {HD_FLAT_MOMENT1, "exp_avg."}, {HD_FLAT_MOMENT2, "exp_avg_sq."},
        {HD_FLAT_AVERAGE, "ema."}};
#define SAVED_COUNT (sizeof saved / sizeof *saved)

/* Where the data of each tensor of a file come from. */
typedef struct source {
	const hd_model *model;
	hd_flat *flat;
	int *parameter;
} source;

static hd_status fetch(void *context, size_t index, void *out)
{
	const source *from = context;
	return hd_model_read(from->model, from->flat[index], from->parameter[index], out);
}

static hd_status list_tensor(
        hd_tensor *tensors, size_t *count, source *from, hd_flat flat, const char *prefix, int parameter)
{
	int parameters;
	const hd_parameter *p = &hd_model_parameters(from->model, &parameters)[parameter];
	hd_tensor *t = &tensors[*count];
	if (!hd_model_has(from->model, flat, parameter))
		return HD_OK;
	from->flat[*count] = flat;
	from->parameter[*count] = parameter;
	t->dtype = HD_F32;
	t->ndim = p->ndim;
	memcpy(t->shape, p->shape, sizeof p->shape);
	t->bytes = (size_t)p->size * sizeof(float);
	(*count)++;
	return hd_sprintf(&t->name, "%s%s", prefix, p->name);
}

hd_status hd_checkpoint_save(const char *path, const hd_model *model, const hd_backend *backend,
        const hd_settings *settings, const hd_data_card *card, const hd_train_state *state, bool with_state)
{
	hd_status st;
	int parameters;
	hd_model_parameters(model, &parameters);
	size_t most = (size_t)parameters * SAVED_COUNT, count = 0;
	source from = {.model = model};
	hd_tensor *tensors = NULL;
	hd_metadata meta[META_COUNT] = {{0}};
	HD_TRY(hd_alloc(&tensors, most, sizeof *tensors));
	HD_TRY(hd_alloc(&from.flat, most, sizeof *from.flat));
	HD_TRY(hd_alloc(&from.parameter, most, sizeof *from.parameter));
	for (size_t k = 0; with_state && k < SAVED_COUNT; k++)
		for (int p = 0; p < parameters; p++)
			HD_TRY(list_tensor(tensors, &count, &from, saved[k].flat, saved[k].prefix, p));
	for (int p = 0; !with_state && p < parameters; p++)
		HD_TRY(list_tensor(tensors, &count, &from,
		        hd_model_get_config(model)->average ? HD_FLAT_AVERAGE : HD_FLAT_WEIGHTS, "", p));
	HD_TRY(make_metadata(meta, backend, settings, card, state));
	HD_TRY(hd_safetensors_write_fetched(path, tensors, count, meta, META_COUNT, fetch, &from));
done:
	for (int i = 0; i < META_COUNT; i++)
		free(meta[i].value);
	for (size_t i = 0; tensors && i < count; i++)
		free(tensors[i].name);
	free(from.parameter);
	free(from.flat);
	free(tensors);
	return st;
}

/* ---- reading ---- */

static hd_status read_state(hd_train_state *s, json_t *json)
{
	json_t *best, *stop, *top;
	json_error_t error;
	json_int_t epoch, step, global_step, best_epoch, bad_epochs;
	int finished;
	if (json_unpack_ex(json, &error, 0, "{s:I, s:I, s:I, s:o, s:o, s:I, s:I, s:[FFFF], s:[FF], s:b, s:o}", "epoch",
	            &epoch, "step", &step, "global_step", &global_step, "best_loss", &best, "stop_loss", &stop,
	            "best_epoch", &best_epoch, "bad_epochs", &bad_epochs, "sums", &s->sums[0], &s->sums[1], &s->sums[2],
	            &s->sums[3], "norms", &s->norm_sum, &s->norm_max, "finished", &finished, "top", &top))
		return hd_fail(HD_E_DATA, "metadata 'state': %s", error.text);
	s->epoch = epoch;
	s->step = step;
	s->global_step = global_step;
	s->best_loss = json_is_null(best) ? INFINITY : json_number_value(best);
	s->stop_loss = json_is_null(stop) ? INFINITY : json_number_value(stop);
	s->best_epoch = best_epoch;
	s->bad_epochs = bad_epochs;
	s->finished = finished != 0;
	/* not in files of earlier versions: 0 */
	const json_t *scale = json_object_get(json, "loss_scale");
	s->loss_scale = (float)json_number_value(json_array_get(scale, 0));
	s->good_steps = (int32_t)json_integer_value(json_array_get(scale, 1));
	size_t i;
	json_t *row;
	json_array_foreach(top, i, row)
	{
		hd_status st = hd_grow(&s->top, &s->top_capacity, i + 1, sizeof *s->top);
		if (st == HD_OK)
			st = hd_strdup(&s->top[i].path, json_string_value(json_array_get(row, 0)));
		if (st != HD_OK)
			return st;
		s->top[i].val_loss = json_number_value(json_array_get(row, 1));
		s->top_count = i + 1;
	}
	return HD_OK;
}

static hd_status find_text(const char **out, const hd_safetensors *file, const char *key)
{
	*out = hd_safetensors_metadata(file, key);
	return *out ? HD_OK : hd_fail(HD_E_DATA, "no metadata '%s': not a checkpoint of this program", key);
}

static hd_status load_json(json_t **out, const hd_safetensors *file, const char *key)
{
	const char *text;
	json_error_t error;
	hd_status st = find_text(&text, file, key);
	if (st != HD_OK)
		return st;
	*out = json_loads(text, JSON_DECODE_ANY, &error);
	return *out ? HD_OK : hd_fail(HD_E_DATA, "metadata '%s': %s", key, error.text);
}

/* The recorded settings: defaults, then the dump line by line through the same checks as a file. */
static hd_status read_settings(hd_settings *settings, const hd_safetensors *file)
{
	const char *yaml;
	hd_status st = find_text(&yaml, file, meta_keys[META_CONFIG]);
	if (st == HD_OK)
		st = hd_settings_init(settings);
	return st == HD_OK ? hd_settings_read_yaml_text(settings, yaml, "config") : st;
}

static hd_status read_metadata(hd_checkpoint *c)
{
	hd_status st;
	json_t *format = NULL, *state = NULL, *runtime = NULL;
	const char *card;
	HD_TRY(load_json(&format, &c->file, meta_keys[META_FORMAT]));
	if (json_integer_value(format) != HD_CHECKPOINT_FORMAT) {
		st = hd_fail(HD_E_DATA, "checkpoint format %lld, this program reads %d",
		        (long long)json_integer_value(format), HD_CHECKPOINT_FORMAT);
		goto done;
	}
	HD_TRY(read_settings(&c->settings, &c->file));
	HD_TRY(find_text(&card, &c->file, meta_keys[META_CARD]));
	HD_TRY(hd_data_card_read(&c->card, card, meta_keys[META_CARD]));
	HD_TRY(load_json(&state, &c->file, meta_keys[META_STATE]));
	HD_TRY(read_state(&c->state, state));
	HD_TRY(load_json(&runtime, &c->file, meta_keys[META_RUNTIME]));
	c->threads = (int)json_integer_value(json_object_get(runtime, "threads"));
	HD_TRY(hd_strdup(&c->backend, json_string_value(json_object_get(runtime, "backend"))));
	HD_TRY(hd_strdup(&c->tier, json_string_value(json_object_get(runtime, "tier"))));
	const char *run = json_string_value(json_object_get(runtime, "run"));
	snprintf(c->run, sizeof c->run, "%s", run ? run : "");
done:
	json_decref(runtime);
	json_decref(state);
	json_decref(format);
	return st;
}

hd_status hd_checkpoint_open(hd_checkpoint *out, const char *path)
{
	*out = (hd_checkpoint){0};
	hd_status st = hd_safetensors_open(&out->file, path, true);
	if (st == HD_OK && (st = read_metadata(out)) != HD_OK)
		st = hd_context(st, "%s", path);
	if (st != HD_OK)
		hd_checkpoint_close(out);
	return st;
}

void hd_checkpoint_close(hd_checkpoint *checkpoint)
{
	if (!checkpoint)
		return;
	free(checkpoint->tier);
	free(checkpoint->backend);
	hd_train_state_free(&checkpoint->state);
	hd_data_card_free(&checkpoint->card);
	hd_settings_free(&checkpoint->settings);
	hd_safetensors_close(&checkpoint->file);
	*checkpoint = (hd_checkpoint){0};
}

static bool same_shape(const hd_tensor *t, const hd_parameter *p)
{
	return t->dtype == HD_F32 && t->ndim == p->ndim &&
	       !memcmp(t->shape, p->shape, (size_t)p->ndim * sizeof *p->shape);
}

static hd_status load_tensor(
        hd_model *model, const hd_safetensors *file, hd_flat flat, const char *prefix, int parameter, bool *there)
{
	int count;
	const hd_parameter *p = &hd_model_parameters(model, &count)[parameter];
	char name[96];
	snprintf(name, sizeof name, "%s%s", prefix, p->name);
	const hd_tensor *t = hd_safetensors_find(file, name);
	*there = t != NULL;
	if (!t)
		return HD_OK;
	if (!same_shape(t, p))
		return hd_fail(HD_E_DATA, "tensor %s is of another shape or dtype", name);
	hd_status st = hd_model_write(model, flat, parameter, t->data);
	hd_file_forget(t->data, t->bytes);
	return st;
}

hd_status hd_checkpoint_load_weights(hd_model *model, const hd_checkpoint *checkpoint)
{
	int count;
	bool there;
	const hd_parameter *p = hd_model_parameters(model, &count);
	for (int i = 0; i < count; i++) {
		hd_status st = load_tensor(model, &checkpoint->file, HD_FLAT_WEIGHTS, "", i, &there);
		if (st != HD_OK)
			return st;
		if (!there)
			return hd_fail(HD_E_DATA, "tensor %s is missing", p[i].name);
	}
	return HD_OK;
}

hd_status hd_checkpoint_load_state(hd_model *model, const hd_checkpoint *checkpoint)
{
	hd_status st;
	int count;
	bool there;
	hd_model_parameters(model, &count);
	HD_TRY(hd_checkpoint_load_weights(model, checkpoint));
	if (hd_model_get_config(model)->average)
		HD_TRY(hd_model_start_average(model));
	for (size_t k = 1; k < SAVED_COUNT; k++)
		for (int p = 0; p < count; p++)
			if (hd_model_has(model, saved[k].flat, p))
				HD_TRY(load_tensor(
				        model, &checkpoint->file, saved[k].flat, saved[k].prefix, p, &there));
done:
	return st;
}

bool hd_checkpoint_has_state(const hd_checkpoint *checkpoint)
{
	return hd_safetensors_find(&checkpoint->file, STATE_TENSOR) != NULL;
}

hd_status hd_checkpoint_model(
        hd_model **out, const hd_checkpoint *checkpoint, hd_backend *backend, int batch, bool label_sigma)
{
	hd_status st;
	hd_model_config config;
	*out = NULL;
	HD_TRY(hd_model_config_from(&config, &checkpoint->settings, &checkpoint->card, batch));
	config.inference = true;
	config.label_sigma = label_sigma;
	HD_TRY(hd_model_create(out, backend, &config));
	HD_TRY(hd_checkpoint_load_weights(*out, checkpoint));
	return HD_OK;
done:
	hd_model_free(*out);
	*out = NULL;
	return st;
}

hd_status hd_checkpoint_find_newest(char **out_path, const char *folder)
{
	hd_status st = HD_OK;
	int64_t best_step = -1;
	*out_path = NULL;
	DIR *dir = opendir(folder);
	for (struct dirent *entry; dir && (entry = readdir(dir));) {
		const char *dot = strrchr(entry->d_name, '.');
		char *path = NULL;
		hd_checkpoint c;
		if (!dot || strcmp(dot, ".safetensors") != 0)
			continue;
		HD_TRY(hd_sprintf(&path, "%s/%s", folder, entry->d_name));
		if (hd_checkpoint_open(&c, path) == HD_OK) {
			bool whole = hd_checkpoint_has_state(&c);
			if (whole && c.state.global_step > best_step) {
				best_step = c.state.global_step;
				free(*out_path);
				*out_path = path;
				path = NULL;
			}
			hd_checkpoint_close(&c);
		}
		free(path);
	}
	if (!*out_path)
		st = hd_fail(HD_E_DATA, "%s: no valid checkpoint with a training state to resume from", folder);
done:
	if (dir)
		closedir(dir);
	return st;
}
