/* SPDX-License-Identifier: Apache-2.0 */
/* Published weights by name, in made-up caches of torch and Hugging Face. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heimdall/model.h"
#include "host/common/file.h"
#include "host/model/pretrained.h"
#include "tests/folder.h"

#define TORCH "torch/hub/checkpoints/"
#define HUB "hf/hub/"
#define SAFE "model.safetensors"

/* Both caches under the test's folder, by TORCH_HOME and HF_HOME; nothing else of this machine's is seen. */
static void start_caches(void)
{
	static const char *const others[] = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"};
	char value[512];
	start();
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		unsetenv(others[i]);
	setenv("HOME", folder, 1);
	snprintf(value, sizeof value, "%s/torch", folder);
	setenv("TORCH_HOME", value, 1);
	snprintf(value, sizeof value, "%s/hf", folder);
	setenv("HF_HOME", value, 1);
}

TestSuite(pretrained, .init = start_caches, .fini = stop);

static void put(const char *name, const char *content)
{
	char parent[512];
	snprintf(parent, sizeof parent, "%s", file_in(name));
	*strrchr(parent, '/') = '\0';
	cr_assert_eq(hd_make_folders(parent), HD_OK, "%s", hd_error_text());
	FILE *f = fopen(file_in(name), "w");
	cr_assert_not_null(f, "cannot write %s", name);
	fputs(content, f);
	fclose(f);
}

/* A repository of timm's with one revision, as huggingface_hub lays it out. */
static void put_repository(const char *name, const char *revision, const char *file)
{
	char path[400];
	snprintf(path, sizeof path, HUB "models--timm--%s/snapshots/%s/%s", name, revision, file);
	put(path, "weights");
}

static void expect_found(const char *name, const char *size, const char *want)
{
	char *path = NULL;
	hd_status st = hd_pretrained_find(&path, name, size);
	cr_assert_eq(st, HD_OK, "%s (%s): got status %d (%s), want %s", name, size, (int)st, hd_error_text(), want);
	cr_assert_not_null(path, "%s (%s): got nothing, want %s", name, size, want);
	cr_assert_str_eq(path, file_in(want), "%s (%s): got %s, want %s", name, size, path, file_in(want));
	free(path);
}

static void expect_nothing(const char *name, const char *size)
{
	char *path = folder;
	cr_assert_eq(hd_pretrained_find(&path, name, size), HD_OK, "%s: %s", name, hd_error_text());
	cr_assert_null(path, "%s (%s): got %s, want nothing", name, size, path);
}

static void expect_refused(const char *name, const char *size, const char *const *words)
{
	char *path = folder;
	hd_status st = hd_pretrained_find(&path, name, size);
	cr_assert_eq(st, HD_E_DATA, "%s (%s): got status %d (%s), want HD_E_DATA", name, size, (int)st,
	        st == HD_OK && path ? path : hd_error_text());
	cr_assert_null(path, "%s: a path beside an error", name);
	for (; *words; words++)
		cr_assert(strstr(hd_error_text(), *words), "%s: got '%s', want '%s' in it", name, hd_error_text(),
		        *words);
}
#define REFUSED(name, size, ...) expect_refused(name, size, (const char *const[]){__VA_ARGS__, NULL})

static void repository_path(char *out, size_t bytes, const char *name, const char *revision, const char *file)
{
	snprintf(out, bytes, HUB "models--timm--%s/snapshots/%s/%s", name, revision, file);
}

static void expect_repository(
        const char *name, const char *size, const char *repository, const char *revision, const char *file)
{
	char want[400];
	repository_path(want, sizeof want, repository, revision, file);
	expect_found(name, size, want);
}

