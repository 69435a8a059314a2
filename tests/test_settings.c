/* SPDX-License-Identifier: Apache-2.0 */
/* Settings: sources and their precedence, the text of errors, dump and default file against settings.def. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/common/settings_table.h"

#define DEFAULT_FILE "configs/default.yaml"
#define MAX_FILES 4

static hd_settings s;
static char folder[256];
static char file[512];

extern char **environ;

static void setup(void)
{
	const char *base = getenv("TMPDIR");
	for (char **entry = environ; *entry;) {
		char name[128];
		snprintf(name, sizeof name, "%.*s", (int)strcspn(*entry, "="), *entry);
		if (strncmp(name, "HEIMDALL_", 9) == 0) {
			unsetenv(name);
			entry = environ;
		} else {
			entry++;
		}
	}
	snprintf(folder, sizeof folder, "%s/heimdall-settings-XXXXXX", base && *base ? base : "/tmp");
	cr_assert(mkdtemp(folder), "mkdtemp %s", folder);
	snprintf(file, sizeof file, "%s/a.yaml", folder);
	cr_assert_eq(hd_settings_init(&s), HD_OK, "%s", hd_error_text());
}

static void teardown(void)
{
	hd_settings_free(&s);
	unlink(file);
	rmdir(folder);
}

TestSuite(settings, .init = setup, .fini = teardown);

static void write_file(const char *text)
{
	FILE *f = fopen(file, "wb");
	cr_assert(f, "%s", file);
	fputs(text, f);
	cr_assert_eq(fclose(f), 0);
}

static void expect_text(const char *what, const char *got, const char *want)
{
	cr_assert(strstr(got, want), "%s: got '%s', want '%s' in it", what, got, want);
}

static void expect_same(const hd_settings *got, const hd_settings *want, const char *what)
{
	for (int i = 0; i < HD_SETTING_COUNT; i++) {
		const hd_setting *row = &hd_setting_table[i];
		const void *a = (const char *)got + row->offset, *b = (const char *)want + row->offset;
		bool same = false;
		switch (row->kind) {
		case HD_KIND_INT:
			same = *(const int64_t *)a == *(const int64_t *)b;
			break;
		case HD_KIND_FLOAT:
			same = *(const double *)a == *(const double *)b;
			break;
		case HD_KIND_BOOL:
			same = *(const bool *)a == *(const bool *)b;
			break;
		case HD_KIND_TEXT:
		case HD_KIND_CHOICE:
			same = strcmp(*(char *const *)a, *(char *const *)b) == 0;
			break;
		}
		cr_expect(same, "%s: %s differs", what, row->key);
	}
}

typedef struct parsed {
	const char *files[MAX_FILES];
	int count;
	bool help;
} parsed;

/* NULL-terminated words. */
static hd_status read_words(char command, parsed *p, const char *const *words)
{
	int argc = 0;
	while (words[argc])
		argc++;
	*p = (parsed){0};
	return hd_settings_read_arguments(
	        &s, command, argc, (char **)(uintptr_t)words, p->files, MAX_FILES, &p->count, &p->help);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

Test(settings, defaults_are_those_of_the_table)
{
	cr_expect_eq(s.epochs, 100, "epochs: got %lld", (long long)s.epochs);
	cr_expect_eq(s.learning_rate, 1e-3, "learning_rate: got %.17g", s.learning_rate);
	cr_expect_eq(s.progress, true);
	cr_expect_eq(s.dry_run, false);
	cr_expect_str_eq(s.backbone_size, "large");
	cr_expect_str_eq(s.checkpoint_dir, "");
	cr_expect_str_eq(s.data_dir, "");
	cr_expect_eq(hd_settings_check(&s), HD_OK, "%s", hd_error_text());
	for (int i = 0; i < HD_SETTING_COUNT; i++) {
		const hd_setting *row = &hd_setting_table[i];
		cr_expect_eq(hd_setting_find(row->key), i, "%s: found at %d, want %d", row->key,
		        hd_setting_find(row->key), i);
		cr_expect(*row->help && *row->commands, "%s: no help or no command", row->key);
		cr_expect_eq(s.given[i], false, "%s: given before anything was read", row->key);
	}
}

Test(settings, set_parses_strictly)
{
	static const struct {
		const char *key, *value, *want; /* want NULL: accepted */
	} cases[] = {
	        {"epochs", "7", NULL},
	        {"epochs", "1000000", NULL},
	        {"epochs", "10x", "'10x' is not a whole number"},
	        {"epochs", "", "'' is not a whole number"},
	        {"epochs", "1e3", "'1e3' is not a whole number"},
	        {"epochs", "1_000", "'1_000' is not a whole number"},
	        {"epochs", "0x10", "'0x10' is not a whole number"},
	        {"epochs", "2.0", "'2.0' is not a whole number"},
	        {"epochs", "0", "0 is out of range 1 .. 1000000"},
	        {"epochs", "1000001", "1000001 is out of range 1 .. 1000000"},
	        {"epochs", "99999999999999999999", "99999999999999999999 is out of range"},
	        {"learning-rate", "3e-4", NULL},
	        {"learning_rate", "3e-4 ", "'3e-4 ' is not a number"},
	        {"learning_rate", "1,5", "'1,5' is not a number"},
	        {"learning_rate", "nan", "'nan' is not a number"},
	        {"learning_rate", "inf", "'inf' is not a number"},
	        {"learning_rate", "1e999", "'1e999' is not a number"},
	        {"learning_rate", "0x1p-3", "'0x1p-3' is not a number"},
	        {"dropout_rate", "1.5", "1.5 is out of range 0 .. 0.95"},
	        {"dropout_rate", "-0.1", "-0.1 is out of range 0 .. 0.95"},
	        {"sample_rate", "0.5", "0.5 is out of range 1 .. 1000000000 Hz"},
	        {"dry_run", "on", NULL},
	        {"dry_run", "FALSE", NULL},
	        {"dry_run", "2", "'2' is neither true nor false"},
	        {"dry_run", "", "'' is neither true nor false"},
	        {"stft", "librosa", NULL},
	        {"stft", "libros", "'libros' is none of scipy|librosa"},
	        {"stft", "scipy|librosa", "is none of scipy|librosa"},
	        {"stft", "", "'' is none of scipy|librosa"},
	        {"data_dir", "a\xff", "is not valid UTF-8"},
	        {"data_dir", "\xed\xa0\x80", "is not valid UTF-8"},
	        {"data_dir", "\xc0\x80", "is not valid UTF-8"},
	        {"data_dir", "a b/\"c\"", NULL},
	        {"epoch", "7", "unknown setting 'epoch'; did you mean 'epochs'?"},
	        {"lerning_rate", "7", "did you mean 'learning_rate'?"},
	        {"epohcs", "7", "did you mean 'epochs'?"},
	        {"given", "7", "unknown setting 'given'"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		hd_status st = hd_settings_set(&s, cases[i].key, cases[i].value, "a.yaml:3");
		if (!cases[i].want) {
			cr_expect_eq(st, HD_OK, "%s = %s: %s", cases[i].key, cases[i].value, hd_error_text());
			continue;
		}
		cr_expect_eq(st, HD_E_USAGE, "%s = %s: got %s", cases[i].key, cases[i].value, hd_status_text(st));
		expect_text(cases[i].key, hd_error_text(), cases[i].want);
		cr_expect_eq(
		        strncmp(hd_error_text(), "a.yaml:3: ", 10), 0, "no origin in front of '%s'", hd_error_text());
	}
	cr_expect_eq(s.epochs, 1000000, "a refused value changed epochs to %lld", (long long)s.epochs);
	cr_expect_eq(s.learning_rate, 3e-4, "learning_rate: got %.17g", s.learning_rate);
	cr_expect_eq(s.dry_run, false);
	cr_expect_str_eq(s.stft, "librosa");
	cr_expect_str_eq(s.data_dir, "a b/\"c\"");
}

Test(settings, devices_are_one)
{
	static const char *const taken[] = {"auto", "1", "2,", "[2]", "GPU-8f3a", "MIG-8f3a"};
	static const char *const refused[] = {"2", "0", "0,1", "first", ""};
	for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
		cr_assert_eq(hd_settings_set(&s, "devices", taken[i], "--devices"), HD_OK);
		cr_expect_eq(hd_settings_check(&s), HD_OK, "%s: %s", taken[i], hd_error_text());
	}
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		cr_assert_eq(hd_settings_set(&s, "devices", refused[i], "--devices"), HD_OK);
		cr_expect_eq(hd_settings_check(&s), HD_E_USAGE, "'%s' is taken", refused[i]);
		expect_text(refused[i], hd_error_text(), "devices ");
	}
	cr_assert_eq(hd_settings_read_yaml_text(&s, "train:\n  devices: 1\n", "a.yaml"), HD_OK, "%s", hd_error_text());
	cr_expect_str_eq(s.devices, "1");
	cr_expect_eq(hd_settings_check(&s), HD_OK, "%s", hd_error_text());
}

