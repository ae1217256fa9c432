#!/bin/sh
# Whether the library's sources need nothing that macOS lacks: clang compiles them for AArch64 or x86-64 Macs, against
# headers that declare a part of what macOS has (tests/darwin/include), and what the objects call beyond each other is one of
# these, a function of SLEEF or of the compiler's runtime. Neither linked nor run: that takes a Mac. Ends with 77 without clang, or
# without SLEEF's header for that architecture.
#
#   scripts/check_darwin.sh arm64|x86_64
set -eu
CDPATH='' cd "$(dirname "$0")/.."
for needed in clang llvm-nm; do
    command -v $needed >/dev/null 2>&1 || { echo "$needed is missing" && exit 77; }
done
case "${1:-}" in
arm64) target=arm64-apple-macos11 arm=1 cpu=aarch64 isas='arm_neon' ;;
x86_64) target=x86_64-apple-macos11 arm=0 cpu=x86_64 isas='x86_avx2 x86_avx512' ;;
*) echo "usage: scripts/check_darwin.sh arm64|x86_64" >&2 && exit 2 ;;
esac
sleef=/usr/include/$cpu-linux-gnu/sleef.h # which differs by architecture
[ -f "$sleef" ] || { echo "$sleef (libsleef-dev) is missing" && exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/include"
cp "$sleef" "$folder/include"

# flags ISA: what its folder's meson.build gives.
flags() {
    case "$1" in
    x86_avx2) echo -mavx2 -mfma -mf16c ;;
    x86_avx512) echo -mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma -mf16c ;;
    esac
}
# variant ISA: the flag of what only some of its CPUs have, which files named for it take.
variant() {
    case "$1" in
    x86_avx2) echo -mavxvnni ;;
    x86_avx512) echo -mavx512vnni ;;
    arm_neon) echo -march=armv8.2-a+dotprod ;;
    esac
}

objects="$folder/objects"
mkdir "$objects"
cat >"$folder/include/config.h" <<END
#define FFF_VERSION_TEXT "0"
#define FFF_SLEEF_VERSION_TEXT "0"
#define FFF_ARCH_X86_64 $((1 - arm))
#define FFF_ARCH_ARM64 $arm
#define FFF_BUILT_X86_AVX2 $((1 - arm))
#define FFF_BUILT_X86_AVX512 $((1 - arm))
#define FFF_BUILT_ARM_NEON $arm
END
for source in layer/*.c dispatch/*.c kernels/generic/*.c $(for isa in $isas; do echo kernels/"$isa"/*.c; done); do
    case "$source" in
    layer/system_windows.c) continue ;;
    *_vnni.c | *_dotprod.c) more=$(variant "$(basename "$(dirname "$source")")") ;;
    *) more='' ;;
    esac
    # shellcheck disable=SC2046,SC2086 # lists of flags
    clang --target=$target -nostdlibinc -isystem tests/darwin/include -isystem "$folder/include" -I. -Iinclude -std=c11 -O1 \
        -fno-fast-math -ffp-contract=off -fvisibility=hidden -Wall -Wextra -Wstrict-prototypes -Werror -DFFF_BUILD \
        $(flags "$(basename "$(dirname "$source")")") $more -c "$source" -o "$objects/$(echo "$source" | tr / _).o"
done
# not in a pipe, where a failure would not be seen
llvm-nm --undefined-only --just-symbol-name "$objects"/*.o >"$folder/undefined"
llvm-nm --defined-only --extern-only --just-symbol-name "$objects"/*.o >"$folder/defined"
for list in undefined defined; do
    grep -q '^_' "$folder/$list" || { echo "$target: llvm-nm names no $list symbols" >&2 && exit 1; }
done
grep '^_' "$folder/undefined" | sort -u >"$folder/wanted"
grep '^_' "$folder/defined" | sort -u >"$folder/made"
# what the headers declare, and what the compiler calls of its own accord
{
    sed -nE 's/^[a-z].*[ *]([a-z_0-9]+)\(.*\);$/_\1/p' tests/darwin/include/*.h tests/darwin/include/sys/*.h
    printf "%s\n" ___cpu_model ___cpu_indicator_init ___stack_chk_fail ___stack_chk_guard ___cpu_features2 _bzero ___bzero
    for length in 4 8 16; do echo "_memset_pattern$length"; done
} | sort -u >"$folder/there"
foreign=$(comm -23 "$folder/wanted" "$folder/made" | comm -23 - "$folder/there" | grep -v '^_Sleef_' || true)
if [ -n "$foreign" ]; then
    echo "$target: not known to be there: $foreign" >&2
    exit 1
fi
echo "$target: $(find "$objects" -name '*.o' | wc -l) files compiled; they call $(comm -23 "$folder/wanted" "$folder/made" | wc -l) functions of others"
