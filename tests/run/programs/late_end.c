/* SPDX-License-Identifier: MIT */
/* With -DLIBRARY a library that takes its time when the process ends; else a program that has 128 MiB. */
#include <stdlib.h>
#include <unistd.h>

#ifdef LIBRARY
__attribute__((destructor)) static void take_time(void)
{
	usleep(100000);
}
#else
int main(void)
{
	const size_t bytes = 128 << 20;
	unsigned char *mem = malloc(bytes);

	if (!mem)
		return 1;
	for (size_t i = 0; i < bytes; i++)
		mem[i] = (unsigned char)(i >> 12);
	for (size_t i = 0; i < bytes; i += 512)
		if (mem[i] != (unsigned char)(i >> 12))
			return 2;
	return 0;
}
#endif
