/* SPDX-License-Identifier: Apache-2.0 */
#include "host/train/precision.h"

#include <string.h>

#include "host/common/memory.h"
#include "host/common/progress.h"

static hd_status set(hd_settings *settings, hd_precision precision)
{
	return hd_set_text(&settings->precision, hd_precision_name(precision));
}

hd_status hd_precision_settle(hd_settings *settings, hd_backend *backend)
{
	if (backend->choose_conv)
		backend->choose_conv(backend, (hd_conv)hd_settings_choice("conv", settings->conv));
	if (!strcmp(settings->precision, "auto"))
		return set(settings, backend->bf16 ? HD_PRECISION_BF16 : HD_PRECISION_32);
	if (!strcmp(settings->precision, hd_precision_name(HD_PRECISION_TF32)) && !backend->allow_tf32) {
		hd_warn("--precision tf32: %s has no TF32, computing in 32", backend->tier);
		return set(settings, HD_PRECISION_32);
	}
	return HD_OK;
}

void hd_precision_apply(hd_model_config *config, const hd_settings *settings)
{
	for (hd_precision p = HD_PRECISION_32; p <= HD_PRECISION_F16; p++)
		if (!strcmp(settings->precision, hd_precision_name(p)))
			config->precision = p;
	config->gradient_checkpointing = settings->gradient_checkpointing;
	config->graph = settings->cuda_graph;
}
