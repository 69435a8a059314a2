/* SPDX-License-Identifier: Apache-2.0 */
/* Environment variables, random numbers, reports, the lock. */
#include "emu.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cxxabi.h>
#include <dlfcn.h>
#include <sstream>
#include <string>
#include <unistd.h>

namespace hd_emu
{

static uint64_t random_state;

static long number(const char *name, long missing, long lowest)
{
	const char *text = getenv(name);
	if (!text || !*text)
		return missing;
	char *end;
	long value = strtol(text, &end, 10);
	if (*end || value < lowest)
		fail("%s=%s: expected a number from %ld", name, text, lowest);
	return value;
}

static RunOrder run_order()
{
	const char *text = getenv("HD_EMU_ORDER");
	random_state = 1;
	if (!text || !*text || !strcmp(text, "forward"))
		return ORDER_FORWARD;
	if (!strcmp(text, "reverse"))
		return ORDER_REVERSE;
	unsigned long seed;
	char rest;
	if (sscanf(text, "random:%lu%c", &seed, &rest) != 1)
		fail("HD_EMU_ORDER=%s: expected forward, reverse or random:N", text);
	random_state = 2 * seed + 1;
	return ORDER_RANDOM;
}

static bool forbids_default_stream()
{
	const char *text = getenv("HD_EMU_DEFAULT_STREAM");
	if (!text || !*text || !strcmp(text, "allow"))
		return false;
	if (strcmp(text, "forbid") != 0)
		fail("HD_EMU_DEFAULT_STREAM=%s: expected allow or forbid", text);
	return true;
}

/* "free=MB", "util=PERCENT", "pid=PID:MB" or "pid=PID", "exclusive" */
static void read_word(Others *o, const std::string &word, const char *list)
{
	char rest;
	int length = 0;
	if (sscanf(word.c_str(), "free=%ld%c", &o->free_mb, &rest) == 1 ||
	        sscanf(word.c_str(), "util=%d%c", &o->utilization, &rest) == 1 ||
	        sscanf(word.c_str(), "pid=%d:%ld%c", &o->pid, &o->pid_mb, &rest) == 2)
		return;
	if (sscanf(word.c_str(), "pid=%d%n", &o->pid, &length) == 1 && length == static_cast<int>(word.size()))
		o->pid_mb = -1;
	else if (word == "exclusive")
		o->exclusive = true;
	else if (!word.empty())
		fail("HD_EMU_NVML=%s: '%s' is none of free=MB, util=PERCENT, pid=PID:MB, exclusive", list,
		        word.c_str());
}

const Others &others(int device)
{
	static std::vector<Others> devices;
	const char *list = getenv("HD_EMU_NVML");
	if (devices.empty()) {
		devices.assign(static_cast<size_t>(settings.devices) + 1, {-1, 0, 0, 0, false});
		std::istringstream entries(list ? list : "");
		std::string entry, word;
		for (int at = settings.devices - 1; at >= 0 && std::getline(entries, entry, ';'); at--) {
			std::istringstream words(entry);
			while (std::getline(words, word, ','))
				read_word(&devices[static_cast<size_t>(at)], word, list);
		}
	}
	return devices[static_cast<size_t>(device)];
}

static Settings read_settings()
{
	Settings s = {};
	s.order = run_order();
	s.lazy = number("HD_EMU_LAZY", 0, 0) != 0;
	s.poison = number("HD_EMU_POISON", 0, 0) != 0;
	s.trace = number("HD_EMU_TRACE", 0, 0) != 0;
	s.check_leaks = number("HD_EMU_LEAKS", 0, 0) != 0;
	s.forbid_default_stream = forbids_default_stream();
	s.memory_bytes = static_cast<size_t>(number("HD_EMU_MEMORY_MB", 8192, 0)) << 20;
	s.fail_at = number("HD_EMU_FAIL_AT", 0, 0);
	s.devices = static_cast<int>(number("HD_EMU_DEVICES", 1, 0));
	if (s.poison && !HD_EMU_ASAN)
		fail("HD_EMU_POISON=1 needs the build with the address sanitizer");
	return s;
}

Settings settings = read_settings();

unsigned random_below(unsigned n)
{
	random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
	return static_cast<unsigned>((random_state >> 33) % n);
}

void fail(const char *format, ...)
{
	fputs("cuda_emu: ERROR: ", stderr);
	va_list args;
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	report_where();
	fflush(nullptr);
	_exit(EXIT_REPORT);
}

void trace(const char *format, ...)
{
	if (!settings.trace)
		return;
	fputs("cuda_emu: ", stderr);
	va_list args;
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

bool injected_failure(const char *what)
{
	static long requests;
	if (++requests != settings.fail_at)
		return false;
	trace("request %ld, %s, fails as HD_EMU_FAIL_AT asks", requests, what);
	return true;
}

const char *symbol_name(const void *address, char *buffer, size_t size)
{
	Dl_info info;
	if (!dladdr(address, &info) || !info.dli_sname) {
		snprintf(buffer, size, "%s", "");
		return buffer;
	}
	int status;
	char *demangled = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
	snprintf(buffer, size, "%s", demangled ? demangled : info.dli_sname);
	free(demangled);
	return buffer;
}

/* ---- the lock ---- */

static std::recursive_mutex lock;
bool in_host_function;

Entry::Entry(const char *function) : guard(lock)
{
	if (in_kernel())
		fail("%s is called inside of a kernel", function);
	if (in_host_function)
		fail("%s is called by a host function of a stream, which must not use the runtime", function);
}

/* The functions that sanitizers call when they report: the report then also names kernel, block and thread. */
extern "C" {
__attribute__((used)) void __asan_on_error()
{
	report_where();
}
__attribute__((used)) void __tsan_on_report(void *)
{
	report_where();
}
__attribute__((used)) void __ubsan_on_report()
{
	report_where();
}
}

} // namespace hd_emu
