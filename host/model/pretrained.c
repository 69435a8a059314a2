/* SPDX-License-Identifier: Apache-2.0 */
#include "host/model/pretrained.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "heimdall/model.h"
#include "host/common/memory.h"
#include "host/common/settings_table.h"

#define NAME_BYTES 128
#define SIZES_MAX 32
#define REPOSITORY "models--timm--convnext_"

/* What is published of a size: timm's default tag (timm, models/convnext.py: the first tag of each model in
 * default_cfgs), torchvision's file (torchvision, models/convnext.py) or NULL. */
static const struct {
	const char *size, *tag, *file;
} published[] = {
        {"atto", "d2_in1k", NULL},
        {"femto", "d1_in1k", NULL},
        {"pico", "d1_in1k", NULL},
        {"nano", "in12k_ft_in1k", NULL},
        {"tiny", "in12k_ft_in1k", "convnext_tiny-983f1562.pth"},
        {"small", "in12k_ft_in1k", "convnext_small-0c510722.pth"},
        {"base", "fb_in22k_ft_in1k", "convnext_base-6075fbad.pth"},
        {"large", "fb_in22k_ft_in1k", "convnext_large-ea097f82.pth"},
        {"xlarge", "fb_in22k_ft_in1k", NULL},
};

/* timm's former names: what followed the size, and the tag it became. The first ending that fits counts. */
static const struct {
	const char *ending, *tag;
} former[] = {
        {"_384_in22ft1k", "fb_in22k_ft_in1k_384"},
        {"_in22ft1k", "fb_in22k_ft_in1k"},
        {"_in22k", "fb_in22k"},
};

/* A name, understood. */
typedef struct request {
	const char *size;
	const char *default_tag; /* "": the size has none */
	const char *official;    /* torchvision's file of the size; NULL where it publishes none */
	char tag[NAME_BYTES];    /* "": any */
	char file[NAME_BYTES];   /* in torch's folder; "": any of the size */
	bool hugging_face;       /* which folders are looked into */
	bool torch;
} request;

/* Paths in the order of preference. */
typedef struct found {
	char **paths;
	size_t count, capacity;
} found;

typedef struct folders {
	char *torch, *hugging_face;
} folders;

static void free_found(found *f)
{
	for (size_t i = 0; i < f->count; i++)
		free(f->paths[i]);
	free(f->paths);
	*f = (found){0};
}

static void free_folders(folders *f)
{
	free(f->torch);
	free(f->hugging_face);
	*f = (folders){0};
}

/* ---- folders ---- */

static hd_status home_folder(const char **out)
{
	*out = getenv("HOME");
	if (!*out || !**out) {
		const struct passwd *user = getpwuid(getuid());
		*out = user ? user->pw_dir : NULL;
	}
	return *out ? HD_OK
	            : hd_fail(HD_E_DATA,
	                      "pretrained: HOME is not set and this user has no home folder: set TORCH_HOME and "
	                      "HF_HOME to the folders of the caches");
}

/* The first of the variables that is set, with its ending; else ~/.cache and the last row's ending. */
static hd_status cache_folder(char **out, const char *const (*rows)[2], size_t count)
{
	hd_status st;
	const char *home, *value = NULL;
	size_t i = 0;
	for (; i < count; i++)
		if ((value = getenv(rows[i][0])) && *value)
			break;
	if (i < count && strncmp(value, "~/", 2) != 0 && strcmp(value, "~") != 0)
		return hd_sprintf(out, "%s%s", value, rows[i][1]);
	HD_TRY(home_folder(&home));
	HD_TRY(i < count ? hd_sprintf(out, "%s%s%s", home, value + 1, rows[i][1])
	                 : hd_sprintf(out, "%s/.cache%s", home, rows[count - 1][1]));
done:
	return st;
}

static hd_status find_folders(folders *out)
{
	hd_status st;
	static const char *const torch[][2] = {
	        {"TORCH_HOME", "/hub/checkpoints"}, {"XDG_CACHE_HOME", "/torch/hub/checkpoints"}};
	static const char *const hugging_face[][2] = {{"HF_HUB_CACHE", ""}, {"HUGGINGFACE_HUB_CACHE", ""},
	        {"HF_HOME", "/hub"}, {"XDG_CACHE_HOME", "/huggingface/hub"}};
	*out = (folders){0};
	HD_TRY(cache_folder(&out->torch, torch, sizeof torch / sizeof *torch));
	HD_TRY(cache_folder(&out->hugging_face, hugging_face, sizeof hugging_face / sizeof *hugging_face));
	return HD_OK;
done:
	free_folders(out);
	return st;
}

