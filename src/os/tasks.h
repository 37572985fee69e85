/* SPDX-License-Identifier: MIT */
#ifndef OS_TASKS_H
#define OS_TASKS_H

/*
 * Where the kernel writes when a thread of this process ends: the word that pthread_join() waits for. That one write is not
 * served by userfaultfd (the thread is past the point where it could wait), so if the page is away it is lost, and who
 * joins the thread waits for ever. The word lies beside the head of the thread's list of robust mutexes in glibc's control
 * block, and that address the kernel tells.
 */

#include <stdint.h>

int tasks_open(int *ret_fd);
void tasks_close(int fd);

/*
 * Writes the addresses of words of control blocks that lie in [start, end) to @ret: at least one for each page that the
 * kernel may write to. Threads of the library are left out where that saves looking: their stacks are memory of our own.
 * A thread that starts meanwhile may be missing.
 *
 * Return: how many; -ENOMEM when there are more than @max; -errno.
 * Context: any thread, one at a time with one @fd, whose position it uses; no heap. 1 us, and 3 us a thread in a process that has threads of its own.
 */
int tasks_control_words(int fd, uint64_t start, uint64_t end, uint64_t *ret, unsigned max);

#endif
