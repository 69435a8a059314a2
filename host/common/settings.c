/* SPDX-License-Identifier: Apache-2.0 */
/* The settings table: defaults, checked assignment, flags, environment, help, dump. */
#include "host/common/settings_table.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/common/redact.h"
#include "kernels/device_choice.h"

extern char **environ;

const hd_setting hd_setting_table[HD_SETTING_COUNT] = {
#define HD_SETTING(group, key, type, def, low, high, unit, commands, help)                                             \
	{#group, #key, HD_KIND_##type, offsetof(hd_settings, key), low, high, NULL, unit, commands, help},
#define HD_CHOICE(group, key, def, choices, commands, help)                                                            \
	{#group, #key, HD_KIND_CHOICE, offsetof(hd_settings, key), 0, 0, choices, "", commands, help},
#include "heimdall/settings.def"
#undef HD_SETTING
#undef HD_CHOICE
};

static const struct {
	const char *alias, *key;
} aliases[] = {{"lr", "learning_rate"}, {"val_split", "validation_split"}, {"data", "data_dir"},
        {"batch", "batch_size"}, {"size", "backbone_size"}};

/* Words that stand for a value of a setting. */
static const struct {
	const char *key, *word, *value;
} value_words[] = {{"backbone_size", "medium", "base"}, {"batch_size", "auto", "0"}, {"precision", "32-true", "32"},
        {"precision", "bf16", "bf16-mixed"}, {"precision", "16", "16-mixed"}};

#define ENVIRONMENT_PREFIX "HEIMDALL_"
#define NAME_BYTES 64
#define HELP_COLUMNS 80
#define HELP_INDENT 30

static hd_status default_INT(hd_settings *s, size_t offset, int64_t value)
{
	memcpy((char *)s + offset, &value, sizeof value);
	return HD_OK;
}

static hd_status default_FLOAT(hd_settings *s, size_t offset, double value)
{
	memcpy((char *)s + offset, &value, sizeof value);
	return HD_OK;
}

static hd_status default_BOOL(hd_settings *s, size_t offset, bool value)
{
	memcpy((char *)s + offset, &value, sizeof value);
	return HD_OK;
}

static hd_status default_TEXT(hd_settings *s, size_t offset, const char *value)
{
	return hd_strdup((char **)(void *)((char *)s + offset), value);
}

hd_status hd_settings_init(hd_settings *settings)
{
	hd_status st = HD_OK;
	*settings = (hd_settings){0};
#define HD_SETTING(group, key, type, def, low, high, unit, commands, help)                                             \
	HD_TRY(default_##type(settings, offsetof(hd_settings, key), def));
#define HD_CHOICE(group, key, def, choices, commands, help)                                                            \
	HD_TRY(default_TEXT(settings, offsetof(hd_settings, key), def));
#include "heimdall/settings.def"
#undef HD_SETTING
#undef HD_CHOICE
done:
	return st;
}

static char **text_of(hd_settings *s, const hd_setting *row)
{
	return (char **)(void *)((char *)s + row->offset);
}

void hd_settings_free(hd_settings *settings)
{
	if (!settings)
		return;
	for (int i = 0; i < HD_SETTING_COUNT; i++)
		if (hd_setting_table[i].kind == HD_KIND_TEXT || hd_setting_table[i].kind == HD_KIND_CHOICE)
			free(*text_of(settings, &hd_setting_table[i]));
	*settings = (hd_settings){0};
}

hd_status hd_settings_copy(hd_settings *out, const hd_settings *in)
{
	hd_status st = HD_OK;
	*out = *in;
	for (int i = 0; i < HD_SETTING_COUNT; i++)
		if (hd_setting_table[i].kind == HD_KIND_TEXT || hd_setting_table[i].kind == HD_KIND_CHOICE)
			*text_of(out, &hd_setting_table[i]) = NULL;
	for (int i = 0; i < HD_SETTING_COUNT; i++)
		if (hd_setting_table[i].kind == HD_KIND_TEXT || hd_setting_table[i].kind == HD_KIND_CHOICE)
			HD_TRY(hd_strdup(text_of(out, &hd_setting_table[i]),
			        *(char *const *)(const void *)((const char *)in + hd_setting_table[i].offset)));
done:
	return st;
}

/* ---- names ---- */

/* Optimal string alignment distance (Damerau 1964: swaps count once), of names up to NAME_BYTES. */
static int name_distance(const char *a, const char *b)
{
	int la = (int)strnlen(a, NAME_BYTES - 1), lb = (int)strnlen(b, NAME_BYTES - 1);
	int d[NAME_BYTES][NAME_BYTES];
	for (int i = 0; i <= la; i++)
		d[i][0] = i;
	for (int j = 0; j <= lb; j++)
		d[0][j] = j;
	for (int i = 1; i <= la; i++) {
		for (int j = 1; j <= lb; j++) {
			int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
			if (d[i - 1][j] + 1 < best)
				best = d[i - 1][j] + 1;
			if (d[i][j - 1] + 1 < best)
				best = d[i][j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			        d[i - 2][j - 2] + 1 < best)
				best = d[i - 2][j - 2] + 1;
			d[i][j] = best;
		}
	}
	return d[la][lb];
}

const char *hd_nearest_name(const char *name, const char *const *names, size_t count)
{
	const char *nearest = NULL;
	int best = (int)strlen(name) / 3 + 2;
	for (size_t i = 0; i < count; i++) {
		int distance = name_distance(name, names[i]);
		if (distance < best) {
			best = distance;
			nearest = names[i];
		}
	}
	return nearest;
}

static const char *nearest_key(const char *name)
{
	const char *names[HD_SETTING_COUNT];
	for (int i = 0; i < HD_SETTING_COUNT; i++)
		names[i] = hd_setting_table[i].key;
	return hd_nearest_name(name, names, HD_SETTING_COUNT);
}

int hd_setting_find(const char *name)
{
	char key[NAME_BYTES];
	size_t n = 0;
	for (; n < sizeof key - 1 && name[n]; n++)
		key[n] = name[n] == '-' ? '_' : name[n];
	key[n] = 0;
	if (name[n])
		return -1;
	for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
		if (!strcmp(aliases[i].alias, key))
			snprintf(key, sizeof key, "%s", aliases[i].key);
	for (int i = 0; i < HD_SETTING_COUNT; i++)
		if (!strcmp(hd_setting_table[i].key, key))
			return i;
	return -1;
}

/* ---- assignment ---- */

static hd_status bad_range(const hd_setting *row, const char *value, const char *origin)
{
	return hd_fail(HD_E_USAGE, "%s: %s is out of range %.10g .. %.10g%s%s", origin, value, row->low, row->high,
	        row->unit[0] ? " " : "", row->unit);
}

static hd_status set_int(hd_settings *s, const hd_setting *row, const char *value, const char *origin)
{
	char *end;
	errno = 0;
	long long number = strtoll(value, &end, 10);
	if (end == value || *end || errno == EINVAL)
		return hd_fail(HD_E_USAGE, "%s: '%s' is not a whole number", origin, value);
	if (errno || (double)number < row->low || (double)number > row->high)
		return bad_range(row, value, origin);
	return default_INT(s, row->offset, number);
}

static hd_status set_float(hd_settings *s, const hd_setting *row, const char *value, const char *origin)
{
	char *end;
	double number = strtod(value, &end);
	if (end == value || *end || !isfinite(number) || strpbrk(value, "xXpP"))
		return hd_fail(HD_E_USAGE, "%s: '%s' is not a number", origin, value);
	if (number < row->low || number > row->high)
		return bad_range(row, value, origin);
	return default_FLOAT(s, row->offset, number);
}

static hd_status set_bool(hd_settings *s, const hd_setting *row, const char *value, const char *origin)
{
	static const char *const words[] = {"false", "no", "off", "0", "true", "yes", "on", "1"};
	for (int i = 0; i < 8; i++)
		if (!strcasecmp(value, words[i]))
			return default_BOOL(s, row->offset, i >= 4);
	return hd_fail(HD_E_USAGE, "%s: '%s' is neither true nor false", origin, value);
}

static int choice_position(const char *choices, const char *value)
{
	size_t length = strlen(value);
	int position = 0;
	for (const char *at = choices; at; position++) {
		size_t span = strcspn(at, "|");
		if (span == length && !strncmp(at, value, length))
			return position;
		at = at[span] ? at + span + 1 : NULL;
	}
	return -1;
}

/* Length in bytes of the code point at text and its value; 0 where it is no UTF-8 (RFC 3629). */
static int decode_utf8(const char *text, uint32_t *code_point)
{
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	const unsigned char *s = (const unsigned char *)text;
	int length = s[0] < 0x80 ? 1 : s[0] < 0xc0 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf8 ? 4 : 0;
	if (!length)
		return 0;
	uint32_t c = length == 1 ? s[0] : s[0] & (0x7fu >> length);
	for (int i = 1; i < length; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3fu);
	}
	*code_point = c;
	return c < smallest[length] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? 0 : length;
}

static bool is_utf8(const char *text)
{
	uint32_t code_point;
	for (int length; *text; text += length)
		if (!(length = decode_utf8(text, &code_point)))
			return false;
	return true;
}

static hd_status set_text(hd_settings *s, const hd_setting *row, const char *value, const char *origin)
{
	/* Checkpoints keep the settings as YAML, which holds no other bytes. */
	if (!is_utf8(value))
		return hd_fail(HD_E_USAGE, "%s: '%s' is not valid UTF-8", origin, value);
	if (row->choices && choice_position(row->choices, value) < 0)
		return hd_fail(HD_E_USAGE, "%s: '%s' is none of %s", origin, value, row->choices);
	return hd_set_text(text_of(s, row), value);
}

static const char *value_of_word(const hd_setting *row, const char *text)
{
	for (size_t i = 0; i < sizeof value_words / sizeof *value_words; i++)
		if (!strcmp(value_words[i].key, row->key) && !strcmp(value_words[i].word, text))
			return value_words[i].value;
	return text;
}

hd_status hd_settings_set(hd_settings *settings, const char *key, const char *value, const char *origin)
{
	int index = hd_setting_find(key);
	if (index < 0) {
		const char *near = nearest_key(key);
		return hd_fail(HD_E_USAGE, "%s: unknown setting '%s'%s%s%s", origin, key,
		        near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
	}
	const hd_setting *row = &hd_setting_table[index];
	static hd_status (*const setters[])(hd_settings *, const hd_setting *, const char *, const char *) = {
	        [HD_KIND_INT] = set_int,
	        [HD_KIND_FLOAT] = set_float,
	        [HD_KIND_BOOL] = set_bool,
	        [HD_KIND_TEXT] = set_text,
	        [HD_KIND_CHOICE] = set_text};
	/* Flags and variables are named after the key: it need not stand twice. */
	hd_given by = !strncmp(origin, "--", 2)                                          ? HD_GIVEN_FLAG
	              : !strncmp(origin, ENVIRONMENT_PREFIX, strlen(ENVIRONMENT_PREFIX)) ? HD_GIVEN_ENVIRONMENT
	                                                                                 : HD_GIVEN_FILE;
	bool named = by != HD_GIVEN_FILE;
	char where[512];
	snprintf(where, sizeof where, "%s%s%s", origin, named ? "" : ": ", named ? "" : row->key);
	hd_status st = setters[row->kind](settings, row, value_of_word(row, value), where);
	if (st == HD_OK)
		settings->given[index] = (uint8_t)by;
	return st;
}

int hd_settings_choice(const char *key, const char *value)
{
	int index = hd_setting_find(key);
	return index < 0 || !hd_setting_table[index].choices ? -1
	                                                     : choice_position(hd_setting_table[index].choices, value);
}

hd_status hd_settings_check(hd_settings *s)
{
	if (s->resample > 0) {
		if (s->given[HD_SET_sample_rate] && s->sample_rate != s->resample)
			return hd_fail(HD_E_USAGE, "resample %g Hz and sample_rate %g Hz: give one of them",
			        s->resample, s->sample_rate);
		s->sample_rate = s->resample;
	}
	hd_devices devices;
	hd_status st = hd_devices_parse(&devices, s->devices);
	if (st != HD_OK)
		return st;
	double top = s->f_max > 0 ? s->f_max : s->sample_rate / 2;
	if (s->validation_split + s->test_split >= 1)
		return hd_fail(HD_E_USAGE, "validation_split %g and test_split %g leave nothing to train on",
		        s->validation_split, s->test_split);
	if (s->f_min >= top || top > s->sample_rate / 2)
		return hd_fail(HD_E_USAGE,
		        "f_min %g Hz and f_max %g Hz must rise and stay within half the sample_rate of %g Hz", s->f_min,
		        top, s->sample_rate);
	if (s->hop_length > s->n_fft)
		return hd_fail(HD_E_USAGE, "hop_length %lld is longer than n_fft %lld: samples would be skipped",
		        (long long)s->hop_length, (long long)s->n_fft);
	if (s->freeze_backbone && s->layer_decay < 1 && s->unfreeze_epoch == 0)
		return hd_fail(HD_E_USAGE, "layer_decay %g has nothing to act on with freeze_backbone", s->layer_decay);
	if (s->unfreeze_epoch > 0 && !s->freeze_backbone)
		return hd_fail(HD_E_USAGE, "unfreeze_epoch %lld needs freeze_backbone", (long long)s->unfreeze_epoch);
	if (s->scale_min > s->scale_max)
		return hd_fail(HD_E_USAGE, "scale_min %g is above scale_max %g", s->scale_min, s->scale_max);
	if (!strcmp(s->feature, "mfcc") && s->n_mfcc > s->n_mels)
		return hd_fail(
		        HD_E_USAGE, "n_mfcc %lld is more than n_mels %lld", (long long)s->n_mfcc, (long long)s->n_mels);
	if (!strcmp(s->feature, "mfcc") && (s->level_jitter > 0 || s->gain_offsets))
		return hd_fail(HD_E_USAGE, "%s moves levels and works with feature mel, not mfcc",
		        s->gain_offsets ? "gain_offsets" : "level_jitter");
	if (s->n_fft % 2)
		return hd_fail(HD_E_USAGE, "n_fft %lld must be even", (long long)s->n_fft);
	if (s->voice_share + s->tone_share > 1)
		return hd_fail(HD_E_USAGE, "voice_share %g and tone_share %g are more than 1 together", s->voice_share,
		        s->tone_share);
	if (s->uncertainty_max > 0 && s->uncertainty_max <= s->uncertainty_min)
		return hd_fail(HD_E_USAGE, "uncertainty_max %g m must be above uncertainty_min %g m",
		        s->uncertainty_max, s->uncertainty_min);
	return HD_OK;
}

/* ---- environment and flags ---- */

/* Variables that say where things are and how they are used: of the machine, not of a run. */
static bool of_machine(const char *name)
{
	static const char *const names[] = {
	        "HEIMDALL_ARENA", "HEIMDALL_CPU_TIER", "HEIMDALL_CUDA_LIBRARY", "HEIMDALL_PYTHON", "HEIMDALL_TUNING"};
	bool found = false;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		found = found || !strcmp(name, names[i]);
	return found;
}

hd_status hd_settings_read_environment(hd_settings *settings)
{
	size_t prefix = strlen(ENVIRONMENT_PREFIX);
	for (char **entry = environ; entry && *entry; entry++) {
		char name[NAME_BYTES], key[NAME_BYTES];
		size_t length = strcspn(*entry, "=");
		if (strncmp(*entry, ENVIRONMENT_PREFIX, prefix) != 0 || length >= sizeof name)
			continue;
		snprintf(name, sizeof name, "%.*s", (int)length, *entry);
		if (of_machine(name))
			continue;
		for (size_t i = 0; i <= length - prefix; i++) {
			char c = name[prefix + i];
			key[i] = (char)(c >= 'A' && c <= 'Z' ? c + 'a' - 'A' : c);
		}
		hd_status st = hd_settings_set(settings, key, *entry + length + 1, name);
		if (st != HD_OK)
			return st;
	}
	return HD_OK;
}

static const struct {
	char letter;
	const char *name;
} commands[] = {{'T', "train"}, {'E', "eval"}, {'P', "predict"}, {'S', "synth"}, {'F', "features"}, {'C', "catalog"},
        {'I', "import"}, {'X', "export"}, {'R', "runs"}, {'K', "track"}, {'D', "reproduce"}, {'B', "publish"}};

static hd_status wrong_command(const hd_setting *row, const char *flag, char command)
{
	char owners[64] = "";
	const char *here = "";
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
		if (commands[i].letter == command)
			here = commands[i].name;
		if (strchr(row->commands, commands[i].letter)) {
			strncat(owners, owners[0] ? ", " : "", sizeof owners - strlen(owners) - 1);
			strncat(owners, commands[i].name, sizeof owners - strlen(owners) - 1);
		}
	}
	return hd_fail(HD_E_USAGE, "%s: belongs to %s, not to %s", flag, owners, here);
}

/* One "--name[=value]" at argv[*at]; moves *at over a value taken from the next word. */
static hd_status read_flag(hd_settings *s, char command, int argc, char **argv, int *at)
{
	char flag[NAME_BYTES + 2];
	const char *word = argv[*at], *equals = strchr(word, '=');
	snprintf(flag, sizeof flag, "%.*s", (int)(equals ? equals - word : (long)strlen(word)), word);
	const char *name = flag + 2;
	int index = hd_setting_find(name);
	bool negated = index < 0 && !equals && (!strncmp(name, "no-", 3) || !strncmp(name, "no_", 3));
	if (negated)
		index = hd_setting_find(name + 3);
	if (index < 0 || (negated && hd_setting_table[index].kind != HD_KIND_BOOL)) {
		const char *near = nearest_key(name);
		return hd_fail(HD_E_USAGE, "%s: unknown setting%s%s%s", flag, near ? "; did you mean --" : "",
		        near ? near : "", near ? "?" : "");
	}
	const hd_setting *row = &hd_setting_table[index];
	if (!strchr(row->commands, command))
		return wrong_command(row, flag, command);
	if (equals)
		return hd_settings_set(s, row->key, equals + 1, flag);
	if (row->kind == HD_KIND_BOOL)
		return hd_settings_set(s, row->key, negated ? "false" : "true", flag);
	if (*at + 1 >= argc)
		return hd_fail(HD_E_USAGE, "%s: needs a value", flag);
	if (!strncmp(argv[*at + 1], "--", 2))
		return hd_fail(
		        HD_E_USAGE, "%s: needs a value; one that starts with -- is written %s=VALUE", flag, flag);
	return hd_settings_set(s, row->key, argv[++*at], flag);
}

/* Whether argv[at] is --config; *path is its file, *words how many words it takes. */
static bool config_flag(int argc, char **argv, int at, const char **path, int *words)
{
	*path = NULL;
	*words = 1;
	if (!strncmp(argv[at], "--config=", 9)) {
		*path = argv[at] + 9;
		return true;
	}
	if (strcmp(argv[at], "--config") != 0)
		return false;
	if (at + 1 < argc && strncmp(argv[at + 1], "--", 2) != 0) {
		*path = argv[at + 1];
		*words = 2;
	}
	return true;
}

static hd_status read_config_files(hd_settings *settings, int argc, char **argv)
{
	const char *path;
	int words;
	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (!config_flag(argc, argv, i, &path, &words))
			continue;
		if (!path)
			return hd_fail(HD_E_USAGE, "--config: needs a file");
		hd_status st = hd_settings_read_yaml(settings, path);
		if (st != HD_OK)
			return st;
		i += words - 1;
	}
	return HD_OK;
}

hd_status hd_settings_read_arguments(hd_settings *settings, char command, int argc, char **argv,
        const char **positional, int max_positional, int *positional_count, bool *help)
{
	hd_status st;
	bool only_positional = false;
	*help = false;
	*positional_count = 0;
	/* Help is given whatever else is wrong. */
	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0 && !*help; i++)
		*help = !strcmp(argv[i], "-h") || !strcmp(argv[i], "--help");
	if (*help)
		return HD_OK;
	HD_TRY(read_config_files(settings, argc, argv));
	HD_TRY(hd_settings_read_environment(settings));
	for (int i = 0; i < argc; i++) {
		const char *path;
		int words;
		if (!only_positional && !strcmp(argv[i], "--")) {
			only_positional = true;
		} else if (!only_positional && config_flag(argc, argv, i, &path, &words)) {
			i += words - 1;
		} else if (!only_positional && !strncmp(argv[i], "--", 2)) {
			HD_TRY(read_flag(settings, command, argc, argv, &i));
		} else if (!only_positional && argv[i][0] == '-' && argv[i][1]) {
			st = hd_fail(HD_E_USAGE, "%s: unknown flag; settings are written --name", argv[i]);
			goto done;
		} else if (*positional_count >= max_positional) {
			st = hd_fail(HD_E_USAGE, "'%s': what is this? Settings are written --name value", argv[i]);
			goto done;
		} else {
			positional[(*positional_count)++] = argv[i];
		}
	}
done:
	return st;
}