/* ---- names ---- */

static bool is_auto(const char *name)
{
	return !strcmp(name, "auto");
}

static bool take_prefix(const char **text, const char *prefix)
{
	size_t n = strlen(prefix);
	if (strncmp(*text, prefix, n) != 0)
		return false;
	*text += n;
	return true;
}

static bool take_ending(char *text, const char *ending)
{
	size_t length = strlen(text), n = strlen(ending);
	if (length < n || strcmp(text + length - n, ending) != 0)
		return false;
	text[length - n] = '\0';
	return true;
}

static bool set_size(request *r, const char *size)
{
	const hd_backbone *known = hd_backbone_find(size);
	if (!known)
		return false;
	r->size = known->name;
	r->default_tag = "";
	for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
		if (strcmp(published[i].size, known->name) != 0)
			continue;
		r->default_tag = published[i].tag;
		r->official = published[i].file;
	}
	return true;
}

static bool is_weights_file(const char *name)
{
	static const char *const endings[] = {".pth", ".pt", ".bin", ".safetensors"};
	const char *dot = strrchr(name, '.');
	for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++)
		if (!strcmp(dot, endings[i]))
			return true;
	return false;
}

/*
 * Whether a file of torch's folder holds a size: convnext_SIZE, then the ending, "-" and a checksum, or a word on the
 * training, which holds a digit (1k, 22k, d2, in22ft1k); the words of other networks hold none (ols, hnf, mlp).
 */
static bool is_file_of(const char *name, const char *size)
{
	if (!is_weights_file(name) || !take_prefix(&name, "convnext_") || !take_prefix(&name, size))
		return false;
	if (*name != '_')
		return *name == '-' || *name == '.';
	size_t word = strcspn(name + 1, "_-.");
	for (size_t i = 0; i < word; i++)
		if (isdigit((unsigned char)name[1 + i]))
			return true;
	return false;
}

/* timm's and torchvision's model names, and timm's tags; text is lower case. */
static bool read_model_name(request *r, char *text)
{
	const char *at = text;
	char *tag = strchr(text, '.');
	if (tag) {
		*tag++ = '\0';
		snprintf(r->tag, sizeof r->tag, "%s", tag);
		r->torch = false;
		if (!*tag || strchr(tag, '/'))
			return false;
	} else {
		for (size_t i = 0; i < sizeof former / sizeof *former; i++) {
			if (!take_ending(text, former[i].ending))
				continue;
			snprintf(r->tag, sizeof r->tag, "%s", former[i].tag);
			r->torch = false;
			break;
		}
	}
	return take_prefix(&at, "convnext_") && set_size(r, at);
}

/* torchvision's enumeration of weights; text is lower case. *ours: it is one, known or not. */
static bool read_enumeration(request *r, char *text, const char *backbone_size, bool *ours)
{
	bool bare = !strcmp(text, "imagenet1k_v1") || !strcmp(text, "default");
	const char *at = text;
	*ours = true;
	if (bare) {
		if (!set_size(r, backbone_size))
			return false;
	} else {
		bool value = take_ending(text, ".imagenet1k_v1") || take_ending(text, ".default");
		if (!take_ending(text, "_weights")) {
			*ours = value;
			return false;
		}
		if (!take_prefix(&at, "convnext_") || !set_size(r, at))
			return false;
	}
	snprintf(r->file, sizeof r->file, "%s", r->official ? r->official : "");
	r->hugging_face = false;
	return true;
}

static bool read_file_name(request *r, const char *name)
{
	int count;
	const hd_backbone *known = hd_backbone_list(&count);
	for (int i = 0; i < count; i++) {
		if (!is_file_of(name, known[i].name))
			continue;
		snprintf(r->file, sizeof r->file, "%s", name);
		r->hugging_face = false;
		return set_size(r, known[i].name);
	}
	return false;
}

