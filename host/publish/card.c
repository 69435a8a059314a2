/* SPDX-License-Identifier: Apache-2.0 */
/* The model card. Source of its form: Hugging Face, Model Cards; Mitchell et al., Model Cards for Model Reporting. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/version.h"
#include "host/export/onnx_model.h"
#include "host/publish/describe.h"
#include "host/publish/package.h"

static void put_front(FILE *to, const hd_publish_facts *f)
{
	double median = hd_publish_metric(f->model->metrics, "median_m");
	double mean = hd_publish_metric(f->model->metrics, "mae_m");
	fprintf(to,
	        "---\nlicense: %s\nlibrary_name: onnx\ntags:\n- onnx\n- heimdall\n- localization\n- radio\n- sdr\n- "
	        "convnext\nmetrics:\n- mae\nmodel-index:\n- name: %s\n  results:\n  - task:\n      type: "
	        "regression\n      name: localisation of a transmitter\n    dataset:\n      type: private\n      name: "
	        "validation split of the training's recordings\n    metrics:\n    - type: median_m\n      value: "
	        "%.1f\n      name: median error [m]\n",
	        f->license, f->registered, median);
	if (isfinite(mean))
		fprintf(to, "    - type: mae_m\n      value: %.1f\n      name: mean error [m]\n", mean);
	fputs("---\n\n", to);
}

static void put_shape(FILE *to, const hd_port *port)
{
	fputc('(', to);
	for (int i = 0; i < port->ndim; i++) {
		fputs(i ? ", " : "", to);
		if (port->shape[i] >= 0)
			fprintf(to, "%lld", (long long)port->shape[i]);
		else
			fputs(i ? "samples" : "batch", to);
	}
	fputc(')', to);
}

static const char *input_words(const char *input)
{
	if (!strcmp(input, "iq"))
		return "I and Q of each receiver's recording, full scale 1; zeros for a missing receiver";
	if (!strcmp(input, "magnitude"))
		return "sqrt(I^2 + Q^2) of each receiver's recording, full scale 1; zeros for a missing receiver";
	return "mel levels in dB, as `heimdall features` writes them; -90 for a missing receiver";
}

static const char *output_words(const char *name, bool raw)
{
	if (!strcmp(name, "positions"))
		return raw ? "north, east in label units" : "latitude, longitude in degrees";
	if (!strcmp(name, "uncertainties"))
		return raw ? "standard deviation north, east in label units"
		           : "standard deviation north, east in metres";
	return "latitude, longitude in degrees, standard deviation north, east in metres";
}

static void put_ports(FILE *to, const hd_publish_facts *f)
{
	const hd_onnx_peek *p = &f->model->peek;
	bool raw = !strcmp(hd_publish_model_text(f->model, HD_ONNX_KEY_OUTPUTS), "raw");
	fputs("## Input and outputs\n\n| | name | shape | values |\n|---|---|---|---|\n", to);
	fprintf(to, "| input | `%s` | ", p->inputs[0].name);
	put_shape(to, &p->inputs[0]);
	fprintf(to, " | float32, %s |\n", input_words(hd_publish_model_text(f->model, HD_ONNX_KEY_INPUT)));
	for (size_t i = 0; i < p->output_count; i++) {
		fprintf(to, "| output | `%s` | ", p->outputs[i].name);
		put_shape(to, &p->outputs[i]);
		fprintf(to, " | float32, %s |\n", output_words(p->outputs[i].name, raw));
	}
	fprintf(to, "\nChannels, in this order: `%s`. Normalisation and label frame are inside the model.\n\n",
	        f->model->card.receivers);
}

static void put_training(FILE *to, const hd_publish_facts *f)
{
	const hd_publish_model *m = f->model;
	const hd_settings *s = &m->settings;
	const char *split;
	json_t *count;
	fprintf(to,
	        "## Training\n\nConvNeXt `%s` on %s of %lld bands and %lld frames, recordings at %g Hz, up to %lld "
	        "epochs "
	        "in batches of %lld, loss `%s`. `" HD_PUBLISH_CONFIG "` has every setting.\n\n",
	        s->backbone_size, s->feature, (long long)s->n_mels, (long long)s->frames, s->sample_rate,
	        (long long)s->epochs, (long long)s->batch_size, s->loss);
	fprintf(to,
	        "- area: %.0f km around %.2f N %.2f E (label frame; the training's centre is %.2f N %.2f E)\n- "
	        "receivers: %d\n",
	        m->card.frame.scale_m / 1e3, m->card.frame.origin_latitude_deg, m->card.frame.origin_longitude_deg,
	        m->card.centre_latitude_deg, m->card.centre_longitude_deg, m->card.channels);
	json_object_foreach(m->recordings, split, count) fprintf(
	        to, "- recordings, %s: %lld\n", split[0] ? split : "no split", (long long)json_integer_value(count));
	if (m->run_name[0])
		fprintf(to, "- run: `%s` of `%s`\n", m->run_name, m->experiment);
	fputc('\n', to);
}

static void put_metrics(FILE *to, const hd_publish_facts *f)
{
	static const struct {
		const char *name, *unit, *text;
	} rows[] = {
#define X(name, unit, text) {#name, unit, text},
	        HD_METRICS(X)
#undef X
	};
	double samples = hd_publish_metric(f->model->metrics, "samples");
	fputs("## Metrics\n\nGreat-circle errors", to);
	if (isfinite(samples))
		fprintf(to, " of %.0f samples that it was not trained on", samples);
	fputs(". `" HD_PUBLISH_METRICS "` has all digits.\n\n| metric | value | unit | |\n|---|---|---|---|\n", to);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		double value = hd_publish_metric(f->model->metrics, rows[i].name);
		if (!isfinite(value))
			continue;
		fprintf(to, "| `%s` | %.*f | %s | ", rows[i].name, rows[i].unit[0] ? 1 : 4, value, rows[i].unit);
		/* a bar would end the cell */
		for (const char *c = rows[i].text; *c; c++)
			fputs(*c == '|' ? "\\|" : (char[]){*c, 0}, to);
		fputs(" |\n", to);
	}
	fputc('\n', to);
	double z = hd_publish_metric(f->model->metrics, "z_variance");
	if (isfinite(z))
		fprintf(to,
		        "Calibration: the mean square of error over sigma is %.2f (1: as promised; above: the sigmas "
		        "are too "
		        "small). Sigmas lie between %.0f and %.0f m.\n\n",
		        z, f->model->card.sigma_min_m, f->model->card.sigma_max_m);
}

