/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall COMMAND [settings]: reads the settings and runs one subcommand. */
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/cli/cli.h"
#include "host/common/memory.h"
#include "host/common/progress.h"
#include "host/common/settings_table.h"
#include "host/common/version.h"

typedef struct command {
	const char *name;
	char letter;
	bool takes_files;
	hd_status (*run)(const hd_settings *settings, const char **files, int count);
	const char *help;
} command;

static const command table[] = {
        {"train", 'T', false, hd_cli_train, "train a localisation model on a catalogue of recordings"},
        {"eval", 'E', false, hd_cli_eval, "error in metres of a checkpoint on a split of the data"},
        {"predict", 'P', true, hd_cli_predict,
                "position and sigma for recordings: one file per receiver, in channel order"},
        {"export", 'X', false, hd_cli_export, "a checkpoint as an ONNX model, validated in ONNX Runtime"},
        {"synth", 'S', false, hd_cli_synth, "render synthetic recordings with known positions"},
        {"features", 'F', true, hd_cli_features, "mel levels of recordings, as .npy and picture"},
        {"import", 'I', true, hd_cli_import, "published weights (.safetensors, .pth, .ckpt) under timm's names"},
        {"catalog", 'C', true, hd_cli_catalog, "show, export or check a catalogue of recordings"},
        {"publish", 'B', true, hd_cli_publish, "put a model where services take it from, and register it"},
        {"runs", 'R', true, hd_cli_runs, "what became of runs: ls, show RUN, tail RUN, stop RUN"},
        {"reproduce", 'D', true, hd_cli_reproduce, "train a run once more and compare every metric with it"},
        {"track", 'K', true, hd_cli_track, "send runs to an MLflow server, and show what it has of them"},
};
#define COMMAND_COUNT (sizeof table / sizeof *table)

/* Named in the design, not in this version: said plainly rather than called unknown. */
static const char *const later[] = {"grid", "compare", "report", "doctor"};

static void usage(FILE *to)
{
	fprintf(to,
	        "heimdall %s: from SDR IQ recordings to a localisation model\n\nusage: heimdall COMMAND [--setting "
	        "value ...]\n\n",
	        hd_version);
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		fprintf(to, "  %-10s %s\n", table[i].name, table[i].help);
	fprintf(to, "\nheimdall COMMAND --help lists its settings; --config FILE reads them from YAML.\n"
	            "Exit codes: 0 done, 1 failed, 2 usage, 3 data, 4 interrupted, checkpoint written.\n");
}

static const command *find_command(const char *name)
{
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		if (!strcmp(table[i].name, name))
			return &table[i];
	return NULL;
}

static int unknown_command(const char *name)
{
	const char *names[COMMAND_COUNT];
	for (size_t i = 0; i < sizeof later / sizeof *later; i++) {
		if (!strcmp(later[i], name)) {
			fprintf(stderr, "heimdall: %s is not part of version %s\n", name, hd_version);
			return hd_status_exit_code(HD_E_USAGE);
		}
	}
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		names[i] = table[i].name;
	const char *near = hd_nearest_name(name, names, COMMAND_COUNT);
	fprintf(stderr, "heimdall: unknown command '%s'%s%s%s; see heimdall --help\n", name,
	        near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
	return hd_status_exit_code(HD_E_USAGE);
}

/* What stands beside the settings. */
static const char *words_of(const command *c)
{
	switch (c->letter) {
	case 'R':
		return " ls|show|tail|stop [RUN]";
	case 'K':
		return " push|status [RUN]";
	case 'D':
		return " RUN";
	case 'B':
		return " RUN|FILE";
	case 'C':
		return " show|check|export [DIR|FILE...]";
	default:
		return c->takes_files ? " FILE..." : "";
	}
}

static void command_help(const command *c)
{
	printf("heimdall %s: %s\n\nusage: heimdall %s [--setting value ...]%s\n", c->name, c->help, c->name,
	        words_of(c));
	hd_settings_help(stdout, c->letter);
}

static hd_status run(const command *c, int argc, char **argv)
{
	hd_status st;
	hd_settings settings = {0};
	const char **files = NULL;
	int count;
	bool help;
	HD_TRY(hd_alloc(&files, (size_t)argc + 1, sizeof *files));
	HD_TRY(hd_settings_init(&settings));
	HD_TRY(hd_settings_read_arguments(
	        &settings, c->letter, argc, argv, files, c->takes_files ? argc : 0, &count, &help));
	if (help) {
		command_help(c);
		goto done;
	}
	HD_TRY(hd_settings_check(&settings));
	hd_progress_enable(settings.progress);
	HD_TRY(c->run(&settings, files, count));
done:
	hd_settings_free(&settings);
	free(files);
	return st;
}

int main(int argc, char **argv)
{
	setlocale(LC_NUMERIC, "C");
	const char *name = argc > 1 ? argv[1] : "--help";
	if (!strcmp(name, "--version")) {
		printf("heimdall %s (%s)\n", hd_version, hd_commit);
		return 0;
	}
	if (!strcmp(name, "--help") || !strcmp(name, "-h") || (!strcmp(name, "help") && argc < 3)) {
		usage(argc > 1 ? stdout : stderr);
		return argc > 1 ? 0 : hd_status_exit_code(HD_E_USAGE);
	}
	bool wants_help = !strcmp(name, "help");
	const command *c = find_command(wants_help ? argv[2] : name);
	if (!c)
		return unknown_command(wants_help ? argv[2] : name);
	if (wants_help) {
		command_help(c);
		return 0;
	}
	hd_status st = run(c, argc - 2, argv + 2);
	/* no text: what went wrong has been said, by the process in the background */
	if (st != HD_OK && hd_error_text()[0])
		fprintf(stderr, "heimdall %s: %s\n", c->name, hd_error_text());
	return hd_status_exit_code(st);
}