static hd_status unknown_name(const char *name)
{
	char names[SIZES_MAX][NAME_BYTES], list[SIZES_MAX * 16] = "";
	const char *rows[SIZES_MAX];
	int count;
	const hd_backbone *known = hd_backbone_list(&count);
	size_t used = 0;
	for (int i = 0; i < count && i < SIZES_MAX; i++) {
		snprintf(names[i], sizeof names[i], "convnext_%s", known[i].name);
		rows[i] = names[i];
		used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", known[i].name);
	}
	const char *slash = strrchr(name, '/');
	char base[NAME_BYTES];
	snprintf(base, sizeof base, "%s", slash ? slash + 1 : name);
	base[strcspn(base, ".")] = '\0';
	const char *near = hd_nearest_name(base, rows, (size_t)(count < SIZES_MAX ? count : SIZES_MAX));
	return hd_fail(HD_E_DATA,
	        "pretrained: %s: no such file, and no name of published weights%s%s%s Names are auto, and "
	        "convnext_SIZE "
	        "with or without timm's tag, of size %s",
	        name, near ? "; did you mean " : ".", near ? near : "", near ? "?" : "", list);
}

static hd_status read_name(request *r, const char *name, const char *backbone_size)
{
	char text[NAME_BYTES];
	const char *at = text;
	bool ours;
	*r = (request){.default_tag = "", .hugging_face = true, .torch = true};
	if (!hd_backbone_find(backbone_size))
		return hd_fail(HD_E_USAGE, "backbone_size: no size '%s'", backbone_size);
	if (strlen(name) >= sizeof text)
		return unknown_name(name);
	for (size_t i = 0; i <= strlen(name); i++)
		text[i] = (char)tolower((unsigned char)name[i]);
	if (is_auto(name))
		return set_size(r, backbone_size) ? HD_OK : unknown_name(name);
	if (take_prefix(&at, "hf-hub:") || take_prefix(&at, "hf_hub:"))
		r->torch = false;
	if (take_prefix(&at, "timm/"))
		r->torch = false;
	memmove(text, at, strlen(at) + 1);
	if (r->torch && is_weights_file(name))
		return read_file_name(r, name) ? HD_OK : unknown_name(name);
	if (r->torch && read_enumeration(r, text, backbone_size, &ours))
		return HD_OK;
	if ((r->torch && ours) || !read_model_name(r, text))
		return unknown_name(name);
	return HD_OK;
}

/* ---- looking ---- */

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void free_entries(struct dirent **entries, int count)
{
	for (int i = 0; i < count; i++)
		free(entries[i]);
	free(entries);
}

/* The entries of a folder by name; none where there is no folder. */
static hd_status list_folder(struct dirent ***out, int *count, const char *path)
{
	*out = NULL;
	*count = scandir(path, out, NULL, by_name);
	if (*count >= 0)
		return HD_OK;
	*count = 0;
	return errno == ENOENT || errno == ENOTDIR
	               ? HD_OK
	               : hd_fail(HD_E_DATA, "%s: cannot list the folder: %s", path, strerror(errno));
}

/* Adds folder/name where something of that name is there, if only a link that leads nowhere. */
static hd_status add_file(found *to, const char *folder, const char *name)
{
	hd_status st;
	char *path = NULL;
	struct stat info;
	HD_TRY(hd_sprintf(&path, "%s/%s", folder, name));
	if (lstat(path, &info) != 0 || S_ISDIR(info.st_mode))
		goto done;
	HD_TRY(hd_grow(&to->paths, &to->capacity, to->count + 1, sizeof *to->paths));
	to->paths[to->count++] = path;
	path = NULL;
done:
	free(path);
	return st;
}

/* The weights of one revision; added at most once. */
static hd_status add_revision(found *to, const char *repository, const char *revision)
{
	hd_status st;
	static const char *const names[] = {"model.safetensors", "pytorch_model.bin"};
	char *folder = NULL;
	size_t before = to->count;
	HD_TRY(hd_sprintf(&folder, "%s/snapshots/%s", repository, revision));
	for (size_t i = 0; i < sizeof names / sizeof *names && to->count == before; i++)
		HD_TRY(add_file(to, folder, names[i]));
done:
	free(folder);
	return st;
}

