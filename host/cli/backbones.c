/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall train --list_backbones: what each size costs at the settings' input and batch. */
#include <stdio.h>

#include "heimdall/dataset.h"
#include "host/cli/cli.h"

#define CHANNELS 3

hd_status hd_cli_list_backbones(const hd_settings *s)
{
	hd_status st;
	int count;
	hd_backend *backend = NULL;
	if (!s->batch_size)
		return hd_fail(HD_E_USAGE, "list_backbones: give --batch_size a number");
	const hd_feature_config features = hd_feature_config_from(s);
	/* any bounds of sigma do: they cost nothing */
	const hd_data_card card = {.channels = CHANNELS,
	        .height = (int)hd_features_height(&features),
	        .frame = {.scale_m = 1},
	        .sigma_min_m = 0.001,
	        .sigma_max_m = 1};
	const hd_backbone *list = hd_backbone_list(&count);
	HD_TRY(hd_backend_open(&backend, s->accelerator, s->devices, (int)s->threads));
	printf("input (%d, %lld, %lld), batch %lld\n", CHANNELS, (long long)hd_features_height(&features),
	        (long long)s->frames, (long long)s->batch_size);
	printf("GFLOP: forward, one sample; memory: all that training keeps\n\n");
	printf("%-8s %-12s %-22s %11s %8s %9s\n", "size", "depths", "widths", "parameters", "GFLOP", "memory");
	for (int i = 0; i < count; i++) {
		const hd_backbone *b = &list[i];
		hd_model_config config;
		HD_TRY(hd_model_config_from(&config, s, &card, (int)s->batch_size));
		config.backbone = *b;
		size_t parameter_bytes, activation_bytes;
		int64_t parameters;
		char depths[32], widths[40];
		HD_TRY(hd_model_footprint(backend, &config, &parameter_bytes, &activation_bytes, &parameters));
		snprintf(depths, sizeof depths, "%d,%d,%d,%d", b->depths[0], b->depths[1], b->depths[2], b->depths[3]);
		snprintf(widths, sizeof widths, "%d,%d,%d,%d", b->widths[0], b->widths[1], b->widths[2], b->widths[3]);
		printf("%-8s %-12s %-22s %9.2f M %8.3f %6.2f GB\n", b->name, depths, widths, (double)parameters / 1e6,
		        hd_model_forward_flops(&config) / 1e9, (double)(parameter_bytes + activation_bytes) / 1e9);
	}
done:
	hd_backend_close(backend);
	return st;
}
