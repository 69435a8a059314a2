/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rewrites the three forms of CUDA C++ that a host compiler cannot read; everything else passes through unchanged.
 *
 *   kernel<<<grid, block, bytes, stream>>>(args)   kernel ->* ::hd_emu::configure(grid, block, ...)
 *                                                  .named(HD_EMU_TEXT(kernel))(args)
 *   __shared__ T name[d];                          static char name_key; T (&name)[d] = one heap block per variable
 *   extern __shared__ T name[];                    T *name = the block's dynamic shared memory
 *
 * Line numbers are kept and a #line directive names the source, so that compilers, debuggers and sanitizers point at
 * the .cu file. A form that is not known ends the run with file:line; nothing is guessed.
 *
 * Usage: rewrite INPUT >OUTPUT
 */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *path;
static char *source; /* followed by padding of zeros, so that looking a few characters ahead is safe */
static size_t size;
static size_t here; /* what has been written out so far */

enum { PADDING = 16 };

__attribute__((noreturn, format(printf, 2, 3))) static void die(size_t at, const char *format, ...)
{
	int line = 1;
	for (size_t i = 0; i < at && i < size; i++)
		line += source[i] == '\n';
	fprintf(stderr, "%s:%d: error: ", path, line);
	va_list args;
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static void read_source(void)
{
	FILE *file = fopen(path, "rb");
	if (!file || fseek(file, 0, SEEK_END)) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(1);
	}
	long length = ftell(file);
	rewind(file);
	source = length < 0 ? NULL : calloc((size_t)length + PADDING, 1);
	if (!source || fread(source, 1, (size_t)length, file) != (size_t)length) {
		fprintf(stderr, "%s: cannot be read\n", path);
		exit(1);
	}
	size = (size_t)length;
	fclose(file);
}