Test(pretrained, auto_takes_the_best_of_the_size_in_the_documented_order)
{
	/* from the last of the order to the first: each one is preferred to those before */
	put(TORCH "convnext_large_mlp_clip.pth", "another network");
	put(TORCH "convnext_large-ea097f82.pth.b2c4.partial", "half a file");
	put(TORCH "resnet50-11ad3fa6.pth", "another network");
	expect_nothing("auto", "large");
	put(TORCH "convnext_large_22k_224.pth", "weights");
	expect_found("auto", "large", TORCH "convnext_large_22k_224.pth");
	put(TORCH "convnext_large_1k_224_ema.pth", "weights");
	expect_found("auto", "large", TORCH "convnext_large_1k_224_ema.pth");
	put(TORCH "convnext_large-ea097f82.pth", "weights");
	expect_found("auto", "large", TORCH "convnext_large-ea097f82.pth");
	put_repository("convnext_large.fb_in22k", "abc", SAFE);
	expect_repository("auto", "large", "convnext_large.fb_in22k", "abc", SAFE);
	put_repository("convnext_large.fb_in1k", "abc", SAFE);
	expect_repository("auto", "large", "convnext_large.fb_in1k", "abc", SAFE);
	put_repository("convnext_large.fb_in22k_ft_in1k", "abc", SAFE);
	expect_repository("auto", "large", "convnext_large.fb_in22k_ft_in1k", "abc", SAFE);
	REFUSED("AUTO", "large", "no name of published weights");
	expect_repository("ConvNeXt_Large", "atto", "convnext_large.fb_in22k_ft_in1k", "abc", SAFE);
	/* a name without a tag is the same question, whatever the model's size */
	expect_repository("convnext_large", "atto", "convnext_large.fb_in22k_ft_in1k", "abc", SAFE);
	expect_nothing("auto", "base");
}

Test(pretrained, every_size_has_timms_default_tag)
{
	static const char *const defaults[][2] = {{"atto", "d2_in1k"}, {"femto", "d1_in1k"}, {"pico", "d1_in1k"},
	        {"nano", "in12k_ft_in1k"}, {"tiny", "in12k_ft_in1k"}, {"small", "in12k_ft_in1k"},
	        {"base", "fb_in22k_ft_in1k"}, {"large", "fb_in22k_ft_in1k"}, {"xlarge", "fb_in22k_ft_in1k"}};
	int count;
	hd_backbone_list(&count);
	cr_assert_eq((size_t)count, sizeof defaults / sizeof *defaults, "%d sizes", count);
	for (int i = 0; i < count; i++) {
		char other[64], want[64];
		snprintf(other, sizeof other, "convnext_%s.a_first_by_name", defaults[i][0]);
		snprintf(want, sizeof want, "convnext_%s.%s", defaults[i][0], defaults[i][1]);
		put_repository(other, "r", SAFE);
		put_repository(want, "r", SAFE);
		expect_repository("auto", defaults[i][0], want, "r", SAFE);
	}
}

Test(pretrained, a_tag_is_that_tag_only)
{
	put_repository("convnext_large.fb_in22k_ft_in1k", "r", SAFE);
	put_repository("convnext_large.fb_in22k_ft_in1k_384", "r", SAFE);
	put_repository("convnext_large.fb_in22k", "r", SAFE);
	put(TORCH "convnext_large-ea097f82.pth", "weights");
	expect_repository("convnext_large.fb_in22k", "atto", "convnext_large.fb_in22k", "r", SAFE);
	expect_repository("timm/convnext_large.fb_in22k", "atto", "convnext_large.fb_in22k", "r", SAFE);
	expect_repository("hf-hub:timm/convnext_large.fb_in22k", "atto", "convnext_large.fb_in22k", "r", SAFE);
	expect_repository("hf_hub:timm/convnext_large", "atto", "convnext_large.fb_in22k_ft_in1k", "r", SAFE);
	expect_repository("convnext_large_in22k", "atto", "convnext_large.fb_in22k", "r", SAFE);
	expect_repository("convnext_large_in22ft1k", "atto", "convnext_large.fb_in22k_ft_in1k", "r", SAFE);
	expect_repository("convnext_large_384_in22ft1k", "atto", "convnext_large.fb_in22k_ft_in1k_384", "r", SAFE);
	REFUSED("convnext_large.fb_in1k", "large", HUB "models--timm--convnext_large.fb_in1k/snapshots/main/" SAFE,
	        "huggingface.co/timm/convnext_large.fb_in1k",
	        "there is convnext_large.fb_in22k_ft_in1k, convnext_large.fb_in22k, "
	        "convnext_large.fb_in22k_ft_in1k_384, convnext_large-ea097f82.pth");
}

