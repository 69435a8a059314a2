/* SPDX-License-Identifier: Apache-2.0 */
#include "host/signal/scenario.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/common/settings_table.h"
#include "host/common/yaml_file.h"

#define NEAREST_M 50.0

typedef struct number_key {
	const char *key;
	size_t offset;
	double def, low, high;
	const char *help;
} number_key;

static const number_key numbers[] = {
#define X(key, def, low, high, help) {#key, offsetof(hd_scenario, key), def, low, high, help},
        HD_SCENARIO_NUMBERS(X)
#undef X
};
#define NUMBER_COUNT (sizeof numbers / sizeof *numbers)

static const hd_site default_sites[] = {{45.03, 7.27, 600}, {45.234, 7.857, 300}, {45.044, 7.672, 250},
        {45.048, 7.238, 700}, {44.561, 8.956, 480}, {44.395, 8.956, 100}, {45.478, 9.123, 120}};

static double *number_at(hd_scenario *s, const number_key *row)
{
	return (double *)(void *)((char *)s + row->offset);
}

static hd_status add_site(hd_scenario *s, const hd_site *site)
{
	hd_status st = hd_grow(&s->receivers, &s->receiver_capacity, s->receiver_count + 1, sizeof *s->receivers);
	if (st == HD_OK)
		s->receivers[s->receiver_count++] = *site;
	return st;
}

hd_status hd_scenario_default(hd_scenario *out)
{
	hd_status st = HD_OK;
	*out = (hd_scenario){0};
	for (size_t i = 0; i < NUMBER_COUNT; i++)
		*number_at(out, &numbers[i]) = numbers[i].def;
	for (size_t i = 0; st == HD_OK && i < sizeof default_sites / sizeof *default_sites; i++)
		st = add_site(out, &default_sites[i]);
	return st;
}

void hd_scenario_free(hd_scenario *scenario)
{
	if (!scenario)
		return;
	free(scenario->receivers);
	*scenario = (hd_scenario){0};
}

/* ---- YAML ---- */

typedef struct reader {
	hd_scenario *scenario;
	yaml_document_t *document;
	const char *path;
} reader;

static hd_status read_number(
        const reader *r, double *out, const char *key, const yaml_node_t *node, double low, double high)
{
	char *end = NULL;
	const char *text = node->type == YAML_SCALAR_NODE ? (const char *)node->data.scalar.value : "";
	double value = strtod(text, &end);
	if (!*text || *end || !isfinite(value))
		return hd_fail(HD_E_USAGE, "%s:%lu: %s: '%s' is not a number", r->path, hd_yaml_line(node), key, text);
	if (value < low || value > high)
		return hd_fail(HD_E_USAGE, "%s:%lu: %s: %g is out of range %g .. %g", r->path, hd_yaml_line(node), key,
		        value, low, high);
	*out = value;
	return HD_OK;
}

static hd_status read_site(reader *r, const yaml_node_t *node)
{
	hd_site site = {NAN, NAN, 0};
	static const char *const names[] = {"latitude", "longitude", "height"};
	double *const values[] = {&site.latitude_deg, &site.longitude_deg, &site.height_m};
	static const double limits[] = {90, 180, 10000};
	if (node->type != YAML_MAPPING_NODE)
		return hd_fail(HD_E_USAGE, "%s:%lu: a receiver is {latitude: , longitude: , height: }", r->path,
		        hd_yaml_line(node));
	for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
		const yaml_node_t *key = yaml_document_get_node(r->document, p->key);
		int known = -1;
		for (int i = 0; i < 3; i++)
			if (key->type == YAML_SCALAR_NODE && !strcmp((const char *)key->data.scalar.value, names[i]))
				known = i;
		if (known < 0)
			return hd_fail(HD_E_USAGE, "%s:%lu: a receiver has latitude, longitude and height only",
			        r->path, hd_yaml_line(key));
		hd_status st = read_number(r, values[known], names[known],
		        yaml_document_get_node(r->document, p->value), -limits[known], limits[known]);
		if (st != HD_OK)
			return st;
	}
	if (isnan(site.latitude_deg) || isnan(site.longitude_deg))
		return hd_fail(
		        HD_E_USAGE, "%s:%lu: a receiver needs latitude and longitude", r->path, hd_yaml_line(node));
	return add_site(r->scenario, &site);
}

