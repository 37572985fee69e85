#!/bin/sh
# SPDX-License-Identifier: MIT
#
# linux-selftest.sh [RUNS]: Linux's own HMM selftest, as it is, on `uhmm dmirror`.
#
# Takes the distribution's kernel source package, builds hmm-tests from it, and runs it RUNS times (1). Nothing of that source
# is kept but under build/. $UHMM names the command (build/tools/uhmm), $LINUX_SOURCE an unpacked kernel tree to use instead.
# The last line counts cases (those that are skipped once only): "N passed, N failed, N skipped". Exit status 0, 1, or 77 when the source cannot be had.
set -u
cd "$(dirname "$0")/.." || exit 1
runs=${1:-1}
uhmm=${UHMM:-build/tools/uhmm}
work=build/linux-selftest
package=${LINUX_PACKAGE:-linux-source-6.12}

case $runs in ''|*[!0-9]*|0) echo "linux-selftest.sh: the number of runs must be a number from 1, not \"$runs\""; exit 2 ;; esac
[ -x "$uhmm" ] || { echo "linux-selftest.sh: there is no $uhmm; \"make\" builds it"; exit 1; }
mkdir -p "$work" || exit 1

skip() { echo "skipped: $*"; echo '0 passed, 0 failed, 1 skipped'; exit 77; }

fetch() {
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
        skip "no apt here; set LINUX_SOURCE to an unpacked kernel source that has tools/testing/selftests/mm/hmm-tests.c"
    command -v xz >/dev/null || skip 'xz is missing (Debian: xz-utils)'
    (cd "$work" && rm -f ./*.deb && apt-get download "$package") >"$work/fetch.log" 2>&1 ||
        skip "the package $package cannot be downloaded: $(tail -n 1 "$work/fetch.log")"
    dpkg-deb --fsys-tarfile "$work"/*.deb | tar -xO --wildcards "*/$package.tar.xz" |
        tar -xJ -C "$work" --strip-components=1 --wildcards '*/tools/testing/selftests/kselftest*.h' \
            '*/tools/testing/selftests/mm/hmm-tests.c' '*/lib/test_hmm_uapi.h' '*/mm/gup_test.h' ||
        skip "the package $package cannot be unpacked"
    rm -f "$work"/*.deb
}

tree=${LINUX_SOURCE:-$work}
tests=$tree/tools/testing/selftests/mm/hmm-tests.c
[ -f "$tests" ] || fetch
${CC:-cc} -O2 -w -I"$tree/tools/testing/selftests" -I"$tree" "$tests" -o "$work/hmm-tests" -lpthread || {
    echo "linux-selftest.sh: $tests cannot be built"
    exit 1
}

# A kernel that was started without a zero page gives a reader a page of its own: the case that looks for one cannot pass.
zero_page() {
    cat >"$work/zero.c" <<'C'
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>
int main(void)
{
	volatile char *mem = mmap(0, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t word[2] = { 0 };
	int fd = open("/proc/self/pagemap", O_RDONLY);

	(void)mem[0];
	(void)mem[4096];
	if (pread(fd, word, sizeof(word), (long)mem / 4096 * 8) != sizeof(word) || !(word[0] << 9))
		return 0; /* not to be told: let the case decide */
	return word[0] << 9 != word[1] << 9;
}
C
    ${CC:-cc} -w "$work/zero.c" -o "$work/zero" && "$work/zero"
}
excused=''
zero_page || excused='hmm2_device_private.snapshot'

passed=0 failed=0 skipped=0
for run in $(seq "$runs"); do
    "$uhmm" dmirror -- "$work/hmm-tests" >"$work/run.log" 2>&1
    grep -q '^# Totals:' "$work/run.log" || { tail -n 20 "$work/run.log"; failed=$((failed + 1)); continue; }
    while read -r line; do
        case $line in
        'ok '*'# SKIP'*) [ "$run" = 1 ] && { skipped=$((skipped + 1)); echo "${line#ok * }"; } ;;
        'ok '*)          passed=$((passed + 1)) ;;
        'not ok '*)
            if [ -n "$excused" ] && case $line in *"$excused") true ;; *) false ;; esac; then
                [ "$run" = 1 ] && { skipped=$((skipped + 1)); echo "${line#not ok * } # SKIP this kernel has no zero page"; }
            else
                failed=$((failed + 1))
                echo "run $run: $line"
                grep -B 4 "^$line" "$work/run.log"
            fi ;;
        esac
    done <<L
$(grep -E '^(not )?ok ' "$work/run.log")
L
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
