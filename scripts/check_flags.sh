#!/bin/sh
# scripts/check_flags.sh [COMPILER...]: the build with a builder's CFLAGS that allow a compiler all that would change bits, and the
# CPU's own instructions: each instruction set must have the recorded bits. gcc and clang unless told; half a minute each.
set -eu
CDPATH='' cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
log="$folder/log"
. scripts/functions.sh
flags='-march=native -ffast-math -fassociative-math -freciprocal-math -fno-signed-zeros -ffinite-math-only -ffp-contract=fast'
[ $# -gt 0 ] || set -- gcc clang
for compiler; do
    echo "== $compiler $flags"
    CC="$compiler" CFLAGS="$flags" quietly meson setup "$folder/$compiler" -Dbench=disabled -Dtools=disabled -Dtests=disabled
    quietly ninja -C "$folder/$compiler"
    # What computes the inputs is compiled as it stands.
    quietly "$compiler" -std=c11 -O2 -Itests -I. -Iinclude tests/fingerprint.c -o "$folder/fingerprint" -L"$folder/$compiler" -lfff -lm
    FFF_ISA='' LD_LIBRARY_PATH="$folder/$compiler" "$folder/fingerprint" tests/data/fingerprint.txt
done
