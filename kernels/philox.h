/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Philox-4x32-10: four random words from a 128-bit counter and a 64-bit key.
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11, section 3.3.
 */
#ifndef HD_KERNELS_PHILOX_H
#define HD_KERNELS_PHILOX_H

#include <stdint.h>

#include "kernels/device.h"

#define HD_PHILOX_M0 0xD2511F53u
#define HD_PHILOX_M1 0xCD9E8D57u
#define HD_PHILOX_W0 0x9E3779B9u
#define HD_PHILOX_W1 0xBB67AE85u
#define HD_PHILOX_ROUNDS 10

HD_DEVICE static inline void hd_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
	uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
	uint32_t k0 = key[0], k1 = key[1];
	for (int round = 0; round < HD_PHILOX_ROUNDS; round++) {
		uint64_t p0 = (uint64_t)HD_PHILOX_M0 * c0, p1 = (uint64_t)HD_PHILOX_M1 * c2;
		uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
		c1 = (uint32_t)p1;
		c3 = (uint32_t)p0;
		c0 = n0;
		c2 = n2;
		k0 += HD_PHILOX_W0;
		k1 += HD_PHILOX_W1;
	}
	out[0] = c0;
	out[1] = c1;
	out[2] = c2;
	out[3] = c3;
}

#endif
