/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which GPU hd_backend_open takes, and what it says of it, with the emulated library: several devices, whose memory,
 * use and processes the environment describes (HD_EMU_NVML, in the reverse of CUDA's order). A process per case, as
 * there is one emulator in each.
 *
 * devices LIBRARY    ends with 0 where all is as it should be, 1 where not.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "heimdall/backend.h"

#define MOST_TEXTS 4

/* UUIDs of the emulated devices 0, 1, ... */
#define UUID(i) "GPU-e000000" #i "-0000-0000-0000-000000000000"

/* Bus order: device 2 with little memory and somebody on it, device 1 with most, device 0 with a little less. */
#define UNEVEN "free=1000,util=90,pid=1:6000;free=7900;free=6500,pid=2000000000"

typedef struct device_case {
	const char *others, *without; /* HD_EMU_NVML, HD_EMU_WITHOUT */
	const char *accelerator, *devices;
	hd_status want;
	const char *texts[MOST_TEXTS]; /* in the reason, or in the error */
	const char *absent;
} device_case;

static const device_case cases[] = {
        /* the freest, by memory, by use, by place */
        {UNEVEN, "", "gpu", NULL, HD_OK, {"GPU 1 of 3, CUDA emulation", ": 7.7 GiB free"}, "left out"},
        {UNEVEN, "", "auto", "auto", HD_OK, {"GPU 1 of 3", "; GPU 0: pid 2000000000 holds memory", "holds 5.9 GiB"},
                NULL},
        {UNEVEN, "", "gpu", "1", HD_OK, {"GPU 1 of 3"}, NULL},
        {"free=7000,util=50;free=7100,util=40;free=6900,util=60", "", "gpu", NULL, HD_OK, {"GPU 1 of 3"}, NULL},
        {"util=50;util=40;util=40", "", "gpu", NULL, HD_OK, {"GPU 0 of 3"}, NULL},
        {"", "", "gpu", NULL, HD_OK, {"GPU 0 of 3", ": 8.0 GiB free"}, "holds"},
        /* without NVML CUDA is asked */
        {UNEVEN, "nvml", "gpu", NULL, HD_OK, {"GPU 1 of 3", ": 7.7 GiB free"}, "holds"},
        {UNEVEN, "nvml", "gpu", "[2]", HD_OK, {"GPU 2 of 3"}, "free"},
        /* as asked */
        {UNEVEN, "", "gpu", "[2]", HD_OK, {"GPU 2 of 3", ": 1.0 GiB free", "GPU 2: "}, NULL},
        {UNEVEN, "", "gpu", "0,", HD_OK, {"GPU 0 of 3", ": 6.3 GiB free"}, NULL},
        {UNEVEN, "", "auto", " 2 ,", HD_OK, {"GPU 2 of 3"}, NULL},
        {UNEVEN, "", "gpu", UUID(2), HD_OK, {"GPU 2 of 3"}, NULL},
        {UNEVEN, "", "auto", "GPU-E0000000", HD_OK, {"GPU 0 of 3"}, NULL},
        {UNEVEN, "nvml", "gpu", "GPU-e0000002", HD_OK, {"GPU 2 of 3"}, NULL},
        /* what is not there */
        {"", "", "gpu", "[3]", HD_E_USAGE,
                {"--devices [3]: no such GPU", "there are [0] CUDA", "[2] CUDA emulation on the host " UUID(2)}, NULL},
        {"", "", "auto", "GPU-ff", HD_E_USAGE, {"--devices GPU-ff: no such GPU", UUID(0), UUID(1)}, NULL},
        {"", "", "auto", "GPU-e000000", HD_E_USAGE, {"the beginning of several UUIDs", UUID(0)}, NULL},
        {"", "", "auto", "MIG-e0000000", HD_E_USAGE, {"no such GPU"}, NULL},
        /* what cannot be */
        {"", "", "gpu", "2", HD_E_USAGE, {"devices 2: this version trains on one device"}, NULL},
        {"", "", "gpu", "-1", HD_E_USAGE, {"trains on one device"}, NULL},
        {"", "", "gpu", "0", HD_E_USAGE, {"no device at all"}, NULL},
        {"", "", "gpu", "[0, 1]", HD_E_USAGE, {"trains on one device"}, NULL},
        {"", "", "gpu", "0,1", HD_E_USAGE, {"trains on one device"}, NULL},
        {"", "", "gpu", "GPU-e0000000,GPU-e0000001", HD_E_USAGE, {"trains on one device"}, NULL},
        {"", "", "gpu", "", HD_E_USAGE, {"devices '': neither auto"}, NULL},
        {"", "", "gpu", "[]", HD_E_USAGE, {"neither auto"}, NULL},
        {"", "", "gpu", "[1", HD_E_USAGE, {"neither auto"}, NULL},
        {"", "", "gpu", "first", HD_E_USAGE, {"devices 'first': neither auto"}, NULL},
        {"", "", "gpu", "1x", HD_E_USAGE, {"neither auto"}, NULL},
        {"", "", "gpu", ",", HD_E_USAGE, {"neither auto"}, NULL},
        {"", "", "gpu", "GPU-", HD_E_USAGE, {"neither auto"}, NULL},
        {"", "", "cpu", "[1", HD_E_USAGE, {"neither auto"}, NULL},
        {"", "", "cpu", "[9]", HD_OK, {"CPU: as asked"}, NULL},
        /* a device that does not start: the next one where any will do, an error where not */
        {"free=2000;free=7900,exclusive;free=6500", "", "gpu", NULL, HD_OK,
                {"GPU 0 of 3", "; GPU 1 is left out: ", "another process has the device to itself"}, NULL},
        {"free=2000;free=7900,exclusive;free=6500", "nvml", "gpu", NULL, HD_OK, {"GPU 0 of 3"}, "left out"},
        {"free=2000;free=10;free=6500,exclusive", "", "auto", "1", HD_OK, {"GPU 2 of 3", "GPU 0 is left out"}, NULL},
        {"free=9", "", "gpu", "[2]", HD_E_MEMORY, {"out of device memory"}, NULL},
        {";exclusive", "", "gpu", "[1]", HD_E_UNSUPPORTED, {"another process has the device to itself"}, NULL},
        {";exclusive", "", "auto", "[1]", HD_E_UNSUPPORTED, {"--devices [1]: ", "to itself"}, NULL},
        {"exclusive;exclusive;exclusive", "", "gpu", NULL, HD_E_UNSUPPORTED,
                {"none of 3 GPUs starts", "GPU 0 is left out", "GPU 2 is left out"}, NULL},
        {"exclusive;exclusive;exclusive", "", "auto", NULL, HD_OK, {"CPU: none of 3 GPUs starts"}, NULL},
};
#define CASES ((int)(sizeof cases / sizeof *cases))

/* The device that is open is the one whose memory the reason gives. */
static bool works(hd_backend *b)
{
	float in[2] = {1, 2}, out[2] = {0, 0};
	void *memory = NULL;
	bool right = b->alloc(b, &memory, sizeof in) == HD_OK && b->upload(b, memory, in, sizeof in, NULL) == HD_OK &&
	             b->download(b, out, memory, sizeof out, NULL) == HD_OK && out[1] == 2;
	b->free(b, memory);
	return right;
}

static bool run(const device_case *c)
{
	hd_backend *b;
	hd_status st = hd_backend_open(&b, c->accelerator, c->devices, 1);
	const char *said = st == HD_OK ? b->reason : hd_error_text();
	bool right = st == c->want;
	for (int i = 0; i < MOST_TEXTS && c->texts[i]; i++)
		right = right && strstr(said, c->texts[i]);
	right = right && !(c->absent && strstr(said, c->absent)) && (st != HD_OK || works(b));
	if (!right)
		printf("FAIL --accelerator %s --devices %s, HD_EMU_NVML='%s' without '%s': %s: %s\n", c->accelerator,
		        c->devices ? c->devices : "(none)", c->others, c->without, hd_status_text(st), said);
	if (st == HD_OK)
		hd_backend_close(b);
	fflush(stdout);
	return right;
}

int main(int argc, char **argv)
{
	int failed = 0;
	if (argc != 2) {
		fprintf(stderr, "usage: devices LIBRARY\n");
		return 2;
	}
	setenv("HEIMDALL_CUDA_LIBRARY", argv[1], 1);
	setenv("HD_EMU_DEVICES", "3", 1);
	for (int i = 0; i < CASES; i++) {
		fflush(stdout);
		pid_t child = fork();
		int code = -1;
		if (child == 0) {
			setenv("HD_EMU_NVML", cases[i].others, 1);
			setenv("HD_EMU_WITHOUT", cases[i].without, 1);
			_exit(run(&cases[i]) ? 0 : 1);
		}
		if (child < 0 || waitpid(child, &code, 0) != child || code != 0) {
			printf("FAIL case %d\n", i);
			failed++;
		}
	}
	printf("devices: %d cases, %d failed\n", CASES, failed);
	return failed != 0;
}
