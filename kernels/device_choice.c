/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/device_choice.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEP_BYTES ((size_t)1 << 30) /* of free memory, less than which tells no device from another */
#define UUID_LEAST 5                 /* the prefix and something behind it */

/* ---- what is asked for ---- */

static hd_status not_understood(const char *text)
{
	return hd_fail(HD_E_USAGE,
	        "devices '%s': neither auto, nor a number of devices (1), nor the index ([2]) or UUID (GPU-8f3a...) of "
	        "one",
	        text);
}

static hd_status too_many(const char *text)
{
	return hd_fail(HD_E_USAGE,
	        "devices %s: this version trains on one device; one of several is named by its index, as [2]", text);
}

/* A count, which has to be 1. */
static hd_status read_count(hd_devices *out, const char *text)
{
	char *end;
	long count = strtol(text, &end, 10);
	if (end == text || *end)
		return not_understood(text);
	if (count == 0)
		return hd_fail(HD_E_USAGE,
		        "devices %s: that is no device at all; the first one is named by its index, as [0]", text);
	*out = (hd_devices){.kind = HD_DEVICES_FREEST};
	return count == 1 ? HD_OK : too_many(text);
}

/* Indices between commas, of which the last may stand by itself; end: behind the list. */
static hd_status read_indices(hd_devices *out, const char *text, const char *list, const char *end)
{
	int count = 0;
	for (const char *at = list; at < end; count++) {
		char *after;
		while (isspace((unsigned char)*at))
			at++;
		if (!isdigit((unsigned char)*at))
			return not_understood(text);
		long index = strtol(at, &after, 10);
		while (isspace((unsigned char)*after))
			after++;
		if (index > INT32_MAX || after > end || (after < end && *after != ','))
			return not_understood(text);
		*out = (hd_devices){.kind = HD_DEVICES_INDEX, .index = (int)index};
		at = after + (after < end);
	}
	return count == 1 ? HD_OK : count == 0 ? not_understood(text) : too_many(text);
}

static hd_status read_uuid(hd_devices *out, const char *text)
{
	size_t length = strspn(text + 3, "-0123456789abcdefABCDEF") + 3;
	if (text[length] == ',' && text[length + 1])
		return too_many(text);
	if (text[length] == ',' ? text[length + 1] : text[length])
		return not_understood(text);
	if (length < UUID_LEAST || length >= sizeof out->uuid)
		return not_understood(text);
	*out = (hd_devices){.kind = HD_DEVICES_UUID};
	memcpy(out->uuid, text, length);
	return HD_OK;
}

hd_status hd_devices_parse(hd_devices *out, const char *text)
{
	size_t length = strlen(text);
	*out = (hd_devices){.kind = HD_DEVICES_FREEST};
	if (!strcmp(text, "auto"))
		return HD_OK;
	if (!strncmp(text, "GPU-", 4) || !strncmp(text, "MIG-", 4))
		return read_uuid(out, text);
	if (text[0] == '[')
		return text[length - 1] == ']' ? read_indices(out, text, text + 1, text + length - 1)
		                               : not_understood(text);
	return strchr(text, ',') ? read_indices(out, text, text, text + length) : read_count(out, text);
}

/* ---- which it is ---- */

static size_t memory_steps(const hd_cuda_device_info *info)
{
	return info->available == SIZE_MAX ? 0 : info->available / STEP_BYTES + 1;
}

static bool is_freer(const hd_cuda_device_info *a, const hd_cuda_device_info *b)
{
	size_t steps = memory_steps(a), others = memory_steps(b);
	return steps != others ? steps > others : a->utilization < b->utilization;
}

void hd_devices_order(int *order, const hd_cuda_device_info *info, int count)
{
	for (int i = 0; i < count; i++) {
		int at = i;
		for (; at > 0 && is_freer(&info[i], &info[order[at - 1]]); at--)
			order[at] = order[at - 1];
		order[at] = i;
	}
}

/* Appends, and cuts where it is full. */
__attribute__((format(printf, 3, 4))) static void add(char *out, size_t bytes, const char *format, ...)
{
	va_list arguments;
	size_t used = strlen(out);
	va_start(arguments, format);
	vsnprintf(out + used, bytes - used, format, arguments);
	va_end(arguments);
}

static hd_status no_such(const char *what, const char *wanted, const hd_cuda_device_info *info, int count)
{
	char list[1024] = "";
	for (int i = 0; i < count; i++)
		add(list, sizeof list, "%s[%d] %s %s", i ? ", " : "", i, info[i].name, info[i].uuid);
	return hd_fail(HD_E_USAGE, "--devices %s: %s; there %s %s", wanted, what, count == 1 ? "is" : "are", list);
}

hd_status hd_devices_find(int *out, const hd_devices *wanted, const hd_cuda_device_info *info, int count)
{
	char text[sizeof wanted->uuid];
	int found = 0;
	*out = wanted->index;
	if (wanted->kind == HD_DEVICES_INDEX) {
		snprintf(text, sizeof text, "[%d]", wanted->index);
		return wanted->index < count ? HD_OK : no_such("no such GPU", text, info, count);
	}
	for (int i = 0; i < count; i++) {
		if (strncasecmp(info[i].uuid, wanted->uuid, strlen(wanted->uuid)) != 0)
			continue;
		*out = i;
		found++;
	}
	if (found == 1)
		return HD_OK;
	return no_such(found ? "that is the beginning of several UUIDs" : "no such GPU", wanted->uuid, info, count);
}

/* ---- what is said of it ---- */

static double gib(size_t bytes)
{
	return (double)bytes / (1 << 30);
}

void hd_devices_explain(char *out, size_t bytes, int taken, const hd_cuda_device_info *info, int count)
{
	snprintf(out, bytes, "GPU %d of %d, %s", taken, count, info[taken].name);
	if (info[taken].available != SIZE_MAX)
		add(out, bytes, ": %.1f GiB free", gib(info[taken].available));
	for (int i = 0; i < count; i++) {
		for (int h = 0; h < info[i].holder_count; h++) {
			const hd_cuda_holder *holder = &info[i].holders[h];
			bool named = holder->name[0];
			char size[32] = "memory";
			if (holder->bytes)
				snprintf(size, sizeof size, "%.1f GiB", gib(holder->bytes));
			if (h == 0)
				add(out, bytes, "; GPU %d:", i);
			add(out, bytes, "%s %s%spid %d%s holds %s", h ? "," : "", named ? holder->name : "",
			        named ? " (" : "", holder->pid, named ? ")" : "", size);
		}
	}
}