/* ---- help, dump, inheritance ---- */

static void value_text(char *text, size_t bytes, const hd_settings *s, const hd_setting *row)
{
	const char *at = (const char *)s + row->offset;
	switch (row->kind) {
	case HD_KIND_INT:
		snprintf(text, bytes, "%lld", (long long)*(const int64_t *)(const void *)at);
		break;
	case HD_KIND_FLOAT: {
		/* the fewest digits that read back to the same number */
		double v = *(const double *)(const void *)at;
		for (int digits = 6; digits <= 17; digits++) {
			snprintf(text, bytes, "%.*g", digits, v);
			if (strtod(text, NULL) == v)
				break;
		}
		break;
	}
	case HD_KIND_BOOL:
		snprintf(text, bytes, "%s", *(const bool *)(const void *)at ? "true" : "false");
		break;
	default:
		snprintf(text, bytes, "%s", *(char *const *)(const void *)at);
	}
}

/* Words from HELP_INDENT on, wrapped before HELP_COLUMNS; column: where the line stands. */
static void put_wrapped(FILE *to, int column, const char *text)
{
	bool first = true;
	while (*text) {
		int length = (int)strcspn(text, " ");
		if (!first && column + 1 + length >= HELP_COLUMNS) {
			fputc('\n', to);
			column = 0;
			first = true;
		}
		if (first && column < HELP_INDENT)
			column += fprintf(to, "%*s", HELP_INDENT - column, "");
		column += fprintf(to, "%s%.*s", first ? "" : " ", length, text);
		first = false;
		text += length + (text[length] == ' ');
	}
	fputc('\n', to);
}

