/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints: safetensors with the weights under timm's names and, as JSON metadata, all that is needed to
 * use the model (settings, receivers, label frame, feature statistics) and, in `last`, to go on training
 * (moments as exp_avg.NAME and exp_avg_sq.NAME, the average of the weights as ema.NAME, counters, best results).
 */
#ifndef HEIMDALL_CHECKPOINT_H
#define HEIMDALL_CHECKPOINT_H

#include "heimdall/geo.h"
#include "heimdall/model.h"
#include "heimdall/safetensors.h"
#include "heimdall/settings.h"

#define HD_CHECKPOINT_FORMAT 3
#define HD_TOP_K_MAX 1000
#define HD_RUN_ID 33 /* 32 hexadecimal digits and the end */

/* What a model knows about its data. */
typedef struct hd_data_card {
	char *receivers; /* channel order, comma-separated */
	int channels;
	hd_label_frame frame;
	double centre_latitude_deg; /* mean of the training labels */
	double centre_longitude_deg;
	double sigma_min_m, sigma_max_m;
	int height;    /* H, rows of a network input */
	float *mean;   /* (H); NULL with normalize recording */
	float *rstd;   /* (H) */
	float *offset; /* (channels) dB taken out of each receiver's levels; NULL without gain_offsets */
} hd_data_card;

void hd_data_card_free(hd_data_card *card); /* NULL-safe */

typedef struct hd_ranked {
	char *path; /* file name within the checkpoint folder */
	double val_loss;
} hd_ranked;

/* Where training stands. */
typedef struct hd_train_state {
	int64_t epoch;       /* finished epochs */
	int64_t step;        /* steps done in the running epoch */
	int64_t global_step; /* optimizer steps in all */
	double best_loss;    /* lowest val_loss so far; infinity before the first */
	int64_t best_epoch;
	double stop_loss;   /* what early stopping compares with: lowered by steps of more than early_stop_min_delta */
	int64_t bad_epochs; /* epochs since */
	double sums[4];     /* of gaussian_nll over the running epoch's batches */
	double norm_sum;    /* of the gradient's norm over the running epoch's steps, before clipping */
	double norm_max;
	float loss_scale;    /* with precision 16-mixed (hd_model_get_loss_scale), else 0 */
	int32_t good_steps;  /* since it last changed */
	char run[HD_RUN_ID]; /* the run that it belongs to; "" outside of one */
	bool finished;       /* early stopping or the last epoch reached */
	hd_ranked *top;      /* best first */
	size_t top_count;
	size_t top_capacity;
} hd_train_state;

void hd_train_state_free(hd_train_state *state); /* NULL-safe */
hd_status hd_train_state_copy(hd_train_state *out, const hd_train_state *state);

typedef struct hd_checkpoint {
	hd_safetensors file;
	hd_settings settings; /* as resolved in the run that wrote it */
	hd_data_card card;
	hd_train_state state;
	/* of the run that wrote it */
	int threads;
	char *backend;
	char *tier;
	char run[HD_RUN_ID]; /* "" outside of one */
} hd_checkpoint;

/*
 * Weights alone (their average where one is kept), or (with_state) all that training goes on from. Atomic. Reads the
 * model by hd_model_read alone, so that another thread may write from a copy of it (host/model/snapshot.h).
 */
hd_status hd_checkpoint_save(const char *path, const hd_model *model, const hd_backend *backend,
        const hd_settings *settings, const hd_data_card *card, const hd_train_state *state, bool with_state);

/* Opens and checks a file; HD_E_DATA with the reason where it is no valid checkpoint of this program. */
hd_status hd_checkpoint_open(hd_checkpoint *out, const char *path);
void hd_checkpoint_close(hd_checkpoint *checkpoint); /* NULL-safe */

/* Whether training can go on from it. */
bool hd_checkpoint_has_state(const hd_checkpoint *checkpoint);

/* Makes the model that a checkpoint holds, for inference on batches of N; label_sigma as in hd_model_config. */
hd_status hd_checkpoint_model(
        hd_model **out, const hd_checkpoint *checkpoint, hd_backend *backend, int batch, bool label_sigma);

/* The weights of a checkpoint into a model of the same shapes; HD_E_DATA names the first tensor that does not fit. */
hd_status hd_checkpoint_load_weights(hd_model *model, const hd_checkpoint *checkpoint);

/* Weights, and moments and average as far as both have them; the rest starts as in a new run. */
hd_status hd_checkpoint_load_state(hd_model *model, const hd_checkpoint *checkpoint);

/*
 * The newest valid checkpoint with a training state in a folder, found by reading the files: *out_path is new
 * text. HD_E_DATA where there is none.
 */
hd_status hd_checkpoint_find_newest(char **out_path, const char *folder);

/* Hidden layers of the heads from "512,128,64"; HD_E_USAGE for anything else. */
hd_status hd_head_widths_parse(hd_model_config *out, const char *text);

/* The model's shape from settings and data. */
hd_status hd_model_config_from(hd_model_config *out, const hd_settings *settings, const hd_data_card *card, int batch);

#endif
