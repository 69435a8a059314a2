/* SPDX-License-Identifier: Apache-2.0 */
/* What tests ask of the stand-in for cuDNN. */
#ifndef HD_FAKE_CUDNN_H
#define HD_FAKE_CUDNN_H

typedef enum hd_fake_cudnn_mood {
	HD_FAKE_CUDNN_SOUND,
	HD_FAKE_CUDNN_WRONG,   /* results a thousandth too large */
	HD_FAKE_CUDNN_REFUSES, /* convolutions answer CUDNN_STATUS_NOT_SUPPORTED */
	HD_FAKE_CUDNN_GREEDY,  /* wants a terabyte of workspace */
	HD_FAKE_CUDNN_ABSENT   /* no handle starts */
} hd_fake_cudnn_mood;

extern hd_fake_cudnn_mood hd_fake_cudnn_mood_now;
extern int hd_fake_cudnn_convolutions; /* queued so far */
extern int hd_fake_cudnn_descriptors;  /* alive, handles included */

#endif