void hd_settings_help(FILE *to, char command)
{
	hd_settings defaults;
	const char *group = "";
	if (hd_settings_init(&defaults) != HD_OK)
		return;
	for (int i = 0; i < HD_SETTING_COUNT; i++) {
		const hd_setting *row = &hd_setting_table[i];
		char value[256], text[512];
		if (!strchr(row->commands, command))
			continue;
		if (strcmp(group, row->group) != 0)
			fprintf(to, "\n%s:\n", row->group);
		group = row->group;
		value_text(value, sizeof value, &defaults, row);
		snprintf(text, sizeof text, "%s%s%s%s%s", row->help, row->unit[0] ? " [" : "", row->unit,
		        row->unit[0] ? "]" : "",
		        row->kind == HD_KIND_BOOL && !strcmp(value, "true") ? " (on; --no-... turns off)" : "");
		int column = fprintf(to, "  --%s %s", row->key, row->kind == HD_KIND_BOOL ? "" : value);
		if (column >= HELP_INDENT) {
			fputc('\n', to);
			column = 0;
		}
		put_wrapped(to, column, text);
		if (row->choices)
			put_wrapped(to, 0, row->choices);
	}
	fputc('\n', to);
	put_wrapped(to, fprintf(to, "  --config FILE"), "YAML file with any of these settings");
	hd_settings_free(&defaults);
}

