/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "tools/doctor.h"
#include "tools/sys.h"

static const char mend_kernel[] = "boot Linux 6.8 or newer, built with CONFIG_USERFAULTFD=y";
static const char mend_privilege[] = "sysctl -w vm.unprivileged_userfaultfd=1 as root; or give this user read and write "
				     "permission on /dev/userfaultfd; or run with CAP_SYS_PTRACE";

/* Whether it is the user who may not, not the kernel that cannot. */
static bool refused(const struct uhmm_probe *p)
{
	return p->uffd_errno == EPERM || p->uffd_errno == EACCES;
}

static void check_release(struct report *rep)
{
	bool can = !rep->probe.uffd_errno || refused(&rep->probe);
	struct utsname u = { 0 };

	uname(&u);
	report_add(rep, can ? FOUND_OK : FOUND_MISSING, "kernel", mend_kernel, "%s %s, %s", u.sysname, u.release, u.machine);
}

static void check_userfaultfd(struct report *rep)
{
	const struct uhmm_probe *p = &rep->probe;

	if (!p->uffd_errno)
		report_add(rep, FOUND_OK, "userfaultfd", NULL, "full, by %s",
			   strcmp(p->uffd_path, "syscall") ? p->uffd_path : "its system call");
	else if (!p->uffd_user_errno)
		report_add(rep, FOUND_DEGRADED, "userfaultfd", mend_privilege,
			   "user-mode only (%s): system calls on memory that is away fail with EFAULT",
			   strerror(p->uffd_errno));
	else
		report_add(rep, FOUND_MISSING, "userfaultfd", refused(p) ? mend_privilege : mend_kernel,
			   "none that uhmm can use (%s)", strerror(p->uffd_errno));
}

static void check_device_node(struct report *rep)
{
	bool can_do_without = !refused(&rep->probe);

	if (!access("/dev/userfaultfd", R_OK | W_OK))
		report_add(rep, FOUND_OK, "/dev/userfaultfd", NULL, "readable and writable");
	else
		report_add(rep, can_do_without ? FOUND_OK : FOUND_DEGRADED, "/dev/userfaultfd",
			   "setfacl -m u:$USER:rw /dev/userfaultfd as root gives a full userfaultfd to one user", "%s%s",
			   strerror(errno), can_do_without ? ", and not needed" : "");
}

static void check_sysctl(struct report *rep)
{
	char line[32];

	if (sys_line("/proc/sys/vm/unprivileged_userfaultfd", line, sizeof(line)))
		report_add(rep, FOUND_DEGRADED, "unprivileged_userfaultfd", mend_kernel, "not there");
	else
		report_add(rep, refused(&rep->probe) ? FOUND_DEGRADED : FOUND_OK, "unprivileged_userfaultfd",
			   "sysctl -w vm.unprivileged_userfaultfd=1 as root", "%s%s", line,
			   strcmp(line, "1") && !rep->probe.uffd_errno ? ", and not needed by this user" : "");
}

struct feature {
	const char *name;
	bool has;
	enum finding_state without;
	const char *what_for;
	const char *mend;
};

static void check_features(struct report *rep)
{
	const struct uhmm_probe *p = &rep->probe;
	const struct feature features[] = {
		{ "UFFDIO_MOVE", p->has_move, FOUND_MISSING, "takes a whole 2 MiB page out of and into a program",
		  mend_kernel },
		{ "userfaultfd events", p->has_events, FOUND_MISSING, "tell of munmap, mremap and discards", mend_kernel },
		{ "userfaultfd fork event", p->has_fork_event, FOUND_OK,
		  "tells of a fork (not needed: before a fork everything comes home)", NULL },
		{ "UFFDIO_POISON", p->has_poison, FOUND_DEGRADED, "gives SIGBUS for a page that a device lost",
		  "boot Linux 6.6 or newer" },
		{ "PAGEMAP_SCAN", p->has_pagemap_scan, FOUND_MISSING, "finds huge pages and holes quickly",
		  "boot Linux 6.7 or newer, built with CONFIG_PROC_PAGE_MONITOR=y, and mount /proc" },
		{ "PROCMAP_QUERY", p->has_procmap_query, FOUND_DEGRADED,
		  "finds one mapping; without it all of /proc/self/maps is read", "boot Linux 6.11 or newer" },
		{ "page-table reclaim", p->has_pt_reclaim, FOUND_DEGRADED,
		  "keeps huge pages huge on their way home in more cases",
		  "boot Linux 6.14 or newer, built with CONFIG_PT_RECLAIM=y" },
	};

	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++)
		report_add(rep, features[i].has ? FOUND_OK : features[i].without, features[i].name, features[i].mend, "%s%s",
			   features[i].has ? "" : "not there: ", features[i].what_for);
}

void doctor_kernel(struct report *rep)
{
	check_release(rep);
	check_userfaultfd(rep);
	check_device_node(rep);
	check_sysctl(rep);
	if (!rep->probe.uffd_errno || !rep->probe.uffd_user_errno)
		check_features(rep);
}
