/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docs/from-python.md: its C program is built with its own compile line against an installed tree and trains; the
 * flags, values, defaults and functions that it names are those of the program.
 */
#include <ctype.h>

#include "heimdall/dataset.h"
#include "host/common/settings_table.h"
#include "tests/program.h"

#define DOCUMENT "docs/from-python.md"
#define DOCUMENT_BYTES 65536
#define WORD_BYTES 128
#define EPOCHS 2

#if defined __SANITIZE_ADDRESS__
#define SANITIZE_FLAGS " -fsanitize=address,undefined"
#else
#define SANITIZE_FLAGS ""
#endif

static char document[DOCUMENT_BYTES];

static void read_document(void)
{
	FILE *f = fopen(DOCUMENT, "r");
	cr_assert_not_null(f, DOCUMENT ": not there; tests run in the repository's root");
	size_t bytes = fread(document, 1, sizeof document - 1, f);
	document[bytes] = '\0';
	fclose(f);
	cr_assert(bytes > 0 && bytes < sizeof document - 1, DOCUMENT ": %zu bytes", bytes);
}

/* Writes what stands from `from` up to `end` into a file of the folder. */
static void write_part(const char *name, const char *from, const char *end)
{
	char path[512];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *f = fopen(path, "w");
	cr_assert_not_null(f, "%s", path);
	cr_assert_eq(fwrite(from, 1, (size_t)(end - from), f), (size_t)(end - from));
	cr_assert_eq(fclose(f), 0);
}

/* The only C block to guide.c, the document's gcc command to compile.sh. */
static void extract(void)
{
	const char *listing = strstr(document, "\n```c\n");
	cr_assert_not_null(listing, DOCUMENT ": no C listing");
	listing += strlen("\n```c\n");
	const char *end = strstr(listing, "\n```\n");
	cr_assert(end && !strstr(end, "\n```c\n"), DOCUMENT ": want one C listing that ends");
	write_part("guide.c", listing, end + 1);
	const char *command = strstr(end, "\ngcc ");
	cr_assert_not_null(command, DOCUMENT ": no gcc command behind the listing");
	end = ++command;
	do
		end += strcspn(end, "\n") + 1;
	while (end[-2] == '\\');
	write_part("compile.sh", command, end - 1);
}

/* The tree of `make install`, without building anything; a GPU's back end is not needed. */
static void install(void)
{
	cr_assert_eq(shell("env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -s -o all install NVCC= BUILD=\"$(dirname "
	                   "\"$H\")\" "
	                   "PREFIX=\"$D/prefix\""),
	        0, "%s", text);
}

static void build_guide(void)
{
	read_document();
	make_folder();
	extract();
	install();
	/* nothing but the installed headers: neither include/ nor the root of the repository are named */
	cr_assert_eq(
	        shell("cd \"$D\" && { cat compile.sh; echo ' -Wall -Wextra -Werror" SANITIZE_FLAGS "'; } > all.sh && "
	              "PREFIX=\"$D/prefix\" bash -e all.sh"),
	        0, "%s", text);
}

static void make_data(void)
{
	cr_assert_eq(heimdall("synth --out $D/data --sessions 30 --sample_rate 48000 --samples 3968"), 0, "%s", text);
}

#define SMALL                                                                                                          \
	" --data_dir $D/data --sample_rate 48000 --n_fft 512 --hop_length 128 --batch_size 8 --epochs 2 "              \
	"--n_mels 32 --accelerator cpu --threads 1 --warmup_epochs 0 --receivers all --backbone_size atto "            \
	"--pretrained none --no_export "

/* Training samples of the data, by the library. */
static long long training_samples(void)
{
	char path[512];
	hd_settings settings = {0};
	hd_dataset dataset = {0};
	snprintf(path, sizeof path, "%s/data", folder);
	cr_assert_eq(hd_settings_init(&settings), HD_OK);
	cr_assert_eq(hd_settings_set(&settings, "data_dir", path, "test"), HD_OK);
	cr_assert_eq(hd_settings_set(&settings, "sample_rate", "48000", "test"), HD_OK);
	cr_assert_eq(hd_settings_set(&settings, "receivers", "all", "test"), HD_OK);
	cr_assert_eq(hd_dataset_open(&dataset, &settings, NULL), HD_OK, "%s", hd_error_text());
	size_t samples = hd_samples_split_size(&dataset.samples, &dataset.catalog, HD_TRAIN).samples;
	hd_dataset_close(&dataset);
	hd_settings_free(&settings);
	cr_assert(samples > 8, "%zu training samples", samples);
	return (long long)samples;
}