/* YAML double-quoted text: what YAML calls not printable or a line break stands as an escape. */
static void put_quoted(FILE *to, const char *text)
{
	fputc('"', to);
	for (int length; *text; text += length) {
		uint32_t c = 0;
		length = decode_utf8(text, &c);
		if (!length) {
			c = 0xfffd;
			length = 1;
		}
		if (c == '"' || c == '\\')
			fprintf(to, "\\%c", (char)c);
		else if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0xfeff ||
		         (c >= 0xfffd && c <= 0xffff))
			fprintf(to, "\\u%04x", (unsigned)c);
		else
			fwrite(text, 1, (size_t)length, to);
	}
	fputc('"', to);
}

/* Keys to somebody's data: they are written nowhere and taken from no checkpoint. */
static bool is_secret(const hd_setting *row)
{
	return !strcmp(row->key, "s3_access_key") || !strcmp(row->key, "s3_secret_key");
}

hd_status hd_setting_text(char **out, const hd_settings *s, const hd_setting *row)
{
	char value[64];
	if (is_secret(row))
		return hd_strdup(out, "");
	if (row->kind == HD_KIND_TEXT)
		return hd_redact(out, *(char *const *)(const void *)((const char *)s + row->offset));
	if (row->kind == HD_KIND_CHOICE)
		return hd_strdup(out, *(char *const *)(const void *)((const char *)s + row->offset));
	value_text(value, sizeof value, s, row);
	return hd_strdup(out, value);
}

