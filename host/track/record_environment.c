/* SPDX-License-Identifier: Apache-2.0 */
/* Where a run was made: environment.json. */
#include <cairo/cairo.h>
#include <ctype.h>
#include <curl/curl.h>
#include <dnnl.h>
#include <fftw3.h>
#include <gnu/libc-version.h>
#include <libpq-fe.h>
#include <libxml/parser.h>
#include <omp.h>
#include <openssl/crypto.h>
#include <protobuf-c/protobuf-c.h>
#include <pwd.h>
#include <soxr.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <yaml.h>
#include <zip.h>
#include <zlib.h>

#include "host/common/memory.h"
#include "host/common/redact.h"
#include "host/common/version.h"
#include "host/track/record.h"

extern char **environ;

/* Variables that change what is computed or where it goes, by the beginnings of their names ... */
static const char *const prefixes[] = {"HEIMDALL_", "HD_", "OMP_", "GOMP_", "DNNL_", "ONEDNN_", "CUDA_", "NCCL_",
        "CUBLAS_", "CUDNN_", "AWS_ENDPOINT_URL"};

/* ... and by their whole names. */
static const char *const names[] = {"MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_S3_ENDPOINT_URL",
        "MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_HTTP_REQUEST_TIMEOUT", "AWS_REGION", "AWS_DEFAULT_REGION",
        "AWS_PROFILE", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "LD_LIBRARY_PATH", "LD_PRELOAD", "TMPDIR",
        "XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "TZ", "SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_JOB_NODELIST",
        "SLURM_CLUSTER_NAME", "SLURM_NNODES", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_CPUS_PER_TASK"};

/* A name with one of these is never written, whatever it begins with. */
static const char *const secrets[] = {"PASSWORD", "PASSWD", "TOKEN", "SECRET", "KEY", "CREDENTIAL", "JWT"};

static bool is_kept(const char *name)
{
	bool kept = false;
	for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
		kept = kept || !strncmp(name, prefixes[i], strlen(prefixes[i]));
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		kept = kept || !strcmp(name, names[i]);
	for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++)
		kept = kept && !strcasestr(name, secrets[i]);
	return kept;
}

/* A text that is no UTF-8, as JSON cannot have it, is left out. */
static void put(json_t *object, const char *key, const char *text)
{
	json_object_set_new(object, key, json_string(text));
}

static hd_status variables(json_t *object)
{
	hd_status st = HD_OK;
	for (char **at = environ; st == HD_OK && *at; at++) {
		char *value = NULL, *name = NULL, *equals = strchr(*at, '=');
		if (!equals)
			continue;
		st = hd_sprintf(&name, "%.*s", (int)(equals - *at), *at);
		if (st == HD_OK && is_kept(name)) {
			st = hd_redact(&value, equals + 1);
			if (st == HD_OK)
				put(object, name, value);
		}
		free(value);
		free(name);
	}
	return st;
}

/* ---- the program and what it is made of ---- */

static json_t *program(void)
{
	char path[4096];
	ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
	json_t *object = json_object();
	path[length > 0 ? length : 0] = 0;
	put(object, "version", hd_version);
	put(object, "commit", hd_commit);
	put(object, "path", path);
	put(object, "compiler", __VERSION__);
	return object;
}

static void put_number(json_t *object, const char *key, int a, int b, int c)
{
	char text[48];
	snprintf(text, sizeof text, "%d.%d.%d", a, b, c);
	put(object, key, text);
}