static bool same_weights(const char *a, const char *b)
{
	char path[2][512];
	hd_safetensors file[2];
	const char *const names[] = {a, b};
	bool same = true;
	for (int i = 0; i < 2; i++) {
		snprintf(path[i], sizeof path[i], "%s/%s/best.safetensors", folder, names[i]);
		cr_assert_eq(hd_safetensors_open(&file[i], path[i], true), HD_OK, "%s", hd_error_text());
	}
	cr_assert(file[0].tensor_count > 0 && file[0].tensor_count == file[1].tensor_count, "%zu and %zu tensors",
	        file[0].tensor_count, file[1].tensor_count);
	for (size_t i = 0; i < file[0].tensor_count; i++) {
		const hd_tensor *x = &file[0].tensors[i], *y = hd_safetensors_find(&file[1], x->name);
		cr_assert(y && x->bytes == y->bytes, "%s", x->name);
		same = same && !memcmp(x->data, y->data, x->bytes);
	}
	for (int i = 0; i < 2; i++)
		hd_safetensors_close(&file[i]);
	return same;
}

static void expect_results(long long samples)
{
	char words[512];
	expect_text("Epoch 1: train loss ");
	snprintf(words, sizeof words, ", %lld samples transformed so far\n", samples);
	expect_text(words);
	snprintf(words, sizeof words, ", %lld samples transformed so far\n", EPOCHS * samples);
	expect_text(words);
	snprintf(words, sizeof words, "Best checkpoint: %s/one/best.safetensors\n", folder);
	expect_text(words);
	expect_text("ONNX model: none\n");
	expect_text("MLflow run: none\n");
	expect_text("Metrics:\n");
	expect_text("  median_m ");
	expect_text("predict takes files: 1,2,3,4,5,6,7\n");
}

Test(from_python, the_guide_trains, .timeout = 300)
{
	build_guide();
	make_data();
	cr_assert_eq(shell("\"$D/prefix/bin/guide\"" SMALL "--checkpoint_dir $D/one"), 0, "%s", text);
	expect_results(training_samples());
	cr_assert_eq(shell("\"$D/prefix/bin/guide\"" SMALL "--checkpoint_dir $D/two"), 0, "%s", text);
	cr_assert(same_weights("one", "two"), "two runs of the guide end with different weights");
	cr_assert_eq(heimdall("train" SMALL "--checkpoint_dir $D/plain"), 0, "%s", text);
	cr_assert(!same_weights("one", "plain"), "the guide's transform changes nothing");
	cr_assert_eq(heimdall("predict --checkpoint $D/one/best.safetensors $D/data/sessions/s000003/websdr_?.npy"), 0,
	        "%s", text);
	expect_text("latitude ");
	cr_assert_eq(shell("\"$D/prefix/bin/guide\" --help"), 0, "%s", text);
	expect_text("--batch_size 32");
	cr_assert_eq(shell("\"$D/prefix/bin/guide\" --epoch 3"), 2, "%s", text);
	expect_text("guide: --epoch: unknown setting; did you mean --epochs?");
	remove_data();
}

/* Copies the characters of a word; returns what stands behind it. */
static const char *take_word(char word[WORD_BYTES], const char *from, const char *more)
{
	size_t n = 0;
	while (from[n] && n < WORD_BYTES - 1 && (isalnum((unsigned char)from[n]) || strchr(more, from[n])))
		n++;
	memcpy(word, from, n);
	word[n] = '\0';
	return from + n;
}

/* Flags that are no settings, and pkg-config's. */
static bool is_other_flag(const char *name)
{
	static const char *const others[] = {"config", "help", "version", "cflags", "libs"};
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		if (!strcmp(name, others[i]))
			return true;
	return false;
}