hd_status hd_settings_dump(const hd_settings *settings, char **out_yaml)
{
	hd_status st = HD_OK;
	size_t bytes;
	const char *group = "";
	*out_yaml = NULL;
	FILE *to = open_memstream(out_yaml, &bytes);
	if (!to)
		return hd_fail(HD_E_MEMORY, "out of host memory for the settings");
	for (int i = 0; st == HD_OK && i < HD_SETTING_COUNT; i++) {
		const hd_setting *row = &hd_setting_table[i];
		char *value;
		st = hd_setting_text(&value, settings, row);
		if (st != HD_OK)
			break;
		if (strcmp(group, row->group) != 0)
			fprintf(to, "%s:\n", row->group);
		group = row->group;
		fprintf(to, "  %s: ", row->key);
		if (row->kind == HD_KIND_TEXT)
			put_quoted(to, value);
		else
			fputs(value, to);
		fputc('\n', to);
		free(value);
	}
	if (fclose(to) != 0 && st == HD_OK)
		st = hd_fail(HD_E_MEMORY, "out of host memory for the settings");
	return st;
}

static bool of_model(const hd_setting *row)
{
	static const char *const keys[] = {"sample_rate", "resample", "shift_max"};
	bool found = !strcmp(row->group, "features") || !strcmp(row->group, "model");
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		found = found || !strcmp(row->key, keys[i]);
	return found;
}