static void put_use(FILE *to, const hd_publish_facts *f)
{
	fprintf(to,
	        "## Intended use and limits\n\nPosition and uncertainty of one transmitter from what these receivers "
	        "record "
	        "of one emission. It knows the area, the receivers and their gains that it was trained with: outside "
	        "of "
	        "the area, with another receiver or antenna, or with several emissions at once its answers are not to "
	        "be "
	        "trusted, and the uncertainty does not say so. It is no means to identify persons, and not to be the "
	        "sole "
	        "ground of a decision about one.\n\n%s\n\n",
	        f->model->validated ? "Its answers were compared with the training program's in ONNX Runtime before it "
	                              "was published."
	                            : "It was published without being run in ONNX Runtime.");
}

static void put_loading(FILE *to, const hd_publish_facts *f)
{
	const hd_port *input = &f->model->peek.inputs[0];
	fprintf(to,
	        "## Loading it\n\n```python\nimport mlflow, numpy as np, onnxruntime\n\nmodel = "
	        "mlflow.onnx.load_model(\"%s/%s\")\nsession = onnxruntime.InferenceSession(model.SerializeToString(), "
	        "providers=[\"CPUExecutionProvider\"])\nanswers = session.run(None, {\"%s\": levels})  # float32, ",
	        f->url, f->version, input->name);
	put_shape(to, input);
	fprintf(to,
	        "\n```\n\nRegistered as `%s`, it is `models:/%s@ALIAS` too. The program that trained it takes the file "
	        "itself:\n\n```\nheimdall predict --checkpoint " HD_PUBLISH_MODEL
	        " receiver1.npy receiver2.npy none\n```\n\n",
	        f->registered, f->registered);
}

char *hd_publish_card(const hd_publish_facts *f)
{
	size_t bytes;
	char *text = NULL;
	FILE *to = open_memstream(&text, &bytes);
	if (!to)
		return NULL;
	put_front(to, f);
	fprintf(to,
	        "# %s %s\n\nWhere a radio transmitter is, in degrees and with an uncertainty in metres, from SDR "
	        "recordings "
	        "of %d receiver%s.\n\n",
	        f->registered, f->version, f->model->card.channels, f->model->card.channels == 1 ? "" : "s");
	put_ports(to, f);
	put_training(to, f);
	put_metrics(to, f);
	put_use(to, f);
	put_loading(to, f);
	fprintf(to,
	        "## Version\n\n| | |\n|---|---|\n| version | %s |\n| published | %s |\n| size | %.1f MB |\n| SHA-256 | "
	        "`%s` "
	        "|\n| checkpoint's SHA-256 | `%s` |\n| precision | %s |\n| written by | heimdall %s, commit %s "
	        "|\n\nLicence: %s.\n",
	        f->version, f->created, (double)f->bytes / 1e6, f->sha256,
	        hd_publish_model_text(f->model, HD_ONNX_KEY_SHA256),
	        hd_publish_model_text(f->model, HD_ONNX_KEY_PRECISION), hd_version,
	        hd_publish_model_text(f->model, HD_ONNX_KEY_COMMIT), f->license);
	if (fclose(to) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