Test(settings, nothing_is_suggested_where_nothing_is_near)
{
	cr_assert_eq(hd_settings_set(&s, "wavelength_of_light", "1", "a.yaml:1"), HD_E_USAGE);
	cr_expect_not(strstr(hd_error_text(), "did you mean"), "got '%s'", hd_error_text());
}

Test(settings, aliases)
{
	static const struct {
		const char *alias, *key;
	} aliases[] = {{"lr", "learning_rate"}, {"val_split", "validation_split"}, {"val-split", "validation_split"},
	        {"data", "data_dir"}, {"batch", "batch_size"}, {"size", "backbone_size"}};
	for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++) {
		int got = hd_setting_find(aliases[i].alias), want = hd_setting_find(aliases[i].key);
		cr_expect_eq(got, want, "%s: row %d, want %d (%s)", aliases[i].alias, got, want, aliases[i].key);
	}
}

Test(settings, choice_positions)
{
	cr_expect_eq(hd_settings_choice("stft", "scipy"), 0);
	cr_expect_eq(hd_settings_choice("stft", "librosa"), 1);
	cr_expect_eq(hd_settings_choice("backbone_size", "xlarge"), 8);
	cr_expect_eq(hd_settings_choice("backbone_size", "larg"), -1);
	cr_expect_eq(hd_settings_choice("epochs", "1"), -1);
	cr_expect_eq(hd_settings_choice("no_such", "1"), -1);
}

