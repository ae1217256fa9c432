#!/bin/sh
# scripts/check_amalgamation.sh: makes fff.c and fff.h by scripts/amalgamate.py, compiles them with gcc and clang, warnings being
# errors, and checks what the build's library must keep, too: the recorded bits on each instruction set, also where the flags allow
# a compiler to fuse or the CPU's own instructions; the exports; no AVX outside the kernels for it. Then for AArch64, in an
# emulator, where there are its compiler and packages.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset CFLAGS LD_LIBRARY_PATH
export FFF_ISA=
say() { echo "== $*"; }
fail() { echo "$*" >&2 && exit 1; }
scripts/amalgamate.py "$folder/build"
copy="$folder/build"

# compiled COMPILER FLAGS...: libfff.so and the program that compares bits.
compiled() {
    say "$*"
    # -Wundef -Wshadow and others are the build's; an engine's own are likely to be these.
    "$@" -Wall -Wextra -Werror -fPIC -shared "$copy/fff.c" -o "$copy/libfff.so" -lsleef -lm
    "$@" -Wall -Wextra -Werror -Itests -I. -Iinclude tests/fingerprint.c -o "$copy/fingerprint" -L"$copy" -lfff -lm
}
if [ "$(uname -m)" = x86_64 ] && grep -q '^flags.* avx2 .* avx512vl' /proc/cpuinfo; then
    compiled gcc -std=gnu17 -O2 -march=haswell
    LD_LIBRARY_PATH="$copy" "$copy/fingerprint" tests/data/fingerprint.txt
fi
for compiler in clang gcc; do
    compiled $compiler -std=c11 -O3
    LD_LIBRARY_PATH="$copy" "$copy/fingerprint" tests/data/fingerprint.txt
    scripts/check_library.sh "$copy"
done
if $compiler -std=c11 -ffast-math -fsyntax-only "$copy/fff.c" 2>/dev/null; then
    fail "fff.c can be compiled with -ffast-math"
fi
if [ "$(uname -m)" = x86_64 ] && [ -e /usr/lib/aarch64-linux-gnu/libsleef.so ] && command -v aarch64-linux-gnu-gcc qemu-aarch64 >/dev/null; then
    compiled aarch64-linux-gnu-gcc -std=gnu17 -O2 # which may fuse: the baseline has FMA
    qemu-aarch64 -cpu max -E LD_LIBRARY_PATH="$copy" "$copy/fingerprint" tests/data/fingerprint.txt
fi
say ok
