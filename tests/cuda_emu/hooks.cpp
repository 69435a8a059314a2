/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks.h"
#include "emu.h"

#include <cstdio>

using namespace hd_emu;

cudaError_t hd_emu_submit(
        cudaStream_t stream, const char *what, void (*run)(void *job), void (*release)(void *job), void *job)
{
	HD_EMU_ENTRY();
	std::shared_ptr<void> held(job, release);
	return submit(stream, what, [kept = std::move(held), run] { run(kept.get()); });
}

void hd_emu_need(const void *address, size_t bytes, const char *what)
{
	HD_EMU_ENTRY();
	need_device(address, bytes, what);
}

void hd_emu_reads(const void *address, size_t bytes)
{
	touch(address, bytes, false);
}

void hd_emu_writes(const void *address, size_t bytes)
{
	touch(address, bytes, true);
}

bool hd_emu_describe(int device, struct hd_emu_device *out)
{
	HD_EMU_ENTRY();
	if (device < 0 || device >= settings.devices)
		return false;
	const Others &o = others(device);
	out->total = settings.memory_bytes;
	out->free = memory_left(device);
	out->utilization = o.utilization;
	out->pid = o.pid;
	out->pid_bytes = o.pid_mb < 0 ? ~0ull : static_cast<unsigned long long>(o.pid_mb) << 20;
	return true;
}

void hd_emu_fail(const char *format, ...)
{
	char text[1024];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	fail("%s", text);
}