Test(settings, yaml_flat_grouped_and_anchors)
{
	cr_assert_eq(hd_settings_read_yaml_text(&s,
	                     "epochs: 7\n"
	                     "data: some/folder\n"
	                     "features:\n  n_fft: &n 1024\n  hop_length: *n\n"
	                     "model: {backbone_size: tiny, dropout_rate: 0.5}\n"
	                     "train:\n  resume_training: yes\n",
	                     "a.yaml"),
	        HD_OK, "%s", hd_error_text());
	cr_expect_eq(s.epochs, 7, "got %lld", (long long)s.epochs);
	cr_expect_str_eq(s.data_dir, "some/folder");
	cr_expect_eq(s.n_fft, 1024);
	cr_expect_eq(s.hop_length, 1024);
	cr_expect_str_eq(s.backbone_size, "tiny");
	cr_expect_eq(s.dropout_rate, 0.5);
	cr_expect_eq(s.resume_training, true);
	cr_expect_eq(s.given[HD_SET_epochs], true);
	cr_expect_eq(s.given[HD_SET_batch_size], false);
	cr_expect_eq(hd_settings_read_yaml_text(&s, "train:\n  # epochs: 1\ndata:\n", "a.yaml"), HD_OK, "%s",
	        hd_error_text());
	cr_expect_str_eq(s.data_dir, "some/folder");
	cr_expect_eq(
	        hd_settings_read_yaml_text(&s, "cache_dir: ~\njson: \"~\"\n", "a.yaml"), HD_OK, "%s", hd_error_text());
	cr_expect_str_eq(s.cache_dir, "");
	cr_expect_str_eq(s.json, "~");
	cr_expect_eq(hd_settings_read_yaml_text(&s, "", "empty.yaml"), HD_OK, "%s", hd_error_text());
	cr_expect_eq(hd_settings_read_yaml_text(&s, "# nothing\n---\n", "empty.yaml"), HD_OK, "%s", hd_error_text());
}

