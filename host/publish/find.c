/* SPDX-License-Identifier: Apache-2.0 */
/* Which files a name means: a run's, a folder's, a checkpoint's, an exported model's. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "heimdall/export.h"
#include "host/common/memory.h"
#include "host/common/sha256.h"
#include "host/export/onnx_model.h"
#include "host/publish/model.h"
#include "host/track/run.h"

#define BEST "best.safetensors"

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static hd_status join(char **out, const char *folder, const char *name)
{
	return hd_sprintf(out, "%s/%s", folder, name);
}

/* "FOLDER/" of a path, "" where it has none; how long it is. */
static int folder_length(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? (int)(slash + 1 - path) : 0;
}

/* The exported model beside a checkpoint must be there; one that was refused is said to be. */
static hd_status need_model(const char *onnx, const char *checkpoint)
{
	hd_status st;
	char *rejected = NULL;
	if (exists(onnx))
		return HD_OK;
	HD_TRY(hd_sprintf(&rejected, "%s.rejected", onnx));
	st = exists(rejected) ? hd_fail(HD_E_FAILED,
	                                "%s: validation has refused this model; heimdall export --checkpoint %s "
	                                "says in what it differs",
	                                rejected, checkpoint)
	                      : hd_fail(HD_E_DATA, "%s: is not there; write it by heimdall export --checkpoint %s",
	                                onnx, checkpoint);
done:
	free(rejected);
	return st;
}

static hd_status of_checkpoint(hd_publish_found *out, const char *path)
{
	hd_status st;
	HD_TRY(hd_strdup(&out->checkpoint, path));
	HD_TRY(hd_sprintf(&out->onnx_path, "%.*s" HD_ONNX_FILE, folder_length(path), path));
	HD_TRY(need_model(out->onnx_path, path));
done:
	return st;
}

/* The best checkpoint beside a model, where it is the one that the model was written from. */
static hd_status of_model(hd_publish_found *out, const char *path)
{
	hd_status st;
	hd_onnx_peek peek = {0};
	char *best = NULL, sha256[HD_SHA256_HEX_BYTES];
	HD_TRY(hd_strdup(&out->onnx_path, path));
	HD_TRY(hd_onnx_peek_file(&peek, path));
	HD_TRY(hd_sprintf(&best, "%.*s" BEST, folder_length(path), path));
	if (exists(best)) {
		const char *from = hd_onnx_peek_find(&peek, HD_ONNX_KEY_SHA256);
		HD_TRY(hd_sha256_file(sha256, best));
		if (from && !strcmp(from, sha256)) {
			out->checkpoint = best;
			best = NULL;
		}
	}
done:
	free(best);
	hd_onnx_peek_free(&peek);
	return st;
}

static hd_status of_folder(hd_publish_found *out, const char *folder)
{
	hd_status st;
	char *best = NULL, *onnx = NULL;
	HD_TRY(join(&best, folder, BEST));
	HD_TRY(join(&onnx, folder, HD_ONNX_FILE));
	if (exists(best))
		HD_TRY(of_checkpoint(out, best));
	else if (exists(onnx))
		HD_TRY(of_model(out, onnx));
	else
		st = hd_fail(HD_E_DATA, "%s: neither a run nor a folder with " BEST " or " HD_ONNX_FILE, folder);
done:
	free(onnx);
	free(best);
	return st;
}

static hd_status of_run(hd_publish_found *out, const hd_run *run)
{
	hd_status st;
	char *checkpoints = NULL;
	HD_TRY(hd_strdup(&out->run_folder, run->folder));
	HD_TRY(hd_run_path(&checkpoints, run, "checkpoints"));
	st = of_folder(out, checkpoints);
	if (st != HD_OK)
		hd_context(st, "run %s", run->name);
done:
	free(checkpoints);
	return st;
}

/* Where a checkpoint folder lies in its run's, the run is known too. */
static hd_status run_above(hd_publish_found *out)
{
	hd_status st;
	char *above = NULL, *marker = NULL;
	const char *path = out->checkpoint ? out->checkpoint : out->onnx_path;
	int length = folder_length(path);
	if (out->run_folder)
		return HD_OK;
	HD_TRY(hd_sprintf(&above, "%.*s%s..", length, path, length ? "" : "./"));
	HD_TRY(join(&marker, above, "run.json"));
	if (exists(marker)) {
		out->run_folder = above;
		above = NULL;
	}
done:
	free(marker);
	free(above);
	return st;
}

hd_status hd_publish_find(hd_publish_found *out, const char *runs_dir, const char *name)
{
	hd_status st;
	struct stat info;
	hd_run run = {0};
	char *marker = NULL;
	*out = (hd_publish_found){0};
	HD_TRY(join(&marker, name, "run.json"));
	bool there = stat(name, &info) == 0;
	if (there && !S_ISDIR(info.st_mode)) {
		HD_TRY(hd_onnx_model_is(name) ? of_model(out, name) : of_checkpoint(out, name));
	} else if (there && !exists(marker)) {
		HD_TRY(of_folder(out, name));
	} else {
		HD_TRY(hd_run_find(&run, runs_dir, name));
		HD_TRY(of_run(out, &run));
	}
	HD_TRY(run_above(out));
done:
	free(marker);
	hd_run_free(&run);
	if (st != HD_OK)
		hd_publish_found_free(out);
	return st;
}

void hd_publish_found_free(hd_publish_found *found)
{
	if (!found)
		return;
	free(found->run_folder);
	free(found->checkpoint);
	free(found->onnx_path);
	*found = (hd_publish_found){0};
}
