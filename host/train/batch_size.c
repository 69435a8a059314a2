/* SPDX-License-Identifier: Apache-2.0 */
#include "host/train/batch_size.h"

#include "host/common/progress.h"
#include "host/train/precision.h"

#define SHARE 0.9 /* of free memory: batches, libraries and others want some too */

hd_status hd_batch_size_resolve(
        hd_settings *settings, const hd_data_card *card, hd_backend *backend, int64_t samples, bool inference)
{
	hd_status st;
	hd_model_config config;
	size_t available, total;
	if (settings->batch_size > 0)
		return HD_OK;
	HD_TRY(hd_model_config_from(&config, settings, card, 1));
	config.inference = inference;
	if (!inference)
		hd_precision_apply(&config, settings);
	HD_TRY(backend->memory(backend, &available, &total));
	int fits = hd_model_batch_that_fits(backend, &config, (size_t)(SHARE * (double)available));
	if (fits < 1)
		return hd_fail(HD_E_MEMORY, "batch_size auto: not even one sample fits into %.1f MB of free memory",
		        (double)available / 1e6);
	settings->batch_size = 1;
	while (2 * settings->batch_size <= fits && 2 * settings->batch_size <= samples)
		settings->batch_size *= 2;
	hd_message("batch_size auto: %lld, of at most %d that fit into %.1f MB of free memory",
	        (long long)settings->batch_size, fits, (double)available / 1e6);
done:
	return st;
}