bool hd_setting_is_of_call(const hd_setting *row)
{
	static const char *const keys[] = {"resume_training", "checkpoint", "dry_run", "lr_find", "fast_dev_run",
	        "json", "progress", "detach", "export_only", "publish", "list_backbones"};
	bool found = false;
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		found = found || !strcmp(row->key, keys[i]);
	return found;
}

/* Of the machine as it is today: a checkpoint says nothing on it. */
static bool is_of_machine(const hd_setting *row)
{
	return !strcmp(row->key, "devices");
}

static hd_status inherit(hd_settings *settings, const hd_settings *recorded, bool (*wanted)(const hd_setting *row),
        char **out_differences)
{
	hd_status st = HD_OK;
	char *list = NULL, *mine = NULL, *theirs = NULL;
	*out_differences = NULL;
	for (int i = 0; i < HD_SETTING_COUNT; i++) {
		const hd_setting *row = &hd_setting_table[i];
		free(mine);
		free(theirs);
		mine = theirs = NULL;
		HD_TRY(hd_setting_text(&mine, settings, row));
		HD_TRY(hd_setting_text(&theirs, recorded, row));
		if (!strcmp(mine, theirs) || is_secret(row) || hd_setting_is_of_call(row) || is_of_machine(row) ||
		        (wanted && !wanted(row)))
			continue;
		if (!settings->given[i]) {
			HD_TRY(hd_settings_set(settings, row->key, theirs, "checkpoint"));
			settings->given[i] = HD_NOT_GIVEN;
			continue;
		}
		char *longer;
		HD_TRY(hd_sprintf(
		        &longer, "%s%s%s %s -> %s", list ? list : "", list ? ", " : "", row->key, theirs, mine));
		free(list);
		list = longer;
	}
	*out_differences = list;
	list = NULL;
done:
	free(theirs);
	free(mine);
	free(list);
	return st;
}

hd_status hd_settings_inherit(hd_settings *settings, const hd_settings *recorded, char **out_differences)
{
	return inherit(settings, recorded, NULL, out_differences);
}

hd_status hd_settings_inherit_model(hd_settings *settings, const hd_settings *recorded, char **out_differences)
{
	return inherit(settings, recorded, of_model, out_differences);
}