/* The revision that refs/main names; "" where it names none. */
static hd_status main_revision(char *out, size_t bytes, const char *repository)
{
	hd_status st;
	char *path = NULL;
	FILE *file = NULL;
	*out = '\0';
	HD_TRY(hd_sprintf(&path, "%s/refs/main", repository));
	file = fopen(path, "re");
	if (file && !fgets(out, (int)bytes, file))
		*out = '\0';
	out[strcspn(out, " \t\r\n/")] = '\0';
done:
	if (file)
		fclose(file);
	free(path);
	return st;
}

/* The weights of one repository of the Hugging Face folder, of the best revision that has any. */
static hd_status add_repository(found *to, const char *hub, const char *name)
{
	hd_status st;
	char *repository = NULL, *snapshots = NULL, revision[NAME_BYTES];
	struct dirent **entries = NULL;
	int count = 0;
	size_t before = to->count;
	HD_TRY(hd_sprintf(&repository, "%s/%s", hub, name));
	HD_TRY(hd_sprintf(&snapshots, "%s/snapshots", repository));
	HD_TRY(main_revision(revision, sizeof revision, repository));
	if (*revision)
		HD_TRY(add_revision(to, repository, revision));
	HD_TRY(list_folder(&entries, &count, snapshots));
	for (int i = 0; i < count && to->count == before; i++)
		if (entries[i]->d_name[0] != '.')
			HD_TRY(add_revision(to, repository, entries[i]->d_name));
done:
	free_entries(entries, count);
	free(snapshots);
	free(repository);
	return st;
}

static hd_status look_in_hugging_face(found *to, const char *hub, const request *r)
{
	hd_status st;
	char first[2 * NAME_BYTES], prefix[NAME_BYTES];
	const char *tag = *r->tag ? r->tag : r->default_tag;
	struct dirent **entries = NULL;
	int count = 0;
	snprintf(prefix, sizeof prefix, REPOSITORY "%s.", r->size);
	snprintf(first, sizeof first, "%s%s", prefix, tag);
	if (*tag)
		HD_TRY(add_repository(to, hub, first));
	if (*r->tag)
		goto done;
	HD_TRY(list_folder(&entries, &count, hub));
	for (int i = 0; i < count; i++)
		if (!strncmp(entries[i]->d_name, prefix, strlen(prefix)) && strcmp(entries[i]->d_name, first) != 0)
			HD_TRY(add_repository(to, hub, entries[i]->d_name));
done:
	free_entries(entries, count);
	return st;
}

static hd_status look_in_torch(found *to, const char *folder, const request *r)
{
	hd_status st = HD_OK;
	struct dirent **entries = NULL;
	int count = 0;
	const char *first = *r->file ? r->file : r->official;
	if (first)
		HD_TRY(add_file(to, folder, first));
	/* torchvision alone was asked for, or one file */
	if (*r->file || !r->hugging_face)
		goto done;
	HD_TRY(list_folder(&entries, &count, folder));
	for (int i = 0; i < count; i++)
		if (is_file_of(entries[i]->d_name, r->size) && !(first && !strcmp(entries[i]->d_name, first)))
			HD_TRY(add_file(to, folder, entries[i]->d_name));
done:
	free_entries(entries, count);
	return st;
}

static hd_status look(found *to, const folders *in, const request *r)
{
	hd_status st = HD_OK;
	if (r->hugging_face)
		HD_TRY(look_in_hugging_face(to, in->hugging_face, r));
	if (r->torch)
		HD_TRY(look_in_torch(to, in->torch, r));
done:
	return st;
}

static hd_status check_readable(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		close(fd);
		return HD_OK;
	}
	int reason = errno;
	char target[512];
	ssize_t n = readlink(path, target, sizeof target - 1);
	if (reason == ENOENT && n > 0) {
		target[n] = '\0';
		return hd_fail(HD_E_DATA, "%s: a link to %s, which is not there: remove it or fetch the weights again",
		        path, target);
	}
	return hd_fail(HD_E_DATA, "%s: cannot open: %s", path, strerror(reason));
}

/* ---- words ---- */

/* One file that would do: where it belongs and where it comes from. */
static void print_hugging_face(FILE *to, const folders *in, const request *r)
{
	const char *tag = *r->tag ? r->tag : *r->default_tag ? r->default_tag : "TAG";
	fprintf(to, "%s/" REPOSITORY "%s.%s/snapshots/main/model.safetensors (huggingface.co/timm/convnext_%s.%s)",
	        in->hugging_face, r->size, tag, r->size, tag);
}