Test(pretrained, timms_prefix_leaves_torchs_folder_out)
{
	put(TORCH "convnext_tiny-983f1562.pth", "weights");
	expect_found("convnext_tiny", "atto", TORCH "convnext_tiny-983f1562.pth");
	REFUSED("timm/convnext_tiny", "tiny", "models--timm--convnext_tiny.in12k_ft_in1k",
	        "there is convnext_tiny-983f1562.pth");
}

Test(pretrained, torchvisions_names_are_its_own_file)
{
	static const char *const files[][2] = {{"tiny", "convnext_tiny-983f1562.pth"},
	        {"small", "convnext_small-0c510722.pth"}, {"base", "convnext_base-6075fbad.pth"},
	        {"large", "convnext_large-ea097f82.pth"}};
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		char name[64], path[96], other[64];
		snprintf(
		        name, sizeof name, "ConvNeXt_%c%s_Weights.IMAGENET1K_V1", files[i][0][0] - 32, files[i][0] + 1);
		snprintf(other, sizeof other, "convnext_%s.fb_in1k", files[i][0]);
		put_repository(other, "r", SAFE);
		REFUSED(name, "atto", files[i][1], TORCH, "download.pytorch.org/models/");
		snprintf(path, sizeof path, TORCH "%s", files[i][1]);
		put(path, "weights");
		expect_found(name, "atto", path);
		*strchr(name, '.') = '\0';
		strcat(name, ".DEFAULT");
		expect_found(name, "atto", path);
		expect_found("IMAGENET1K_V1", files[i][0], path);
		expect_found("DEFAULT", files[i][0], path);
		expect_found(files[i][1], "atto", path);
	}
	REFUSED("IMAGENET1K_V1", "atto", "torchvision publishes no weights of size atto");
	REFUSED("ConvNeXt_Huge_Weights.IMAGENET1K_V1", "atto", "no name of published weights");
}

Test(pretrained, a_file_name_is_looked_for_in_torchs_folder)
{
	put(TORCH "convnext_base_22k_224.pth", "weights");
	put(TORCH "convnext_base-6075fbad.pth", "weights");
	expect_found("convnext_base_22k_224.pth", "atto", TORCH "convnext_base_22k_224.pth");
	REFUSED("convnext_base_1k_224_ema.pth", "atto", TORCH "convnext_base_1k_224_ema.pth",
	        "there is convnext_base-6075fbad.pth, convnext_base_22k_224.pth");
	REFUSED("convnext_tiny_hnf_a2h-ab7e9df2.pth", "atto", "no name of published weights");
}

Test(pretrained, former_files_of_timm_count_and_other_networks_do_not)
{
	static const char *const others[] = {"convnext_atto_ols_a2-78d1c8f3.pth", "convnextv2_atto_fcmae.pth",
	        "convnext_attos-00000000.pth", "convnext_atto_d2-01bb0f51.txt", "convnext_atto"};
	char path[128];
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		snprintf(path, sizeof path, TORCH "%s", others[i]);
		put(path, "another network");
	}
	put(TORCH "convnext_atto_d1-00000000.pth/file", "a folder");
	put_repository("convnext_atto_ols.a2_in1k", "r", SAFE);
	put_repository("convnextv2_atto.fcmae", "r", SAFE);
	expect_nothing("auto", "atto");
	put(TORCH "convnext_atto_d2-01bb0f51.pth", "weights");
	expect_found("auto", "atto", TORCH "convnext_atto_d2-01bb0f51.pth");
}

Test(pretrained, names_of_other_networks_are_refused_with_the_nearest)
{
	static const char *const names[][2] = {{"convnextv2_atto.fcmae", "convnext_atto"},
	        {"convnext_atto_ols", "convnext_atto"}, {"convnext_tiny_hnf.a2h_in1k", "convnext_tiny"},
	        {"convnext_large_mlp.clip_laion2b_augreg", "convnext_large"}, {"convnext_lagre", "convnext_large"},
	        {"facebook/convnext-base-224", "convnext_base"}, {"convnext_xxlarge", "convnext_xlarge"}};
	put_repository("convnext_atto_ols.a2_in1k", "r", SAFE);
	put_repository("convnextv2_atto.fcmae", "r", SAFE);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char hint[64];
		snprintf(hint, sizeof hint, "did you mean %s?", names[i][1]);
		REFUSED(names[i][0], "atto", names[i][0], hint, "atto, femto, pico");
	}
	REFUSED("somewhere/weights.safetensors", "atto", "somewhere/weights.safetensors: no such file");
	REFUSED("convnext_atto.", "atto", "no name of published weights");
	REFUSED("timm/convnext_atto.d2_in1k/x", "atto", "no name of published weights");
	char *path;
	cr_assert_eq(hd_pretrained_find(&path, "auto", "huge"), HD_E_USAGE);
	cr_assert_null(path);
}