/* Versions as they are loaded, not those that the program was compiled with. */
static json_t *libraries(void)
{
	json_t *object = json_object();
	const dnnl_version_t *dnnl = dnnl_version();
	const curl_version_info_data *curl = curl_version_info(CURLVERSION_NOW);
	char text[64];
	int postgres = PQlibVersion(), xml = (int)strtol(xmlParserVersion, NULL, 10);
	put_number(object, "oneDNN", dnnl->major, dnnl->minor, dnnl->patch);
	put(object, "FFTW", fftwf_version);
	put(object, "libcurl", curl->version);
	put(object, "TLS of libcurl", curl->ssl_version ? curl->ssl_version : "");
	put(object, "jansson", jansson_version_str());
	put(object, "SQLite", sqlite3_libversion());
	put(object, "Cairo", cairo_version_string());
	put(object, "libyaml", yaml_get_version_string());
	put_number(object, "libxml2", xml / 10000, xml / 100 % 100, xml % 100);
	put(object, "zlib", zlibVersion());
	put(object, "libzip", zip_libzip_version());
	put(object, "OpenSSL", OpenSSL_version(OPENSSL_VERSION));
	put(object, "protobuf-c", protobuf_c_version());
	put(object, "soxr", soxr_version());
	snprintf(text, sizeof text, "%d.%d", postgres / 10000, postgres % 10000);
	put(object, "libpq", text);
	put(object, "glibc", gnu_get_libc_version());
	return object;
}

/* ---- the machine ---- */

/* What stands behind the first "key", blanks and `separator` of a file, without quotes; "" where there is none. */
static void value_in(char *out, size_t bytes, const char *path, const char *key, char separator)
{
	char line[1024];
	FILE *from = fopen(path, "r");
	out[0] = 0;
	while (from && !out[0] && fgets(line, sizeof line, from)) {
		char *at = line + strlen(key);
		if (strncmp(line, key, strlen(key)) != 0)
			continue;
		at += strspn(at, " \t");
		if (*at != separator)
			continue;
		at += 1 + strspn(at + 1, " \t\"");
		snprintf(out, bytes, "%.*s", (int)strcspn(at, "\"\n"), at);
	}
	if (from)
		fclose(from);
}

static json_t *machine(void)
{
	char text[512], host[256] = "";
	struct utsname name;
	const struct passwd *user = getpwuid(geteuid());
	json_t *object = json_object();
	gethostname(host, sizeof host - 1);
	put(object, "hostname", host);
	put(object, "user", user ? user->pw_name : "");
	value_in(text, sizeof text, "/etc/os-release", "PRETTY_NAME", '=');
	put(object, "operating_system", text);
	if (uname(&name) == 0) {
		snprintf(text, sizeof text, "%s %s %s", name.sysname, name.release, name.version);
		put(object, "kernel", text);
		put(object, "architecture", name.machine);
	}
	value_in(text, sizeof text, "/proc/cpuinfo", "model name", ':');
	put(object, "processor", text);
	json_object_set_new(object, "cores", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
	json_object_set_new(object, "cores_usable", json_integer(omp_get_num_procs()));
	json_object_set_new(object, "memory_bytes",
	        json_integer((json_int_t)sysconf(_SC_PHYS_PAGES) * (json_int_t)sysconf(_SC_PAGESIZE)));
	return object;
}

static json_t *device(hd_backend *b)
{
	size_t available, total;
	json_t *object = json_object();
	put(object, "name", b->name);
	put(object, strcmp(b->name, "cpu") != 0 ? "device" : "tier", b->tier);
	put(object, "reason", b->reason);
	json_object_set_new(object, "threads", json_integer(b->threads));
	if (b->memory && b->memory(b, &available, &total) == HD_OK)
		json_object_set_new(object, "memory_bytes", json_integer((json_int_t)total));
	return object;
}

hd_status hd_record_environment(const hd_run *run, hd_backend *backend)
{
	hd_status st;
	json_t *kept = json_object(), *all = NULL;
	char *here = getcwd(NULL, 0);
	HD_TRY(kept ? variables(kept) : hd_fail(HD_E_MEMORY, "out of host memory for the environment"));
	all = json_pack("{s:o, s:o, s:o, s:o, s:O}", "program", program(), "libraries", libraries(), "machine",
	        machine(), "backend", device(backend), "variables", kept);
	HD_TRY(all ? HD_OK : hd_fail(HD_E_MEMORY, "out of host memory for the environment"));
	put(all, "working_directory", here ? here : "");
	st = hd_run_write_json(run, "environment.json", all);
done:
	free(here);
	json_decref(all);
	json_decref(kept);
	return st;
}