static void print_torch(FILE *to, const folders *in, const request *r)
{
	const char *file = *r->file ? r->file : r->official;
	if (!file)
		fprintf(to, "%s/convnext_%s*.pth", in->torch, r->size);
	else if (r->official && !strcmp(file, r->official))
		fprintf(to, "%s/%s (download.pytorch.org/models/%s)", in->torch, file, file);
	else
		fprintf(to, "%s/%s", in->torch, file);
}

/* File names of torch's folder, names of timm's repositories. */
static void print_found(FILE *to, const found *others)
{
	for (size_t i = 0; i < others->count; i++) {
		const char *path = others->paths[i], *repository = strstr(path, "/" REPOSITORY);
		const char *slash = strrchr(path, '/');
		fputs(i ? ", " : "; of that size there is ", to);
		if (repository) {
			repository += sizeof "/models--timm--" - 1;
			fprintf(to, "%.*s", (int)strcspn(repository, "/"), repository);
		} else {
			fputs(slash ? slash + 1 : path, to);
		}
	}
}

static hd_status describe(char **out, const char *name, const folders *in, const request *r)
{
	hd_status st = HD_OK;
	size_t bytes;
	found others = {0};
	request any = {.size = r->size,
	        .default_tag = r->default_tag,
	        .official = r->official,
	        .hugging_face = true,
	        .torch = true};
	*out = NULL;
	HD_TRY(look(&others, in, &any));
	FILE *to = open_memstream(out, &bytes);
	if (!to) {
		st = hd_fail(HD_E_MEMORY, "out of host memory");
		goto done;
	}
	if (!r->hugging_face && !*r->file) {
		fprintf(to, "pretrained: %s: torchvision publishes no weights of size %s", name, r->size);
	} else {
		fprintf(to,
		        "pretrained: %s: no published weights of ConvNeXt %s on this machine, where nothing is "
		        "downloaded: put in place ",
		        name, r->size);
		if (r->hugging_face)
			print_hugging_face(to, in, r);
		if (r->hugging_face && r->torch)
			fputs(" or ", to);
		if (r->torch)
			print_torch(to, in, r);
	}
	print_found(to, &others);
	if (fclose(to) != 0)
		st = hd_fail(HD_E_MEMORY, "out of host memory");
done:
	free_found(&others);
	if (st != HD_OK) {
		free(*out);
		*out = NULL;
	}
	return st;
}

/* ---- the two questions ---- */

hd_status hd_pretrained_missing(char **out_text, const char *name, const char *backbone_size)
{
	hd_status st;
	request r;
	folders in = {0};
	*out_text = NULL;
	HD_TRY(read_name(&r, name, backbone_size));
	HD_TRY(find_folders(&in));
	HD_TRY(describe(out_text, name, &in, &r));
done:
	free_folders(&in);
	return st;
}

static hd_status find_published(char **out_path, const char *name, const char *backbone_size)
{
	hd_status st;
	request r;
	folders in = {0};
	found f = {0};
	char *text = NULL;
	HD_TRY(read_name(&r, name, backbone_size));
	HD_TRY(find_folders(&in));
	HD_TRY(look(&f, &in, &r));
	if (f.count) {
		HD_TRY(check_readable(f.paths[0]));
		HD_TRY(hd_strdup(out_path, f.paths[0]));
	} else if (!is_auto(name)) {
		HD_TRY(describe(&text, name, &in, &r));
		st = hd_fail(HD_E_DATA, "%s", text);
	}
done:
	free(text);
	free_found(&f);
	free_folders(&in);
	return st;
}

hd_status hd_pretrained_find(char **out_path, const char *name, const char *backbone_size)
{
	struct stat info, target;
	*out_path = NULL;
	if (!*name || !strcmp(name, "none"))
		return HD_OK;
	bool is_file = lstat(name, &info) == 0 && !(stat(name, &target) == 0 && S_ISDIR(target.st_mode));
	if (is_auto(name) || !is_file)
		return find_published(out_path, name, backbone_size);
	hd_status st = check_readable(name);
	return st == HD_OK ? hd_strdup(out_path, name) : st;
}