static bool in_word(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

static bool space_at(size_t at)
{
	return isspace((unsigned char)source[at]);
}

/* Is the whole word at `at` this one? */
static bool word_at(size_t at, const char *word)
{
	size_t length = strlen(word);
	return at + length <= size && !memcmp(source + at, word, length) && !in_word(source[at + length]) &&
	       (at == 0 || !in_word(source[at - 1]));
}

static void copy_to(size_t end)
{
	fwrite(source + here, 1, end - here, stdout);
	here = end;
}

/* Leaves the text up to `end` out but its line breaks in, also those of a macro. */
static void drop_to(size_t end)
{
	for (; here < end; here++)
		if (source[here] == '\n')
			fputs(here > 0 && source[here - 1] == '\\' ? "\\\n" : "\n", stdout);
}

/* One past the comment, string or character constant that starts at `at`; `at` where none does. */
static size_t skip_opaque(size_t at)
{
	size_t i = at;
	if (source[i] == '/' && source[i + 1] == '/') {
		while (i < size && (source[i] != '\n' || source[i - 1] == '\\'))
			i++;
		return i;
	}
	if (source[i] == '/' && source[i + 1] == '*') {
		for (i += 2; i < size; i++)
			if (source[i] == '*' && source[i + 1] == '/')
				return i + 2;
		die(at, "comment without an end");
	}
	if (source[i] == '"' && i > 0 && source[i - 1] == 'R')
		die(at, "raw string literals are not known here: use an ordinary string");
	bool digit_separator = source[i] == '\'' && i > 0 && isxdigit((unsigned char)source[i - 1]);
	if (source[i] != '"' && (source[i] != '\'' || digit_separator))
		return at;
	char quote = source[i++];
	while (i < size && source[i] != quote && source[i] != '\n')
		i += source[i] == '\\' ? 2 : 1;
	if (i >= size || source[i] != quote)
		die(at, "string or character constant without an end");
	return i + 1;
}

/* ---- kernel launches ---- */

/* Start of the kernel's name, with its template arguments, that ends at `end`; `end` where there is none. */
static size_t kernel_name(size_t end)
{
	size_t i = end;
	int angle = 0;
	while (i > 0) {
		char c = source[i - 1];
		if (c == ';' || c == '{' || c == '}')
			break;
		angle += c == '>';
		angle -= c == '<';
		i--;
		if (angle == 0 && c == '<')
			break;
		if (c != '>' && angle == 0) {
			i++;
			break;
		}
	}
	if (angle)
		return end;
	while (i > 0 && space_at(i - 1))
		i--;
	while (i > 0 && (in_word(source[i - 1]) || source[i - 1] == ':'))
		i--;
	return i;
}

/* For reports. A macro makes the string, so that a parameter of a macro that launches gives its argument's name. */
static void put_name(size_t start, size_t end)
{
	fputs(".named(HD_EMU_TEXT(", stdout);
	for (size_t i = start; i < end; i++)
		putchar(space_at(i) || source[i] == '\\' ? ' ' : source[i]);
	fputs("))", stdout);
}

/* `here` is at <<<; nothing inside the configuration but strings can look like its end. */
static void rewrite_launch(void)
{
	size_t start = here, before = here;
	while (before > 0 && space_at(before - 1))
		before--;
	if (before == 0 || (!in_word(source[before - 1]) && !strchr(">)]", source[before - 1])))
		die(start, "'<<<' does not follow the name of a kernel");
	fputs(" ->* ::hd_emu::configure(", stdout);
	here += 3;
	int depth = 0;
	bool empty = true;
	for (size_t i = here; i < size;) {
		size_t next = skip_opaque(i);
		if (next > i) {
			i = next;
			continue;
		}
		if (!strncmp(source + i, "<<<", 3))
			die(i, "'<<<' inside a launch configuration");
		if (depth == 0 && !strncmp(source + i, ">>>", 3)) {
			if (empty)
				die(i, "a launch configuration names at least the grid and the block");
			copy_to(i);
			drop_to(i + 3);
			while (space_at(here) || (source[here] == '\\' && source[here + 1] == '\n'))
				drop_to(here + 1);
			if (source[here] != '(')
				die(here, "expected '(' after '>>>'");
			putchar(')');
			put_name(kernel_name(before), before);
			return;
		}
		if (source[i] == ';')
			break;
		depth += strchr("([{", source[i]) != NULL && source[i];
		depth -= strchr(")]}", source[i]) != NULL && source[i];
		empty = empty && space_at(i);
		i++;
	}
	die(start, "'<<<' without '>>>'");
}

/* ---- shared memory ---- */

struct declaration {
	char *text; /* without comments and line breaks */
	size_t type, type_end, name, name_end, dims, end;
};

/* The text between the specifier and ';', blanks for comments and line breaks. */
static size_t declaration_text(size_t start, struct declaration *d)
{
	size_t end = start;
	while (end < size && source[end] != ';' && source[end] != '{' && source[end] != '}') {
		size_t next = skip_opaque(end);
		end = next > end ? next : end + 1;
	}
	if (source[end] != ';')
		die(start, "a __shared__ declaration ends with ';'");
	d->text = calloc(end - start + 1, 1);
	if (!d->text)
		die(start, "out of memory");
	for (size_t i = start; i < end;) {
		size_t next = skip_opaque(i);
		for (; i < next; i++)
			d->text[i - start] = ' ';
		if (i < end) {
			d->text[i - start] = source[i];
			if (space_at(i) || source[i] == '\\')
				d->text[i - start] = ' ';
			i++;
		}
	}
	d->end = end - start;
	return end;
}

/* alignas(n) and __align__(n) go: every variable is aligned to 128 bytes. */
static void skip_alignment(const struct declaration *d, size_t *at, size_t line)
{
	static const char *const words[] = {"alignas", "__align__"};
	for (;;) {
		while (d->text[*at] == ' ')
			++*at;
		size_t word = 0;
		for (size_t w = 0; w < sizeof words / sizeof *words; w++)
			if (!strncmp(d->text + *at, words[w], strlen(words[w])))
				word = strlen(words[w]);
		if (!word)
			return;
		int depth = 0;
		*at += word;
		do {
			depth += d->text[*at] == '(';
			depth -= d->text[*at] == ')';
			if (!d->text[*at])
				die(line, "alignment without ')'");
			++*at;
		} while (depth > 0 || d->text[*at - 1] == ' ');
	}
}

static void split_declaration(struct declaration *d, size_t line, bool dynamic)
{
	size_t start = 0;
	skip_alignment(d, &start, line);
	int angle = 0, square = 0, round = 0;
	d->dims = d->end;
	for (size_t i = start; i < d->end; i++) {
		char c = d->text[i];
		if (c == '[' && !angle && !round && d->dims == d->end)
			d->dims = i;
		if (!square && !round) {
			angle += c == '<';
			angle -= c == '>';
		}
		square += c == '[';
		square -= c == ']';
		round += c == '(';
		round -= c == ')';
		if (c == ',' && !angle && !square && !round)
			die(line, "one variable per __shared__ declaration");
		if (c == '=' && !angle && !square)
			die(line, "a __shared__ variable has no initialiser");
		if ((c == '(' && !angle && !square) || c == '&')
			die(line, "this form of a __shared__ declaration is not known: write '__shared__ T name[d];'");
	}
	d->name_end = d->dims;
	while (d->name_end > start && d->text[d->name_end - 1] == ' ')
		d->name_end--;
	d->name = d->name_end;
	while (d->name > start && in_word(d->text[d->name - 1]))
		d->name--;
	d->type = start;
	d->type_end = d->name;
	while (d->type_end > start && d->text[d->type_end - 1] == ' ')
		d->type_end--;
	if (d->name == d->name_end || d->type == d->type_end || isdigit((unsigned char)d->text[d->name]))
		die(line, "this form of a __shared__ declaration is not known: write '__shared__ T name[d];'");
	if (!strncmp(d->text + d->type, "static ", 7) || !strncmp(d->text + d->type, "extern ", 7))
		die(line, "write 'extern __shared__ T name[];' or '__shared__ T name[d];', with nothing else before");
	if (dynamic && (d->dims == d->end || strspn(d->text + d->dims, "[ ]") < d->end - d->dims))
		die(line, "dynamic shared memory is 'extern __shared__ T name[];', without a size");
	if (!dynamic && d->dims < d->end && strspn(d->text + d->dims, "[ ]") == d->end - d->dims)
		die(line, "a __shared__ array without a size needs 'extern'");
}

/* Only '{', '}', ';', ':' or ')' (of an if or for), comments and preprocessor lines may stand before a declaration. */
static void check_before(size_t at)
{
	size_t i = at;
	while (i > 0 && (source[i - 1] == ' ' || source[i - 1] == '\t'))
		i--;
	if (i > 0 && !strchr("{};:)\n\\/", source[i - 1]))
		die(at, "write '__shared__ T name[d];' with nothing before '__shared__' in the statement");
}

static void rewrite_shared(size_t start, size_t after, bool dynamic)
{
	struct declaration d = {0};
	check_before(start);
	size_t end = declaration_text(after, &d);
	split_declaration(&d, start, dynamic);
	int type_length = (int)(d.type_end - d.type), name_length = (int)(d.name_end - d.name);
	int dims_length = (int)(d.end - d.dims);
	const char *type = d.text + d.type, *name = d.text + d.name, *dims = d.text + d.dims;
	if (dynamic)
		printf("%.*s *%.*s = (%.*s *)::hd_emu::shared_dynamic()", type_length, type, name_length, name,
		        type_length, type);
	else if (dims_length == 0)
		printf("static char %.*s_key; %.*s &%.*s = *(%.*s *)::hd_emu::shared_static(sizeof(%.*s), &%.*s_key)",
		        name_length, name, type_length, type, name_length, name, type_length, type, type_length, type,
		        name_length, name);
	else
		printf("static char %.*s_key; %.*s (&%.*s)%.*s = "
		       "*(%.*s (*)%.*s)::hd_emu::shared_static(sizeof(%.*s%.*s), &%.*s_key)",
		        name_length, name, type_length, type, name_length, name, dims_length, dims, type_length, type,
		        dims_length, dims, type_length, type, dims_length, dims, name_length, name);
	drop_to(end);
	free(d.text);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fputs("usage: rewrite INPUT >OUTPUT\n", stderr);
		return 2;
	}
	path = argv[1];
	read_source();
	printf("#line 1 \"%s\"\n", path);
	while (here < size) {
		size_t next = skip_opaque(here);
		if (next > here) {
			copy_to(next);
		} else if (!strncmp(source + here, "<<<", 3)) {
			rewrite_launch();
		} else if (word_at(here, "extern")) {
			size_t after = here + strlen("extern");
			while (space_at(after))
				after++;
			if (word_at(after, "__shared__"))
				rewrite_shared(here, after + strlen("__shared__"), true);
			else
				copy_to(here + strlen("extern"));
		} else if (word_at(here, "__shared__")) {
			rewrite_shared(here, here + strlen("__shared__"), false);
		} else {
			copy_to(here + 1);
		}
	}
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "%s: the rewritten source could not be written\n", path);
		return 1;
	}
	free(source);
	return 0;
}
