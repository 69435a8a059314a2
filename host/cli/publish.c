/* SPDX-License-Identifier: Apache-2.0 */
/* heimdall publish: a model to where services take it from; what is there, listed, promoted and rolled back. */
#include "heimdall/publish.h"

#include <stdio.h>

#include "host/cli/cli.h"
#include "host/cli/result.h"
#include "host/common/stop.h"

static hd_status print(const hd_settings *s, const hd_published *p)
{
	json_t *result = json_pack("{s:s, s:s, s:s, s:b, s:b}", "version", p->version, "where", p->where, "registered",
	        p->registered, "was_there", p->was_there, "latest", p->latest);
	printf("version          %s\nwhere            %s\nregistered       %s%s%s\nlatest           %s\n", p->version,
	        p->where, p->registered[0] ? s->registered_model : "no", p->registered[0] ? ", version " : "",
	        p->registered, p->latest ? "yes" : "no");
	return hd_write_result(s->json, result);
}

static hd_status check_arguments(const hd_settings *s, int count)
{
	bool source = count > 0 || s->checkpoint[0];
	int actions = source + s->list + (s->promote[0] != 0) + s->rollback;
	if (count > 1)
		return hd_fail(HD_E_USAGE, "one model at a time");
	if (actions == 1)
		return HD_OK;
	return hd_fail(HD_E_USAGE, actions ? "a model, --list, --promote and --rollback exclude each other"
	                                   : "name what to publish: a run, a checkpoint or its folder, or an .onnx "
	                                     "file; or --list, --promote "
	                                     "VERSION, --rollback");
}

hd_status hd_cli_publish(const hd_settings *settings, const char **files, int count)
{
	hd_published published = {0};
	hd_status st = check_arguments(settings, count);
	if (st != HD_OK)
		return st;
	hd_stop_begin();
	if (settings->list)
		st = hd_publish_list(stdout, settings);
	else if (settings->promote[0])
		st = hd_publish_promote(&published, settings);
	else if (settings->rollback)
		st = hd_publish_rollback(&published, settings);
	else
		st = hd_publish_named(&published, settings, count ? files[0] : settings->checkpoint);
	if (st == HD_OK && !settings->list)
		st = print(settings, &published);
	hd_published_free(&published);
	hd_stop_end();
	return st;
}
