/* SPDX-License-Identifier: MIT */
/* Reads and writes one by one, and what their answers mean. */
#include <errno.h>
#include <unistd.h>

#include "drivers/file/file.h"

int io_account(struct io *io, int64_t r, bool out)
{
	if (r == -EINTR || r == -EAGAIN)
		return 0;
	if (r < 0)
		return (int)r;
	if (!r)
		return out ? -EIO : -ENOSPC; /* somebody has cut the file short; or the end of the device */
	io->done += (uint32_t)r;
	return 0;
}

int plain_io(int fd, struct io *io, bool out)
{
	int r = 0;

	while (!r && io->done < io->bytes) {
		off_t at = (off_t)(io->offset + io->done);
		ssize_t n = out ? pread(fd, io->host + io->done, io->bytes - io->done, at)
				: pwrite(fd, io->host + io->done, io->bytes - io->done, at);

		r = io_account(io, n < 0 ? -errno : n, out);
	}
	return r;
}