Test(pretrained, refs_main_names_the_revision)
{
	const char *model = "convnext_nano.in12k_ft_in1k";
	put_repository(model, "222", SAFE);
	put_repository(model, "333", SAFE);
	expect_repository("auto", "nano", model, "222", SAFE);
	put(HUB "models--timm--convnext_nano.in12k_ft_in1k/refs/main", "333");
	expect_repository("auto", "nano", model, "333", SAFE);
	put(HUB "models--timm--convnext_nano.in12k_ft_in1k/refs/main", "222\n");
	expect_repository("auto", "nano", model, "222", SAFE);
	/* a revision of which only the configuration was fetched */
	put(HUB "models--timm--convnext_nano.in12k_ft_in1k/refs/main", "111");
	put_repository(model, "111", "config.json");
	expect_repository("auto", "nano", model, "222", SAFE);
	put_repository(model, "111", "pytorch_model.bin");
	expect_repository("auto", "nano", model, "111", "pytorch_model.bin");
	put_repository(model, "111", SAFE);
	expect_repository("auto", "nano", model, "111", SAFE);
	/* told once, whatever lies in it */
	char *text;
	cr_assert_eq(hd_pretrained_missing(&text, "auto", "nano"), HD_OK, "%s", hd_error_text());
	const char *list = strstr(text, "; of that size there is ");
	cr_assert(list && !strcmp(list, "; of that size there is convnext_nano.in12k_ft_in1k"), "got '%s'", text);
	free(text);
}

Test(pretrained, a_repository_without_weights_gives_way)
{
	put_repository("convnext_pico.d1_in1k", "r", "config.json");
	expect_nothing("auto", "pico");
	put_repository("convnext_pico.other", "r", "pytorch_model.bin");
	expect_repository("auto", "pico", "convnext_pico.other", "r", "pytorch_model.bin");
}

/* Sets a variable to a folder of the test's, puts the file under it, and expects it to be found there. */
static void expect_place(const char *variable, const char *value, const char *name, const char *file)
{
	char full[512];
	snprintf(full, sizeof full, "%s%s%s", value[0] == '~' ? "" : folder, value[0] == '~' ? "" : "/", value);
	if (variable)
		setenv(variable, full, 1);
	put(file, "weights");
	expect_found(name, "tiny", file);
}

Test(pretrained, torchs_folder_follows_its_variables)
{
	const char *name = "IMAGENET1K_V1";
	unsetenv("TORCH_HOME");
	expect_place(NULL, "", name, ".cache/torch/hub/checkpoints/convnext_tiny-983f1562.pth");
	expect_place("XDG_CACHE_HOME", "xdg", name, "xdg/torch/hub/checkpoints/convnext_tiny-983f1562.pth");
	expect_place("TORCH_HOME", "t", name, "t/hub/checkpoints/convnext_tiny-983f1562.pth");
	expect_place("TORCH_HOME", "~/h", name, "h/hub/checkpoints/convnext_tiny-983f1562.pth");
	setenv("TORCH_HOME", "", 1);
	expect_found(name, "tiny", "xdg/torch/hub/checkpoints/convnext_tiny-983f1562.pth");
}

Test(pretrained, hugging_faces_folder_follows_its_variables)
{
	const char *name = "convnext_tiny.in12k_ft_in1k";
#define REST "models--timm--convnext_tiny.in12k_ft_in1k/snapshots/r/" SAFE
	unsetenv("HF_HOME");
	expect_place(NULL, "", name, ".cache/huggingface/hub/" REST);
	expect_place("XDG_CACHE_HOME", "xdg", name, "xdg/huggingface/hub/" REST);
	expect_place("HF_HOME", "home", name, "home/hub/" REST);
	expect_place("HUGGINGFACE_HUB_CACHE", "old", name, "old/" REST);
	expect_place("HF_HUB_CACHE", "new", name, "new/" REST);
#undef REST
}

