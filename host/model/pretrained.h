/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Published ConvNeXt weights by name, found in the caches that torch and Hugging Face keep for this user. Nothing is
 * ever downloaded. Reads the environment and the file system; thread-safe while nobody changes the environment.
 *
 * The folders (the first variable that is set and not empty counts; "~/" stands for the home folder):
 *   torch:        $TORCH_HOME/hub/checkpoints, $XDG_CACHE_HOME/torch/hub/checkpoints, ~/.cache/torch/hub/checkpoints
 *                 (torch.hub.get_dir)
 *   Hugging Face: $HF_HUB_CACHE, $HUGGINGFACE_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub,
 *                 ~/.cache/huggingface/hub (huggingface_hub, constants.py)
 *
 * The names, those of models and enumerations in upper or lower case:
 *   convnext_SIZE                      timm's and torchvision's: anything of that size, in the order below
 *   convnext_SIZE.TAG                  timm's, in the Hugging Face folder; so are the former names convnext_SIZE_in22k,
 *                                      convnext_SIZE_in22ft1k and convnext_SIZE_384_in22ft1k
 *   timm/NAME, hf-hub:NAME, hf-hub:timm/NAME
 *                                      the same two, in the Hugging Face folder only
 *   ConvNeXt_SIZE_Weights.IMAGENET1K_V1, ConvNeXt_SIZE_Weights.DEFAULT
 *                                      torchvision's file of that size, in torch's folder
 *   IMAGENET1K_V1, DEFAULT             the same of the model's size
 *   a file name, convnext_large-ea097f82.pth, convnext_base_22k_224.pth
 *                                      that file in torch's folder
 *   auto                               anything of the model's size
 *   none, or nothing                   no weights
 * A size stands for itself: convnextv2_atto, convnext_atto_ols, convnext_tiny_hnf and convnext_large_mlp are other
 * networks and match no size.
 *
 * The order, where several would do: timm's default tag of the size (in12k_ft_in1k of nano, tiny, small;
 * fb_in22k_ft_in1k of base, large, xlarge; d2_in1k of atto; d1_in1k of femto, pico); timm's other tags by name;
 * torchvision's file; other files of torch's folder by name. In one repository of the Hugging Face folder: the
 * revision in refs/main, then others by name; model.safetensors, then pytorch_model.bin.
 */
#ifndef HD_MODEL_PRETRAINED_H
#define HD_MODEL_PRETRAINED_H

#include "heimdall/status.h"

/*
 * The file that `name` stands for; *out_path is owned. An existing file stands for itself, whatever its name but
 * auto and none. backbone_size: the model's (settings.def). *out_path is NULL with HD_OK for "none", and for "auto"
 * where there are none: hd_pretrained_missing has the words for the user.
 *
 * HD_E_DATA: not in the folders (the text names the files looked for, where they come from and what of that size is
 * there); a name of no known size (with the nearest one); the first of the order is there and cannot be opened, as a
 * link that leads nowhere; a folder that cannot be listed. HD_E_USAGE: backbone_size is no size.
 */
hd_status hd_pretrained_find(char **out_path, const char *name, const char *backbone_size);

/*
 * One line on what hd_pretrained_find looked for: names, folders, where the files come from, what of that size is
 * there. *out_text is owned. The same errors for a name or size that cannot be.
 */
hd_status hd_pretrained_missing(char **out_text, const char *name, const char *backbone_size);

#endif