Test(from_python, names_flags_that_there_are)
{
	char name[WORD_BYTES], value[WORD_BYTES];
	int flags = 0, values = 0;
	hd_settings settings = {0};
	read_document();
	cr_assert_eq(hd_settings_init(&settings), HD_OK);
	for (const char *at = document; (at = strstr(at, "--")) != NULL;) {
		bool begins = (at == document || at[-1] != '-') && islower((unsigned char)at[2]);
		at = take_word(name, at + 2, "_-");
		if (!begins || is_other_flag(name))
			continue;
		int row = hd_setting_find(name);
		if (row < 0 && !strncmp(name, "no_", 3))
			row = hd_setting_find(name + 3);
		cr_expect(row >= 0, DOCUMENT ": --%s is no setting", name);
		flags++;
		if (row < 0 || hd_setting_table[row].kind == HD_KIND_BOOL || *at != ' ')
			continue;
		take_word(value, at + 1, "_-+.,/");
		if (!value[0])
			continue;
		values++;
		cr_expect_eq(hd_settings_set(&settings, name, value, "--"), HD_OK, DOCUMENT ": --%s %s: %s", name,
		        value, hd_error_text());
	}
	cr_assert(flags > 50 && values > 10, "only %d flags, %d with a value", flags, values);
	hd_settings_free(&settings);
}

/* Rows "| there | `--key` | default | ..." of the table of hyperparameters. */
Test(from_python, names_the_defaults)
{
	char key[WORD_BYTES], value[WORD_BYTES], line[2 * WORD_BYTES + 8], *yaml;
	int rows = 0;
	hd_settings settings = {0};
	read_document();
	cr_assert_eq(hd_settings_init(&settings), HD_OK);
	cr_assert_eq(hd_settings_dump(&settings, &yaml), HD_OK);
	const char *at = strstr(document, "| there | here | default here |");
	cr_assert_not_null(at, "no table of defaults");
	while ((at = strchr(at, '\n')) != NULL && at[1] == '|') {
		const char *cell = strchr(at + 2, '|');
		at++;
		if (!cell || strncmp(cell, "| `--", 5) != 0)
			continue;
		cell = take_word(key, cell + 5, "_");
		cr_assert_eq(strncmp(cell, "` | ", 4), 0, "--%s: no default behind it", key);
		take_word(value, cell + 4, ".-");
		snprintf(line, sizeof line, " %s: %s\n", key, value);
		cr_expect_not_null(strstr(yaml, line), DOCUMENT ": the default of --%s is not %s", key, value);
		rows++;
	}
	cr_assert(rows > 10, "%d rows", rows);
	free(yaml);
	hd_settings_free(&settings);
}

static bool installed(const char *name, const char *where)
{
	char command[512];
	snprintf(command, sizeof command, "grep -rqw %s \"$D/prefix/include/%s\"", name, where);
	return shell(command) == 0;
}

Test(from_python, names_functions_that_are_declared)
{
	char name[WORD_BYTES];
	int names = 0;
	read_document();
	make_folder();
	install();
	for (const char *at = document; (at = strstr(at, "hd_")) != NULL;) {
		if (at > document && (isalnum((unsigned char)at[-1]) || at[-1] == '_')) {
			at++;
			continue;
		}
		at = take_word(name, at, "_");
		cr_expect(installed(name, ""), DOCUMENT ": %s is in no installed header", name);
		names++;
	}
	cr_assert(names > 20, "only %d names", names);
	remove_data();
}

/* Names behind the first column of the table of metrics; files have a dot. */
Test(from_python, names_the_metrics)
{
	char name[WORD_BYTES];
	int names = 0;
	read_document();
	make_folder();
	install();
	const char *at = strstr(document, "\n## Metrics\n");
	cr_assert_not_null(at, "no table of metrics");
	for (at = strstr(at, "\n|"); at && at[1] == '|'; at = strchr(at + 1, '\n')) {
		const char *cell = strchr(at + 2, '|'), *end = cell ? strchr(cell, '\n') : NULL;
		cr_assert_not_null(end, "a row of the table of metrics has no second column");
		while ((cell = strchr(cell, '`')) != NULL && cell < end) {
			cell = take_word(name, cell + 1, "_.") + 1;
			if (strchr(name, '.'))
				continue;
			cr_expect(installed(name, "heimdall/metrics.h"), DOCUMENT ": %s is no metric", name);
			names++;
		}
	}
	cr_assert(names > 12, "only %d metrics", names);
	remove_data();
}
