/* SPDX-License-Identifier: Apache-2.0 */
#include "host/publish/propose.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/common/settings_table.h"
#include "host/export/onnx_model.h"

#define WHY_BYTES 1024
#define VALUE_BYTES 128

/* ---- what a setting raises ---- */

static bool is_one_of(const char *key, const char *const *keys, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(key, keys[i]))
			return true;
	return false;
}
#define IS_ONE_OF(key, keys) is_one_of(key, keys, sizeof keys / sizeof *(keys))

/* False: says nothing about the model. */
static bool raises(hd_bump *out, const hd_setting *row)
{
	static const char *const shape[] = {
	        "backbone_size", "gelu", "head_widths", "head_norm", "n_mels", "frames", "feature", "n_mfcc"};
	/* how a training is run and kept, not what it is */
	static const char *const running[] = {"checkpoint_dir", "checkpoint_every", "log_every_n_steps", "accelerator",
	        "devices", "threads", "predictions", "split", "save_top_k", "num_workers", "cache_dir"};
	static const char *const of_signal[] = {
	        "sample_rate", "resample", "short_recordings", "gain_offsets", "label_sigma_m"};
	/* other weights to start from, another draw: the same training again */
	static const char *const again[] = {"pretrained", "seed"};
	const char *group = row->group;
	if (hd_setting_is_of_call(row) || IS_ONE_OF(row->key, running))
		return false;
	*out = HD_BUMP_MINOR;
	if (IS_ONE_OF(row->key, shape))
		*out = HD_BUMP_MAJOR;
	else if (IS_ONE_OF(row->key, again))
		*out = HD_BUMP_PATCH;
	else if (!strcmp(group, "data") && !IS_ONE_OF(row->key, of_signal))
		*out = HD_BUMP_PATCH;
	return !strcmp(group, "data") || !strcmp(group, "features") || !strcmp(group, "model") ||
	       !strcmp(group, "train");
}

/* ---- the comparison ---- */

/* What is found, by what it raises. */
typedef struct findings {
	char why[HD_BUMP_MAJOR + 1][WHY_BYTES];
} findings;

static void find(findings *f, hd_bump bump, const char *key, const char *old, const char *new)
{
	char *why = f->why[bump];
	size_t used = strlen(why);
	snprintf(why + used, WHY_BYTES - used, "%s%s %s -> %s", used ? ", " : "", key, old, new);
}

static const char *shown(const char *value)
{
	return value[0] ? value : "\"\"";
}

static hd_status compare_settings(findings *f, const hd_settings *old, const hd_settings *new)
{
	hd_status st = HD_OK;
	char *before = NULL, *after = NULL;
	for (int i = 0; i < HD_SETTING_COUNT; i++) {
		const hd_setting *row = &hd_setting_table[i];
		hd_bump bump;
		if (!raises(&bump, row))
			continue;
		free(before);
		free(after);
		before = after = NULL;
		HD_TRY(hd_setting_text(&before, old, row));
		HD_TRY(hd_setting_text(&after, new, row));
		if (!strcmp(before, after))
			continue;
		/* places may be long and private: that it is another one is enough */
		bool place = !strcmp(row->group, "data") && row->kind == HD_KIND_TEXT && bump == HD_BUMP_PATCH;
		find(f, bump, row->key, place ? "one" : shown(before), place ? "another" : shown(after));
	}
done:
	free(after);
	free(before);
	return st;
}

static void json_text(char *text, const json_t *value)
{
	char *dumped = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
	snprintf(text, VALUE_BYTES, "%s", dumped ? dumped : json_is_string(value) ? json_string_value(value) : "?");
	free(dumped);
}

static void compare_interfaces(findings *f, const json_t *old, const json_t *new)
{
	const char *key;
	json_t *value;
	char before[VALUE_BYTES], after[VALUE_BYTES];
	json_object_foreach((json_t *)new, key, value)
	{
		const json_t *its = json_object_get(old, key);
		if (!its || json_equal(its, value))
			continue;
		json_text(before, its);
		json_text(after, value);
		find(f, HD_BUMP_MAJOR, key, before, after);
	}
}

hd_status hd_publish_compare(hd_bump *out, char **why, const hd_settings *old_settings, const json_t *old_interface,
        const hd_settings *new_settings, const json_t *new_interface)
{
	findings f = {0};
	compare_interfaces(&f, old_interface, new_interface);
	hd_status st = compare_settings(&f, old_settings, new_settings);
	if (st != HD_OK)
		return st;
	*out = HD_BUMP_PATCH;
	for (hd_bump bump = HD_BUMP_MAJOR; bump > HD_BUMP_PATCH; bump--) {
		if (f.why[bump][0]) {
			*out = bump;
			break;
		}
	}
	return hd_strdup(why, f.why[*out][0] ? f.why[*out] : "the same settings, other weights");
}

json_t *hd_publish_interface(const hd_publish_model *m)
{
	const hd_port *input = m->peek.inputs;
	json_t *shape = json_array();
	for (int i = 0; i < input->ndim; i++)
		json_array_append_new(shape, json_integer(input->shape[i]));
	return json_pack("{s:s, s:s, s:s, s:s, s:o}", "input", hd_publish_model_text(m, HD_ONNX_KEY_INPUT),
	        "input_name", input->name, "outputs", hd_publish_model_text(m, HD_ONNX_KEY_OUTPUTS), "channels",
	        m->card.receivers, "shape", shape);
}
