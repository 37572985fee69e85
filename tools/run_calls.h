/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_RUN_CALLS_H
#define TOOLS_RUN_CALLS_H

/* Shall large anonymous mappings be advised to be huge? */
void run_calls_advise_huge(int on);

#endif