Test(settings, yaml_errors_name_the_line)
{
	static const struct {
		const char *yaml, *want;
	} cases[] = {
	        {"epochs: 1\n\nepoch: 2\n", "a.yaml:3: unknown setting 'epoch'; did you mean 'epochs'?"},
	        {"train:\n  epochs: 10x\n", "a.yaml:2: epochs: '10x' is not a whole number"},
	        {"train:\n  dropout_rate: 1.5\n", "a.yaml:2: dropout_rate: 1.5 is out of range 0 .. 0.95"},
	        {"epochs: 1\nepochs: 2\n", "a.yaml:2:"},
	        {"lr: 1\nlearning_rate: 2\n", "a.yaml:2:"},
	        {"epochs: 1\ntrain:\n  epochs: 2\n", "a.yaml:3:"},
	        {"epochs: [1, 2]\n", "a.yaml:1: epochs:"},
	        {"train:\n  epochs: {a: 1}\n", "a.yaml:2: epochs:"},
	        {"training:\n  epochs: 1\n", "a.yaml:1: unknown group 'training'"},
	        {"epochs: 1\n---\nepochs: 2\n", "a.yaml"},
	        {"- epochs\n", "a.yaml:1:"},
	        {"epochs\n", "a.yaml:1:"},
	        {"[1, 2]: 3\n", "a.yaml:1:"},
	        {"epochs: 1\n\tlr: 2\n", "a.yaml:"},
	        {"epochs: \"1\n", "a.yaml:"},
	        {"epochs: *nowhere\n", "a.yaml:1:"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		hd_status st = hd_settings_read_yaml_text(&s, cases[i].yaml, "a.yaml");
		cr_expect_eq(st, HD_E_USAGE, "'%s': got %s", cases[i].yaml, hd_status_text(st));
		expect_text(cases[i].yaml, hd_error_text(), cases[i].want);
	}
	cr_expect_neq(hd_settings_read_yaml(&s, "no/such/file.yaml"), HD_OK);
	expect_text("missing file", hd_error_text(), "no/such/file.yaml");
	cr_expect_neq(hd_settings_read_yaml(&s, folder), HD_OK, "a folder was read as YAML");
	expect_text("folder", hd_error_text(), folder);
}

Test(settings, precedence_flag_environment_file_default)
{
	parsed p;
	write_file("train:\n  epochs: 5\n  batch_size: 5\n  learning_rate: 0.5\n");
	setenv("HEIMDALL_EPOCHS", "6", 1);
	setenv("HEIMDALL_BATCH_SIZE", "6", 1);
	setenv("HEIMDALL_CPU_TIER", "v3", 1);
	cr_assert_eq(read_words('T', &p, WORDS("--epochs", "7", "--config", file)), HD_OK, "%s", hd_error_text());
	cr_expect_eq(s.epochs, 7, "flag: got %lld", (long long)s.epochs);
	cr_expect_eq(s.batch_size, 6, "environment: got %lld", (long long)s.batch_size);
	cr_expect_eq(s.learning_rate, 0.5, "file: got %g", s.learning_rate);
	cr_expect_eq(s.warmup_epochs, 5, "default: got %lld", (long long)s.warmup_epochs);
}

Test(settings, environment_errors)
{
	setenv("HEIMDALL_EPOCH", "6", 1);
	cr_assert_eq(hd_settings_read_environment(&s), HD_E_USAGE);
	expect_text("unknown", hd_error_text(), "HEIMDALL_EPOCH: unknown setting");
	unsetenv("HEIMDALL_EPOCH");
	setenv("HEIMDALL_EPOCHS", "six", 1);
	cr_assert_eq(hd_settings_read_environment(&s), HD_E_USAGE);
	expect_text("value", hd_error_text(), "HEIMDALL_EPOCHS: ");
	expect_text("value", hd_error_text(), "'six' is not a whole number");
}

Test(settings, flags)
{
	parsed p;
	write_file("epochs: 5\n");
	char config[600];
	snprintf(config, sizeof config, "--config=%s", file);
	cr_assert_eq(read_words('T', &p,
	                     WORDS("--no-progress", "--lr=2e-3", "--batch-size", "9", "--dry_run", config, "--epochs",
	                             "1", "--epochs", "2", "--checkpoint=")),
	        HD_OK, "%s", hd_error_text());
	cr_expect_eq(s.progress, false);
	cr_expect_eq(s.dry_run, true);
	cr_expect_eq(s.learning_rate, 2e-3);
	cr_expect_eq(s.batch_size, 9);
	cr_expect_eq(s.epochs, 2, "the later flag wins: got %lld", (long long)s.epochs);
	cr_expect_eq(p.count, 0);
	cr_expect_eq(p.help, false);

	cr_assert_eq(read_words('P', &p, WORDS("a.npy", "--no_progress", "b.npy", "-", "--", "--c.npy")), HD_OK, "%s",
	        hd_error_text());
	static const char *const want[] = {"a.npy", "b.npy", "-", "--c.npy"};
	cr_assert_eq(p.count, 4, "got %d files", p.count);
	for (int i = 0; i < 4; i++)
		cr_expect_str_eq(p.files[i], want[i]);

	cr_assert_eq(read_words('T', &p, WORDS("--help")), HD_OK, "%s", hd_error_text());
	cr_expect_eq(p.help, true);
	cr_assert_eq(read_words('T', &p, WORDS("--config", "no/such.yaml", "--nonsense", "--help")), HD_OK, "%s",
	        hd_error_text());
	cr_expect_eq(p.help, true);
	cr_assert_eq(read_words('T', &p, WORDS("-h")), HD_OK, "%s", hd_error_text());
	cr_expect_eq(p.help, true);
}

Test(settings, flag_errors)
{
	static const struct {
		char command;
		const char *words[6];
		const char *want;
	} cases[] = {
	        {'T', {"--learning_rat", "1"}, "--learning_rat: unknown setting; did you mean "},
	        {'T', {"--learning_rat=1"}, "--learning_rat: unknown setting; did you mean "},
	        {'T', {"--wavelength_of_light", "1"}, "--wavelength_of_light: unknown setting"},
	        {'T', {"--sessions", "3"}, "--sessions: belongs to synth, not to train"},
	        {'S', {"--batch_size", "3"}, "--batch_size: belongs to train, eval"},
	        {'T', {"--epochs"}, "--epochs: "},
	        {'T', {"--data_dir", "--epochs", "3"}, "--data_dir: needs a value"},
	        {'T', {"--config", "--epochs", "3"}, "--config: "},
	        {'T', {"--epochs", "10x"}, "--epochs: '10x' is not a whole number"},
	        {'T', {"--dropout_rate", "1.5"}, "--dropout_rate: 1.5 is out of range 0 .. 0.95"},
	        {'T', {"--no-epochs"}, "--no-epochs: unknown setting"},
	        {'T', {"--config"}, "--config: "},
	        {'T', {"--config", "no/such.yaml"}, "no/such.yaml"},
	        {'T', {"-e", "3"}, "-e: "},
	        {'T', {"a", "b", "c", "d", "e"}, "'e'"},
	        {'T', {"--dry_run=maybe"}, "'maybe' is neither true nor false"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		parsed p;
		hd_status st = read_words(cases[i].command, &p, cases[i].words);
		cr_expect_neq(st, HD_OK, "%s: accepted", cases[i].words[0]);
		expect_text(cases[i].words[0], hd_error_text(), cases[i].want);
	}
}

Test(settings, combinations_are_checked)
{
	static const struct {
		const char *a, *a_value, *b, *b_value;
	} cases[] = {
	        {"validation_split", "0.5", "test_split", "0.5"},
	        {"f_min", "5000", "f_max", "5000"},
	        {"f_min", "96000", "f_max", "0"},
	        {"f_max", "96001", "sample_rate", "192000"},
	        {"hop_length", "2049", "n_fft", "2048"},
	        {"n_fft", "2047", "hop_length", "512"},
	        {"uncertainty_min", "10", "uncertainty_max", "10"},
	        {"voice_share", "0.9", "tone_share", "0.2"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		hd_settings one;
		cr_assert_eq(hd_settings_init(&one), HD_OK);
		cr_assert_eq(hd_settings_set(&one, cases[i].a, cases[i].a_value, "test"), HD_OK, "%s", hd_error_text());
		cr_assert_eq(hd_settings_set(&one, cases[i].b, cases[i].b_value, "test"), HD_OK, "%s", hd_error_text());
		hd_status st = hd_settings_check(&one);
		cr_expect_eq(st, HD_E_USAGE, "%s %s with %s %s: got %s", cases[i].a, cases[i].a_value, cases[i].b,
		        cases[i].b_value, hd_status_text(st));
		expect_text(cases[i].a, hd_error_text(), cases[i].a);
		hd_settings_free(&one);
	}
}

Test(settings, dump_reads_back_to_the_same_values)
{
	hd_settings back;
	char *yaml = NULL;
	cr_assert_eq(hd_settings_set(&s, "learning_rate", "0.1234567890123456789", "test"), HD_OK);
	cr_assert_eq(hd_settings_set(&s, "weight_decay", "1e-300", "test"), HD_OK);
	cr_assert_eq(hd_settings_set(&s, "epochs", "999999", "test"), HD_OK);
	cr_assert_eq(hd_settings_set(&s, "progress", "off", "test"), HD_OK);
	cr_assert_eq(hd_settings_set(&s, "stft", "librosa", "test"), HD_OK);
	cr_assert_eq(hd_settings_set(&s, "data_dir",
	                     " a: \"b\" #c\\d\n\te\x01 "
	                     "\xc3\xa9\x7f\xc2\x80\xc2\x85\xe2\x80\xa8\xef\xbb\xbf\xf0\x9f\x98\x80'",
	                     "test"),
	        HD_OK);
	cr_assert_eq(hd_settings_set(&s, "json", "~", "test"), HD_OK);
	cr_assert_eq(hd_settings_dump(&s, &yaml), HD_OK, "%s", hd_error_text());
	cr_assert_eq(hd_settings_init(&back), HD_OK);
	cr_assert_eq(hd_settings_read_yaml_text(&back, yaml, "dump"), HD_OK, "%s in\n%s", hd_error_text(), yaml);
	expect_same(&back, &s, "dump read back");
	free(yaml);
	hd_settings_free(&back);
}

Test(settings, inherit_takes_what_was_not_given)
{
	hd_settings old;
	char *differences = NULL;
	cr_assert_eq(hd_settings_init(&old), HD_OK);
	cr_assert_eq(hd_settings_set(&old, "n_mels", "64", "test"), HD_OK);
	cr_assert_eq(hd_settings_set(&old, "batch_size", "16", "test"), HD_OK);
	cr_assert_eq(hd_settings_set(&s, "batch_size", "8", "test"), HD_OK);
	cr_assert_eq(hd_settings_inherit(&s, &old, &differences), HD_OK, "%s", hd_error_text());
	cr_expect_eq(s.n_mels, 64, "got %lld", (long long)s.n_mels);
	cr_expect_eq(s.batch_size, 8, "got %lld", (long long)s.batch_size);
	cr_assert(differences, "no difference was named");
	cr_expect_str_eq(differences, "batch_size 16 -> 8");
	free(differences);
	/* which GPU was the freest then says nothing of today */
	cr_assert_eq(hd_settings_set(&old, "devices", "[3]", "test"), HD_OK);
	cr_assert_eq(hd_settings_inherit(&s, &old, &differences), HD_OK, "%s", hd_error_text());
	cr_expect_str_eq(s.devices, "auto");
	free(differences);
	cr_assert_eq(hd_settings_inherit(&old, &s, &differences), HD_OK, "%s", hd_error_text());
	free(differences);
	hd_settings_free(&old);
}

Test(settings, default_file_holds_every_setting_with_its_default_and_help)
{
	hd_settings read;
	cr_assert_eq(hd_settings_init(&read), HD_OK);
	cr_assert_eq(hd_settings_read_yaml(&read, DEFAULT_FILE), HD_OK, "%s", hd_error_text());
	expect_same(&read, &s, DEFAULT_FILE);
	for (int i = 0; i < HD_SETTING_COUNT; i++)
		cr_expect(read.given[i], "%s: %s is missing", DEFAULT_FILE, hd_setting_table[i].key);
	hd_settings_free(&read);

	FILE *f = fopen(DEFAULT_FILE, "rb");
	cr_assert(f, "%s", DEFAULT_FILE);
	char *text = calloc(1, 1 << 16);
	cr_assert(text);
	size_t bytes = fread(text, 1, (1 << 16) - 1, f);
	fclose(f);
	cr_assert_gt(bytes, 0);
	for (int i = 0; i < HD_SETTING_COUNT; i++)
		cr_expect(strstr(text, hd_setting_table[i].help), "%s: help of %s is missing or old", DEFAULT_FILE,
		        hd_setting_table[i].key);
	free(text);
}

Test(settings, help_lists_the_settings_of_its_command_only)
{
	static const char commands[] = "TEPSF";
	for (const char *c = commands; *c; c++) {
		char *text = NULL;
		size_t bytes;
		FILE *to = open_memstream(&text, &bytes);
		cr_assert(to);
		hd_settings_help(to, *c);
		cr_assert_eq(fclose(to), 0);
		for (int i = 0; i < HD_SETTING_COUNT; i++) {
			char flag[80], no_flag[80];
			snprintf(flag, sizeof flag, "--%s ", hd_setting_table[i].key);
			snprintf(no_flag, sizeof no_flag, "--[no-]%s ", hd_setting_table[i].key);
			bool shown = strstr(text, flag) || strstr(text, no_flag);
			bool wanted = strchr(hd_setting_table[i].commands, *c);
			cr_expect_eq(shown, wanted, "help of %c: %s is %s", *c, hd_setting_table[i].key,
			        shown ? "shown" : "missing");
		}
		for (const char *line = text; *line;) {
			size_t length = strcspn(line, "\n");
			cr_expect(length <= 80, "help of %c: %zu columns: %.*s", *c, length, (int)length, line);
			line += length + (line[length] == '\n');
		}
		free(text);
	}
}