Test(pretrained, a_link_is_followed_and_a_broken_one_named)
{
	const char *link_name = HUB "models--timm--convnext_femto.d1_in1k/snapshots/r/" SAFE;
	put(HUB "models--timm--convnext_femto.d1_in1k/blobs/5ca1ab1e", "weights");
	put_repository("convnext_femto.d1_in1k", "r", "config.json");
	cr_assert_eq(symlink("../../blobs/5ca1ab1e", file_in(link_name)), 0);
	expect_found("auto", "femto", link_name);
	cr_assert_eq(unlink(file_in(HUB "models--timm--convnext_femto.d1_in1k/blobs/5ca1ab1e")), 0);
	REFUSED("auto", "femto", link_name, "a link to ../../blobs/5ca1ab1e, which is not there");
	REFUSED("convnext_femto.d1_in1k", "atto", link_name);
	cr_assert_eq(symlink("nowhere", file_in("own.pth")), 0);
	char own[512];
	snprintf(own, sizeof own, "%s", file_in("own.pth"));
	REFUSED(own, "atto", own, "a link to nowhere");
}

Test(pretrained, a_file_that_cannot_be_opened_is_named)
{
	/* a link to itself: permissions would not stop the superuser */
	put(TORCH "x", "");
	cr_assert_eq(symlink("convnext_tiny-983f1562.pth", file_in(TORCH "convnext_tiny-983f1562.pth")), 0);
	REFUSED("auto", "tiny", TORCH "convnext_tiny-983f1562.pth: cannot open");
}

Test(pretrained, a_folder_that_cannot_be_listed_is_named)
{
	char own[512];
	snprintf(own, sizeof own, "%s", file_in("hub"));
	cr_assert_eq(symlink("hub", own), 0);
	setenv("HF_HUB_CACHE", own, 1);
	REFUSED("auto", "tiny", own, "cannot list the folder");
}

Test(pretrained, an_existing_file_stands_for_itself)
{
	char path[512], *out;
	put("convnext_large", "weights");
	put(TORCH "convnext_large-ea097f82.pth", "weights");
	snprintf(path, sizeof path, "%s", file_in("convnext_large"));
	expect_found(path, "atto", "convnext_large");
	cr_assert_eq(chdir(folder), 0);
	cr_assert_eq(hd_pretrained_find(&out, "convnext_large", "atto"), HD_OK, "%s", hd_error_text());
	cr_assert_str_eq(out, "convnext_large");
	free(out);
	/* a folder does not, nor a file called auto */
	put("convnext_base/x", "");
	put("auto", "");
	put("none", "");
	put(TORCH "convnext_base-6075fbad.pth", "weights");
	expect_found("convnext_base", "atto", TORCH "convnext_base-6075fbad.pth");
	expect_nothing("auto", "tiny");
	expect_nothing("none", "base");
	expect_nothing("", "base");
}

Test(pretrained, what_is_missing_is_told_in_one_line)
{
	char *text = NULL;
	static const char *const words[] = {"auto", "ConvNeXt base",
	        HUB "models--timm--convnext_base.fb_in22k_ft_in1k/snapshots/main/" SAFE,
	        "huggingface.co/timm/convnext_base.fb_in22k_ft_in1k", TORCH "convnext_base-6075fbad.pth",
	        "download.pytorch.org/models/convnext_base-6075fbad.pth"};
	cr_assert_eq(hd_pretrained_missing(&text, "auto", "base"), HD_OK, "%s", hd_error_text());
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		cr_assert(strstr(text, words[i]), "got '%s', want '%s' in it", text, words[i]);
	cr_assert_null(strchr(text, '\n'), "more than one line: %s", text);
	free(text);
	cr_assert_eq(hd_pretrained_missing(&text, "auto", "atto"), HD_OK, "%s", hd_error_text());
	cr_assert(strstr(text, TORCH "convnext_atto*.pth"), "got '%s'", text);
	free(text);
	cr_assert_eq(hd_pretrained_missing(&text, "convnext_huge", "atto"), HD_E_DATA);
	cr_assert_null(text);
}