static hd_status read_key(reader *r, const yaml_node_t *key_node, const yaml_node_t *value)
{
	const char *names[NUMBER_COUNT + 1];
	const char *key = key_node->type == YAML_SCALAR_NODE ? (const char *)key_node->data.scalar.value : "";
	if (!strcmp(key, "receivers")) {
		if (value->type != YAML_SEQUENCE_NODE)
			return hd_fail(HD_E_USAGE, "%s:%lu: receivers is a list", r->path, hd_yaml_line(key_node));
		r->scenario->receiver_count = 0;
		for (yaml_node_item_t *i = value->data.sequence.items.start; i < value->data.sequence.items.top; i++) {
			hd_status st = read_site(r, yaml_document_get_node(r->document, *i));
			if (st != HD_OK)
				return st;
		}
		return HD_OK;
	}
	for (size_t i = 0; i < NUMBER_COUNT; i++) {
		names[i] = numbers[i].key;
		if (!strcmp(key, numbers[i].key))
			return read_number(
			        r, number_at(r->scenario, &numbers[i]), key, value, numbers[i].low, numbers[i].high);
	}
	names[NUMBER_COUNT] = "receivers";
	const char *near = hd_nearest_name(key, names, NUMBER_COUNT + 1);
	return hd_fail(HD_E_USAGE, "%s:%lu: unknown key '%s'%s%s%s", r->path, hd_yaml_line(key_node), key,
	        near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static hd_status check(const hd_scenario *s, const char *path)
{
	if (s->latitude_min_deg >= s->latitude_max_deg || s->longitude_min_deg >= s->longitude_max_deg)
		return hd_fail(HD_E_USAGE, "%s: the area's edges must rise from min to max", path);
	if (!s->receiver_count)
		return hd_fail(HD_E_USAGE, "%s: no receivers", path);
	return HD_OK;
}

static bool same_key(yaml_document_t *document, const yaml_node_pair_t *a, const yaml_node_pair_t *b)
{
	const yaml_node_t *x = yaml_document_get_node(document, a->key), *y = yaml_document_get_node(document, b->key);
	return x->type == YAML_SCALAR_NODE && y->type == YAML_SCALAR_NODE &&
	       !strcmp((const char *)x->data.scalar.value, (const char *)y->data.scalar.value);
}

hd_status hd_scenario_read(hd_scenario *out, const char *path)
{
	hd_yaml file;
	hd_status st = hd_scenario_default(out);
	if (st == HD_OK)
		st = hd_yaml_load(&file, path, NULL);
	if (st != HD_OK)
		return st;
	reader r = {out, &file.document, path};
	yaml_node_pair_t *first = file.root ? file.root->data.mapping.pairs.start : NULL;
	for (yaml_node_pair_t *p = first; p && st == HD_OK && p < file.root->data.mapping.pairs.top; p++) {
		const yaml_node_t *key = yaml_document_get_node(&file.document, p->key);
		for (yaml_node_pair_t *q = first; st == HD_OK && q < p; q++)
			if (same_key(&file.document, p, q))
				st = hd_fail(HD_E_USAGE, "%s:%lu: '%s' stands twice", path, hd_yaml_line(key),
				        (const char *)key->data.scalar.value);
		if (st == HD_OK)
			st = read_key(&r, key, yaml_document_get_node(&file.document, p->value));
	}
	hd_yaml_free(&file);
	return st == HD_OK ? check(out, path) : st;
}

hd_status hd_scenario_write(const hd_scenario *scenario, const char *path)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *to = open_memstream(&text, &bytes);
	if (!to)
		return hd_fail(HD_E_MEMORY, "out of host memory for the scenario");
	for (size_t i = 0; i < NUMBER_COUNT; i++)
		fprintf(to, "%s: %.17g # %s\n", numbers[i].key,
		        *(const double *)(const void *)((const char *)scenario + numbers[i].offset), numbers[i].help);
	fprintf(to, "receivers:\n");
	for (size_t i = 0; i < scenario->receiver_count; i++)
		fprintf(to, "  - {latitude: %.17g, longitude: %.17g, height: %.17g}\n",
		        scenario->receivers[i].latitude_deg, scenario->receivers[i].longitude_deg,
		        scenario->receivers[i].height_m);
	fclose(to);
	hd_status st = hd_file_write(path, &(hd_span){text, bytes}, 1, 0);
	free(text);
	return st;
}

double hd_scenario_level_dbm(const hd_scenario *scenario, double distance_m)
{
	double km = fmax(distance_m, NEAREST_M) / 1000;
	double loss = 32.45 + 20 * log10(scenario->frequency_mhz) + 10 * scenario->path_loss_exponent * log10(km);
	return scenario->power_dbm - loss;
}
