/* SPDX-License-Identifier: Apache-2.0 */
#include "host/store/s3_xml.h"

#include <errno.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"

void hd_s3_xml_begin(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, xmlInitParser);
}

static bool is_named(const xmlNode *node, const char *name)
{
	return node->type == XML_ELEMENT_NODE && !strcmp((const char *)node->name, name);
}

static const xmlNode *child_named(const xmlNode *parent, const char *name)
{
	for (const xmlNode *node = parent->children; node; node = node->next) {
		if (is_named(node, name))
			return node;
	}
	return NULL;
}

/* NULL where it is no document. */
static xmlDoc *parse(const char *body, size_t bytes)
{
	if (!body || bytes == 0 || bytes > INT_MAX)
		return NULL;
	xmlDoc *doc = xmlReadMemory(
	        body, (int)bytes, "answer.xml", NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	if (doc && (xmlGetIntSubset(doc) || !xmlDocGetRootElement(doc))) {
		xmlFreeDoc(doc);
		return NULL;
	}
	return doc;
}

static hd_status copy_text(char **out, const xmlNode *node)
{
	xmlChar *text = node ? xmlNodeGetContent(node) : NULL;
	hd_status st = hd_strdup(out, text ? (const char *)text : "");
	xmlFree(text);
	return st;
}

static void copy_short(char *out, size_t capacity, const xmlNode *node)
{
	xmlChar *text = node ? xmlNodeGetContent(node) : NULL;
	snprintf(out, capacity, "%s", text ? (const char *)text : "");
	xmlFree(text);
	for (char *c = out; *c; c++) {
		if ((unsigned char)*c < ' ' || *c == 127)
			*c = ' ';
	}
}

bool hd_s3_xml_fault(hd_s3_fault *out, const char *body, size_t bytes)
{
	*out = (hd_s3_fault){0};
	/* a long listing is not parsed only to see that it is none */
	if (!body || !memmem(body, bytes < 512 ? bytes : 512, "Error", 5))
		return false;
	xmlDoc *doc = parse(body, bytes);
	if (!doc)
		return false;
	const xmlNode *root = xmlDocGetRootElement(doc);
	bool fault = is_named(root, "Error");
	if (fault) {
		copy_short(out->code, sizeof out->code, child_named(root, "Code"));
		copy_short(out->message, sizeof out->message, child_named(root, "Message"));
		copy_short(out->region, sizeof out->region, child_named(root, "Region"));
	}
	xmlFreeDoc(doc);
	return fault;
}

static hd_status parse_as(xmlDoc **out, const char *body, size_t bytes, const char *root)
{
	*out = parse(body, bytes);
	if (!*out)
		return hd_fail(HD_E_DATA, "the server's answer is no XML");
	if (!root || is_named(xmlDocGetRootElement(*out), root))
		return HD_OK;
	hd_status st =
	        hd_fail(HD_E_DATA, "the server answers with <%.64s>, not <%s>", xmlDocGetRootElement(*out)->name, root);
	xmlFreeDoc(*out);
	*out = NULL;
	return st;
}

hd_status hd_s3_xml_text(char **out, const char *body, size_t bytes, const char *root, const char *element)
{
	xmlDoc *doc = NULL;
	*out = NULL;
	hd_status st = parse_as(&doc, body, bytes, root);
	if (st != HD_OK)
		return st;
	const xmlNode *node = child_named(xmlDocGetRootElement(doc), element);
	st = node ? copy_text(out, node) : hd_fail(HD_E_DATA, "the server's answer has no <%s>", element);
	xmlFreeDoc(doc);
	return st;
}

/* ---- listings ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A key of a listing with encoding-type=url: %XX, and '+' for a space. In place. */
static hd_status decode(char *text)
{
	char *to = text;
	for (const char *c = text; *c; c++) {
		if (*c == '+') {
			*to++ = ' ';
		} else if (*c != '%') {
			*to++ = *c;
		} else {
			int high = hex_digit(c[1]), low = high < 0 ? -1 : hex_digit(c[2]);
			if (low < 0 || high * 16 + low == 0)
				return hd_fail(HD_E_DATA, "the server lists a key with a broken %% sequence");
			*to++ = (char)(high * 16 + low);
			c += 2;
		}
	}
	*to = 0;
	return HD_OK;
}

static hd_status read_size(int64_t *out, const xmlNode *node)
{
	char text[32], *end;
	copy_short(text, sizeof text, node);
	errno = 0;
	long long value = strtoll(text, &end, 10);
	if (end == text || *end || errno || value < 0)
		return hd_fail(HD_E_DATA, "the server lists an object with the size '%s'", text);
	*out = value;
	return HD_OK;
}

static hd_status add_item(hd_s3_page *page, const xmlNode *node, bool prefix, bool encoded)
{
	hd_status st;
	HD_TRY(hd_grow(&page->items, &page->capacity, page->count + 1, sizeof *page->items));
	hd_s3_listed *item = &page->items[page->count++];
	item->prefix = prefix;
	HD_TRY(copy_text(&item->key, child_named(node, prefix ? "Prefix" : "Key")));
	if (!*item->key) {
		st = hd_fail(HD_E_DATA, "the server lists an object without a key");
		goto done;
	}
	if (encoded)
		HD_TRY(decode(item->key));
	HD_TRY(copy_text(&item->etag, child_named(node, "ETag")));
	HD_TRY(copy_text(&item->modified, child_named(node, "LastModified")));
	if (!prefix)
		HD_TRY(read_size(&item->bytes, child_named(node, "Size")));
done:
	return st;
}

hd_status hd_s3_xml_list(hd_s3_page *out, const char *body, size_t bytes)
{
	xmlDoc *doc = NULL;
	char word[16];
	*out = (hd_s3_page){0};
	hd_status st = parse_as(&doc, body, bytes, "ListBucketResult");
	if (st != HD_OK)
		return st;
	const xmlNode *root = xmlDocGetRootElement(doc);
	copy_short(word, sizeof word, child_named(root, "EncodingType"));
	bool encoded = !strcmp(word, "url");
	copy_short(word, sizeof word, child_named(root, "IsTruncated"));
	out->truncated = !strcmp(word, "true");
	for (const xmlNode *node = root->children; node; node = node->next) {
		bool prefix = is_named(node, "CommonPrefixes");
		if (prefix || is_named(node, "Contents"))
			HD_TRY(add_item(out, node, prefix, encoded));
	}
	if (out->truncated) {
		HD_TRY(copy_text(&out->next, child_named(root, "NextContinuationToken")));
		if (!*out->next)
			st = hd_fail(HD_E_DATA, "the server says that its listing goes on and not where");
	}
done:
	xmlFreeDoc(doc);
	if (st != HD_OK)
		hd_s3_page_free(out);
	return st;
}

void hd_s3_page_free(hd_s3_page *page)
{
	for (size_t i = 0; i < page->count; i++) {
		free(page->items[i].key);
		free(page->items[i].etag);
		free(page->items[i].modified);
	}
	free(page->items);
	free(page->next);
	*page = (hd_s3_page){0};
}
