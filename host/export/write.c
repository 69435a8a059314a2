/* SPDX-License-Identifier: Apache-2.0 */
#include "host/export/write.h"

#include <stdlib.h>
#include <string.h>

#include "heimdall/dataset.h"
#include "host/common/version.h"
#include "host/model/data_card.h"

/* ---- the graph ---- */

hd_status hd_onnx_form_from(hd_onnx_form *out, const hd_settings *s)
{
	*out = (hd_onnx_form){.opset = (int)s->opset,
	        .input_name = s->input_name,
	        .input = HD_ONNX_INPUT_FEATURES,
	        .outputs = s->raw_outputs       ? HD_ONNX_OUTPUTS_RAW
	                   : s->combined_output ? HD_ONNX_OUTPUTS_COMBINED
	                                        : HD_ONNX_OUTPUTS_POSITIONS,
	        .external = (hd_onnx_external)hd_settings_choice("external_data", s->external_data)};
	if (s->raw_outputs && s->combined_output)
		return hd_fail(HD_E_USAGE, "raw_outputs and combined_output exclude each other");
	if (s->with_features)
		out->input = !strcmp(s->signal, "iq") ? HD_ONNX_INPUT_IQ : HD_ONNX_INPUT_MAGNITUDE;
	return HD_OK;
}

static hd_onnx_value add_input(hd_onnx *g, const hd_checkpoint *c, const hd_onnx_form *form)
{
	const hd_onnx_dim batch = {.name = "batch"}, channels = {.size = c->card.channels};
	const hd_onnx_dim samples = {.name = "samples"};
	if (form->input == HD_ONNX_INPUT_FEATURES)
		return hd_onnx_input(g, form->input_name, HD_ONNX_F32, 4,
		        (hd_onnx_dim[]){batch, channels, {.size = c->card.height}, {.size = c->settings.frames}});
	return hd_onnx_input(g, form->input_name, HD_ONNX_F32, form->input == HD_ONNX_INPUT_IQ ? 4 : 3,
	        (hd_onnx_dim[]){batch, channels, samples, {.size = 2}});
}

static void add_outputs(hd_onnx *g, const hd_onnx_form *form, hd_onnx_value positions, hd_onnx_value uncertainties)
{
	const hd_onnx_dim batch = {.name = "batch"};
	if (form->outputs != HD_ONNX_OUTPUTS_COMBINED) {
		hd_onnx_output(g, positions, "positions", HD_ONNX_F32, 2, (hd_onnx_dim[]){batch, {.size = 2}});
		hd_onnx_output(g, uncertainties, "uncertainties", HD_ONNX_F32, 2, (hd_onnx_dim[]){batch, {.size = 2}});
		return;
	}
	hd_onnx_value all = HD_ONNX_NODE(g, "Concat", positions, uncertainties);
	hd_onnx_attr_int(g, "axis", 1);
	hd_onnx_output(g, all, "combined", HD_ONNX_F32, 2, (hd_onnx_dim[]){batch, {.size = 4}});
}

static hd_status build(hd_onnx *g, const hd_checkpoint *c, const hd_onnx_form *form)
{
	hd_feature_config features = hd_feature_config_from(&c->settings);
	hd_onnx_value windows = "", mu, sigma, positions, uncertainties;
	hd_onnx_value x = add_input(g, c, form);
	bool with_features = form->input != HD_ONNX_INPUT_FEATURES;
	if (with_features)
		hd_export_front_end(g, &features,
		        form->input == HD_ONNX_INPUT_IQ ? HD_ONNX_SIGNAL_IQ : HD_ONNX_SIGNAL_MAGNITUDE, x, &x,
		        &windows);
	hd_status st = hd_export_network(g, c, form->precision, form->ranges, x, &mu, &sigma);
	if (st != HD_OK)
		return st;
	if (with_features)
		hd_export_fuse(g, windows, &mu, &sigma);
	positions = mu;
	uncertainties = sigma;
	if (form->outputs != HD_ONNX_OUTPUTS_RAW)
		hd_export_positions(g, &c->card.frame, mu, sigma, &positions, &uncertainties);
	add_outputs(g, form, positions, uncertainties);
	return hd_onnx_status(g);
}

/* ---- metadata ---- */

static hd_status add_json(hd_onnx *g, const char *key, json_t *object)
{
	char *text = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
	hd_status st = text ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory for metadata '%s'", key);
	if (text)
		hd_onnx_metadata(g, key, text);
	free(text);
	json_decref(object);
	return st;
}

static hd_status describe(
        hd_onnx *g, const hd_checkpoint *c, const hd_onnx_form *form, const hd_metrics *metrics, const char *sha256)
{
	hd_status st;
	char *yaml = NULL, *card = NULL;
	HD_TRY(hd_settings_dump(&c->settings, &yaml));
	HD_TRY(hd_data_card_write(&card, &c->card));
	hd_onnx_metadata(g, HD_ONNX_KEY_FORMAT, HD_ONNX_FORMAT);
	hd_onnx_metadata(g, HD_ONNX_KEY_CONFIG, yaml);
	hd_onnx_metadata(g, HD_ONNX_KEY_CARD, card);
	hd_onnx_metadata(g, HD_ONNX_KEY_INPUT, hd_onnx_input_names[form->input]);
	hd_onnx_metadata(g, HD_ONNX_KEY_OUTPUTS, hd_onnx_outputs_names[form->outputs]);
	hd_onnx_metadata(g, HD_ONNX_KEY_PRECISION, hd_onnx_precision_name(form->precision));
	hd_onnx_metadata(g, HD_ONNX_KEY_COMMIT, hd_commit);
	hd_onnx_metadata(g, HD_ONNX_KEY_SHA256, sha256);
	if (c->run[0])
		hd_onnx_metadata(g, HD_ONNX_KEY_RUN, c->run);
	if (metrics)
		HD_TRY(add_json(g, HD_ONNX_KEY_METRICS, hd_metrics_json(metrics, "val")));
	st = hd_onnx_status(g);
done:
	free(card);
	free(yaml);
	return st;
}

hd_status hd_onnx_model_write(const char *path, const hd_checkpoint *checkpoint, const hd_onnx_form *form,
        const hd_metrics *metrics, const char *sha256)
{
	hd_status st;
	hd_onnx *g = NULL;
	HD_TRY(hd_onnx_create(&g, form->opset, "heimdall"));
	HD_TRY(build(g, checkpoint, form));
	HD_TRY(describe(g, checkpoint, form, metrics, sha256));
	HD_TRY(hd_onnx_write(g, path, form->external));
done:
	hd_onnx_free(g);
	return st;
}
