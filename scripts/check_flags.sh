#!/bin/sh
# scripts/check_flags.sh [COMPILER...]: the build with a builder's CFLAGS that allow a compiler all that would change bits, and the
# CPU's own instructions: each instruction set must have the recorded bits. gcc and clang unless told; half a minute each. Then, on
# x86-64, with -masm=intel, which reads inline assembly otherwise: gcc alone, since clang's own cpuid.h does not compile so.
set -eu
CDPATH='' cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
log="$folder/log"
. scripts/functions.sh

# keeps_bits COMPILER FLAGS
keeps_bits() {
    echo "== $1 $2"
    rm -rf "$folder/build"
    CC="$1" CFLAGS="$2" quietly meson setup "$folder/build" -Dbench=disabled -Dtools=disabled -Dtests=disabled
    quietly ninja -C "$folder/build"
    # What computes the inputs is compiled as it stands.
    quietly "$1" -std=c11 -O2 -Itests -I. -Iinclude tests/fingerprint.c -o "$folder/fingerprint" -L"$folder/build" -lfff -lm
    FFF_ISA='' LD_LIBRARY_PATH="$folder/build" "$folder/fingerprint" tests/data/fingerprint.txt
}

[ $# -gt 0 ] || set -- gcc clang
for compiler; do
    keeps_bits "$compiler" \
        '-march=native -ffast-math -fassociative-math -freciprocal-math -fno-signed-zeros -ffinite-math-only -ffp-contract=fast'
    case "$(uname -m) $("$compiler" --version)" in
    *clang*) ;;
    x86_64*) keeps_bits "$compiler" -masm=intel ;;
    esac
done
