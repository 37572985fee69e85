/* SPDX-License-Identifier: MIT */
/*
 * A preload library works in what the dynamic loader starts: an ELF program of this machine's kind with an interpreter, or a
 * script whose interpreter is one. A static program would simply run without any limit, and so would one that gets other rights
 * when it is run, since the loader then ignores LD_PRELOAD: both are refused, because whoever asked for a limit relies on it.
 */
#include "tools/run_exe.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tools/say.h"

#define MAX_SCRIPTS 5 /* as the kernel has it */

#if defined(__x86_64__)
#define OUR_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OUR_MACHINE EM_AARCH64
#endif

static bool is_program(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

/* As execvp() searches. Return: an exit status, said. */
static int find(const char *program, char *ret, size_t bytes)
{
	const char *path = getenv("PATH"), *end;
	bool seen = false;

	if (strchr(program, '/')) {
		snprintf(ret, bytes, "%s", program);
		if (is_program(ret))
			return 0;
		say("%s cannot be run: %s", program, access(program, F_OK) ? strerror(errno) : "it is not an executable file");
		return access(program, F_OK) ? EXIT_NOT_FOUND : EXIT_NO_EXEC;
	}
	for (path = path ? path : "/bin:/usr/bin"; *program; path = end + 1) {
		end = strchrnul(path, ':');
		snprintf(ret, bytes, "%.*s%s%s", (int)(end - path), path, end > path ? "/" : "./", program);
		if (is_program(ret))
			return 0;
		seen |= !access(ret, F_OK);
		if (!*end)
			break;
	}
	say("%s cannot be run: %s", program, seen ? "what is found under this name is not an executable file" :
						    "there is no such program");
	return seen ? EXIT_NO_EXEC : EXIT_NOT_FOUND;
}

static int refuse(const char *path, const char *why)
{
	say("%s %s, so the limit could not be kept: it is not run", path, why);
	return EXIT_NOT_RUN;
}

static int check_rights(const char *path)
{
	struct stat st;

	if (stat(path, &st)) {
		say("%s cannot be run: %s", path, strerror(errno));
		return EXIT_NO_EXEC;
	}
	if ((st.st_mode & S_ISUID && st.st_uid != geteuid()) || (st.st_mode & S_ISGID && st.st_gid != getegid()))
		return refuse(path, "is a setuid or setgid program, which ignores preload libraries");
	if (geteuid() && getxattr(path, "security.capability", NULL, 0) > 0)
		return refuse(path, "has file capabilities, and so ignores preload libraries");
	return 0;
}

static int check_elf(const char *path, const Elf64_Ehdr *e, int fd)
{
	if (e->e_ident[EI_CLASS] != ELFCLASS64 || e->e_machine != OUR_MACHINE)
		return refuse(path, "is a program for another kind of machine than this uhmm");
	for (unsigned i = 0; i < e->e_phnum; i++) {
		Elf64_Phdr p;

		if (pread(fd, &p, sizeof(p), (off_t)(e->e_phoff + i * (uint64_t)e->e_phentsize)) != sizeof(p))
			break;
		if (p.p_type == PT_INTERP)
			return 0;
	}
	return refuse(path, "is statically linked, and loads no preload library");
}

/* "#! interpreter argument". Return: the interpreter, within @line; NULL when there is none. */
static char *interpreter(char *line)
{
	char *at = line + 2 + strspn(line + 2, " \t");

	at[strcspn(at, " \t\n")] = '\0';
	return *at ? at : NULL;
}

static int check(const char *path, unsigned depth)
{
	union {
		Elf64_Ehdr elf;
		char line[PATH_MAX];
	} head = { .line = "" };
	int fd, r = check_rights(path);

	if (r)
		return r;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0; /* may be run but not read: the loader will do what it can */
	if (read(fd, &head, sizeof(head) - 1) < 0)
		head.line[0] = '\0';
	head.line[sizeof(head) - 1] = '\0';
	if (!memcmp(head.elf.e_ident, ELFMAG, SELFMAG))
		r = check_elf(path, &head.elf, fd);
	else if (!strncmp(head.line, "#!", 2) && depth < MAX_SCRIPTS && (path = interpreter(head.line)))
		r = check(path, depth + 1);
	close(fd);
	return r;
}

int run_exe_check(const char *program, char *ret_path, size_t bytes)
{
	int r = find(program, ret_path, bytes);

	return r ? r : check(ret_path, 0);
}
