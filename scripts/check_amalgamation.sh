#!/bin/sh
# scripts/check_amalgamation.sh: makes fff.c and fff.h by scripts/amalgamate.py, compiles them with gcc and clang, warnings being
# errors, and checks what the build's library must keep, too: the recorded bits on each instruction set, also where the flags allow
# a compiler to fuse and the CPU's own instructions; the exports; no AVX outside the kernels for it, and no exports where an engine
# wants none. Flags that would change bits must be refused. Then for AArch64, in an emulator, where there are its compiler and packages.
set -eu
CDPATH='' cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset CFLAGS LD_LIBRARY_PATH
export FFF_ISA=
. scripts/functions.sh
scripts/amalgamate.py "$folder/build"
copy="$folder/build"

# compiled COMPILER FLAGS...: libfff.so and the program that compares bits.
compiled() {
    say "$*"
    # -Wundef -Wshadow and others are the build's; an engine's own are likely to be these.
    "$@" -Wall -Wextra -Werror -fPIC -shared -Wl,-Bsymbolic-functions "$copy/fff.c" -o "$copy/libfff.so" -lsleef -lm
    "$@" -Wall -Wextra -Werror -Itests -I. -Iinclude tests/fingerprint.c -o "$copy/fingerprint" -L"$copy" -lfff -lm
}
# What docs/embedding.md has for those whose other files are compiled with unsafe flags.
undone='-fno-fast-math -fno-unsafe-math-optimizations -fno-associative-math -fno-reciprocal-math -ffp-contract=on'
for flags in "gcc -ffp-contract=fast" "clang -funsafe-math-optimizations $undone"; do
    # shellcheck disable=SC2086 # a compiler and its flags
    compiled $flags -std=gnu17 -O2 -march=native
    LD_LIBRARY_PATH="$copy" "$copy/fingerprint" tests/data/fingerprint.txt
done
for compiler in "clang -freciprocal-math" gcc; do # a flag that the file takes back
    # shellcheck disable=SC2086
    compiled $compiler -std=c11 -O3
    LD_LIBRARY_PATH="$copy" "$copy/fingerprint" tests/data/fingerprint.txt
    scripts/check_library.sh "$copy"
done
# In an engine's own library, which is not to export it.
for compiler in gcc clang; do
    say "$compiler -DFFF_API= -fvisibility=hidden"
    $compiler -std=c11 -O0 -Wall -Wextra -Werror -fPIC -shared -DFFF_API= -fvisibility=hidden "$copy/fff.c" -o "$copy/hidden.so" -lsleef -lm
    exported=$(nm -D --defined-only "$copy/hidden.so")
    [ -z "$exported" ] || fail "exported: $exported"
done
refused() { # COMPILER FLAG...
    if "$@" -std=c11 -fsyntax-only "$copy/fff.c" 2>/dev/null; then
        fail "fff.c can be compiled by $*"
    fi
}
for compiler in gcc clang; do
    refused $compiler -ffast-math
    refused $compiler -ffinite-math-only
done
for flag in -funsafe-math-optimizations -freciprocal-math -fno-signed-zeros; do
    refused gcc $flag # clang does not tell the code
done
refused gcc -fassociative-math -fno-signed-zeros -fno-trapping-math
[ "$(uname -m)" != x86_64 ] || refused gcc -mfpmath=387
g++ -fsyntax-only "$copy/fff.c" 2>&1 | grep -q 'error: .*fff.c is C, not C++' || fail "g++ is not told that fff.c is C"
if [ "$(uname -m)" = x86_64 ] && [ -e /usr/lib/aarch64-linux-gnu/libsleef.so ] && command -v aarch64-linux-gnu-gcc qemu-aarch64 >/dev/null; then
    compiled aarch64-linux-gnu-gcc -std=gnu17 -O2 # which may fuse: the baseline has FMA
    qemu-aarch64 -cpu max -E LD_LIBRARY_PATH="$copy" "$copy/fingerprint" tests/data/fingerprint.txt
fi
say ok
