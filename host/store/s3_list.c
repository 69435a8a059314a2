/* SPDX-License-Identifier: Apache-2.0 */
/* Listings, page by page (ListObjectsV2). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/store/s3_request.h"

#define MAX_QUERY 6

static hd_status get_page(hd_s3_page *out, hd_s3 *s, const hd_s3_call *call)
{
	hd_status st;
	hd_s3_answer a = {0};
	*out = (hd_s3_page){0};
	HD_TRY(hd_s3_perform(s, call, &a));
	st = hd_s3_say_where(hd_s3_xml_list(out, a.body, a.body_bytes), call);
done:
	hd_s3_answer_free(&a);
	return st;
}

static hd_status give(const hd_s3_page *page, hd_s3_each each, void *context)
{
	hd_status st = HD_OK;
	for (size_t i = 0; st == HD_OK && i < page->count; i++)
		st = each(context, &page->items[i]);
	return st;
}

hd_status hd_s3_list(hd_s3 *s, const char *bucket, const char *prefix, const char *delimiter, int page_keys,
        hd_s3_each each, void *context)
{
	hd_status st;
	hd_s3_page page = {0};
	char *token = NULL, number[12];
	hd_pair query[MAX_QUERY] = {{"list-type", "2"}, {"encoding-type", "url"}, {"prefix", prefix}};
	size_t fixed = 3;
	HD_TRY(hd_s3_check_names(bucket, NULL));
	if (delimiter && *delimiter)
		query[fixed++] = (hd_pair){"delimiter", delimiter};
	if (page_keys > 0) {
		snprintf(number, sizeof number, "%d", page_keys);
		query[fixed++] = (hd_pair){"max-keys", number};
	}
	hd_s3_call call = {.method = "GET", .bucket = bucket, .query = query, .query_count = fixed};
	for (;;) {
		HD_TRY(get_page(&page, s, &call));
		HD_TRY(give(&page, each, context));
		if (!page.truncated)
			break;
		if (token && !strcmp(token, page.next)) {
			st = hd_s3_say_where(hd_fail(HD_E_DATA, "the server gives the same page again"), &call);
			goto done;
		}
		free(token);
		token = page.next;
		page.next = NULL;
		hd_s3_page_free(&page);
		query[fixed] = (hd_pair){"continuation-token", token};
		call.query_count = fixed + 1;
	}
done:
	hd_s3_page_free(&page);
	free(token);
	return st;
}
