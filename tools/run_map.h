/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_RUN_MAP_H
#define TOOLS_RUN_MAP_H

#include "tools/run_share.h"

/* Where the blocks of this process live, written to its slot. Context: one thread, neither the policy's nor one that holds a lock. */
void run_map_make(struct run_share *s);

#endif
