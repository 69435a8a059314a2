/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of the emulated device, those of compute capability 9.0 (CUDA C++ programming guide, technical
 * specifications). */
#ifndef HD_EMU_DEVICE_H
#define HD_EMU_DEVICE_H

namespace hd_emu
{

enum {
	CAPABILITY_MAJOR = 9,
	CAPABILITY_MINOR = 0,
	SM_COUNT = 4, /* few, so that grids that follow it stay small */
	SM_THREADS = 2048,
	SM_BLOCKS = 32,
	SM_SHARED_BYTES = 228 << 10,
	SHARED_BYTES_DEFAULT = 48 << 10,
	SHARED_BYTES_OPTIN = 227 << 10,
	SHARED_BYTES_RESERVED = 1 << 10,
	REGISTERS = 64 << 10,
	L2_BYTES = 4 << 20,
	BLOCK_THREADS = 1024,
	BLOCK_XY = 1024,
	BLOCK_Z = 64,
	GRID_X = 0x7fffffff,
	GRID_YZ = 65535,
};

} // namespace hd_emu

#endif
