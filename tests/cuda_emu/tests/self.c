/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Usage: self            runs every case; exit code 0: all as expected
 *        self CASE       runs one case in this process, with the environment as it is
 *        self -v [TEXT]  runs the cases with TEXT in their name and shows what they say
 */
#include "self.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
enum { BUILD = 1 };
#elif defined(__SANITIZE_THREAD__)
enum { BUILD = 2 };
#else
enum { BUILD = 0 };
#endif
static const char *const build_names[] = {"plain", "asan", "tsan"};

extern char **environ;

enum { OUTPUT_BYTES = 1 << 20, MAX_ENVIRONMENT = 256 };
static char output[OUTPUT_BYTES];

static const test_case *const suites[] = {kernel_cases, fault_cases, memory_cases, stream_cases, graph_cases,
        device_cases, blas_cases, fft_cases, nccl_cases, without_cases};
enum { SUITES = sizeof suites / sizeof *suites };

/* ---- helpers ---- */

float random_float(void)
{
	static unsigned state = 1;
	state = state * 1664525u + 1013904223u;
	return (float)(state >> 8) / 8388608.0f - 1.0f;
}

float *random_floats(size_t n)
{
	float *numbers = malloc(n * sizeof *numbers);
	CHECK(numbers, "out of memory");
	for (size_t i = 0; i < n; i++)
		numbers[i] = random_float();
	return numbers;
}

/* On a stream of its own, so that cases may forbid the default stream. */
static void copy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
	cudaStream_t stream = new_stream();
	CUDA_OK(cudaDeviceSynchronize());
	CUDA_OK(cudaMemcpyAsync(to, from, bytes, kind, stream));
	CUDA_OK(cudaStreamSynchronize(stream));
	CUDA_OK(cudaStreamDestroy(stream));
}

void *to_device(const void *host, size_t bytes)
{
	void *device;
	CUDA_OK(cudaMalloc(&device, bytes));
	if (host)
		copy(device, host, bytes, cudaMemcpyHostToDevice);
	return device;
}

void from_device(void *host, const void *device, size_t bytes)
{
	copy(host, device, bytes, cudaMemcpyDeviceToHost);
}

cudaStream_t new_stream(void)
{
	cudaStream_t stream;
	CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	return stream;
}

void check_close(const float *got, const float *wanted, size_t n, double tolerance, const char *what)
{
	for (size_t i = 0; i < n; i++)
		CHECK(fabs((double)got[i] - (double)wanted[i]) <= tolerance,
		        "%s, number %zu: got %g, wanted %g (within %g)", what, i, (double)got[i], (double)wanted[i],
		        tolerance);
}

/* ---- the runner ---- */

/* The environment with the case's settings before everything else and none of the emulator's besides. */
static void make_environment(const test_case *c, char *text, size_t size, char **list)
{
	static char sanitizers[] = "TSAN_OPTIONS=halt_on_error=1:report_thread_leaks=0:atexit_sleep_ms=0";
	static char asan[] = "ASAN_OPTIONS=detect_leaks=0";
	static char threads[] = "OMP_NUM_THREADS=1";
	size_t count = 0;
	snprintf(text, size, "%s", c->environment ? c->environment : "");
	for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
		list[count++] = word;
	list[count++] = sanitizers;
	list[count++] = asan;
	list[count++] = threads;
	for (char **e = environ; *e && count < MAX_ENVIRONMENT - 1; e++)
		if (strncmp(*e, "HD_EMU_", 7) != 0 && strncmp(*e, "TSAN_", 5) != 0 && strncmp(*e, "ASAN_", 5) != 0 &&
		        strncmp(*e, "OMP_NUM_THREADS=", 16) != 0)
			list[count++] = *e;
	list[count] = NULL;
}

/* Exit code of the case in a process of its own; `output` has what it says. */
static int run_apart(const test_case *c)
{
	char text[512], *list[MAX_ENVIRONMENT], name[64];
	make_environment(c, text, sizeof text, list);
	snprintf(name, sizeof name, "%s", c->name);
	char program[] = "/proc/self/exe", *args[] = {program, name, NULL};
	int ends[2];
	CHECK(pipe(ends) == 0, "no pipe");
	posix_spawn_file_actions_t actions;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
	posix_spawn_file_actions_addclose(&actions, ends[0]);
	posix_spawn_file_actions_addclose(&actions, ends[1]);
	pid_t child;
	CHECK(posix_spawn(&child, program, &actions, NULL, args, list) == 0, "the program cannot start itself");
	posix_spawn_file_actions_destroy(&actions);
	close(ends[1]);
	size_t length = 0;
	ssize_t got;
	while (length < OUTPUT_BYTES - 1 && (got = read(ends[0], output + length, OUTPUT_BYTES - 1 - length)) > 0)
		length += (size_t)got;
	output[length] = '\0';
	close(ends[0]);
	int status;
	CHECK(waitpid(child, &status, 0) == child, "the case is lost");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* True: as expected. */
static bool judge(const test_case *c, bool verbose)
{
	const char *expect = c->expect[BUILD];
	int code = run_apart(c);
	bool good = expect ? code != 0 && strstr(output, expect) : code == 0;
	if (verbose || !good)
		printf("---- %s (%s %s): exit code %d\n%s", c->name, build_names[BUILD],
		        c->environment ? c->environment : "", code, output);
	if (!good)
		printf("not ok %s (%s): %s%s\n", c->name, build_names[BUILD],
		        expect ? "a failure was expected that says: " : "no failure was expected",
		        expect ? expect : "");
	fflush(stdout);
	return good;
}

/* Is the case of this build, and does its name have this text? */
static bool wanted(const test_case *c, const char *part)
{
	const char *expect = c->expect[BUILD];
	return strstr(c->name, part) && !(expect && !strcmp(expect, NOT_RUN));
}

/* Every count-th case from the first-th on; the number of those that are not as expected. */
static int run_share(int first, int count, const char *part, bool verbose)
{
	int bad = 0, index = 0;
	for (int s = 0; s < SUITES; s++)
		for (const test_case *c = suites[s]; c->name; c++)
			if (wanted(c, part) && index++ % count == first)
				bad += !judge(c, verbose);
	return bad;
}

/* As many processes as there are processors share the cases. */
static int run_all(const char *part, bool verbose)
{
	enum { MAX_WORKERS = 16, MOST = 255 };
	pid_t workers[MAX_WORKERS];
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	int count = verbose || processors < 1 ? 1 : processors > MAX_WORKERS ? MAX_WORKERS : (int)processors, bad = 0;
	for (int w = 0; w < count; w++) {
		workers[w] = fork();
		CHECK(workers[w] >= 0, "no process");
		if (workers[w] == 0) {
			int mine = run_share(w, count, part, verbose);
			_exit(mine < MOST ? mine : MOST);
		}
	}
	for (int w = 0; w < count; w++) {
		int status;
		CHECK(waitpid(workers[w], &status, 0) == workers[w], "a worker is lost");
		bad += WIFEXITED(status) ? WEXITSTATUS(status) : 1;
	}
	return bad;
}

static int run_one(const char *name)
{
	for (int s = 0; s < SUITES; s++)
		for (const test_case *c = suites[s]; c->name; c++)
			if (!strcmp(name, c->name)) {
				c->run();
				return 0;
			}
	fprintf(stderr, "no case is called %s\n", name);
	return 2;
}

int main(int argc, char **argv)
{
	bool verbose = argc > 1 && !strcmp(argv[1], "-v");
	const char *part = verbose && argc > 2 ? argv[2] : "";
	if (argc == 2 && !verbose)
		return run_one(argv[1]);
	int count = 0;
	for (int s = 0; s < SUITES; s++)
		for (const test_case *c = suites[s]; c->name; c++)
			count += wanted(c, part);
	struct timespec begin, end;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	int bad = run_all(part, verbose);
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("cuda_emu self-tests, %s: %d cases, %d not as expected, %.1f s\n", build_names[BUILD], count, bad,
	        (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec));
	return bad != 0 || count == 0;
}
