#!/bin/sh
# Checks what a build exports and contains.
#
#   scripts/check_library.sh BUILD
#
# 1. The shared library exports fff_ symbols and nothing else.
# 2. It calls its own functions directly (-Bsymbolic-functions), as the Python package's copy does, if there is one: another copy in
#    the process, which a program was linked with, is not called with this one's layers.
# 3. No instruction of AVX or later (a VEX or EVEX encoding, which a CPU without it dies of) lies outside
#    the functions named *_x86_avx2 and *_x86_avx512: those of kernels/x86_* in the linked library, where link-time
#    optimisation may have moved code about; and a few of the soak's in the other object files, where these are still
#    machine code. The benchmarks' own loops, which measure what a core can do, are not looked at.
set -eu
build="$1"
library="$build/libfff.so"
failed=0

foreign=$(nm -D --defined-only "$library" | awk '$3 !~ /^fff_/ { print $3 }')
if [ -n "$foreign" ]; then
    echo "exported, but not fff_: $foreign" >&2
    failed=1
fi
count=$(nm -D --defined-only "$library" | wc -l)
echo "$library exports $count symbols, all fff_"
if [ "$count" -eq 0 ]; then
    failed=1
fi
# The soname promises that whatever was exported still is. What is new is written into the list.
if ! nm -D --defined-only "$library" | awk '{ print $3 }' | LC_ALL=C sort | diff tests/data/exports.txt - >&2; then
    echo "the exports are not those of tests/data/exports.txt: '<' are gone and need a new soname, '>' are new" >&2
    failed=1
fi

for copy in "$library" "$build/python/_libfff.so"; do
    [ -f "$copy" ] || continue
    through=$(readelf -rW "$copy" | awk '$5 ~ /^fff_/ { print $5 }')
    if [ -n "$through" ]; then
        echo "$copy calls by way of the program: $through" >&2
        failed=1
    fi
done

NAMED='_x86_avx(2|512)([.]|$)'

# Prints the functions that hold an instruction whose mnemonic begins with v (verr and verw, the only
# others on x86, are none that a compiler emits) or that names a ymm, zmm or mask register.
functions_with_avx() {
    objdump -d --no-show-raw-insn "$1" | awk '
        /^[0-9a-f]+ <.*>:$/ { name = $2; gsub(/[<>:]/, "", name) }
        /^ +[0-9a-f]+:/ && ($2 ~ /^v/ || /%[yz]mm|%k[0-7]/) { found[name] = 1 }
        END { for (name in found) print name }'
}

case "$(objdump -f "$library")" in
*x86-64*)
    inside=$(functions_with_avx "$library" | grep -cE "$NAMED" || true)
    outside=$(functions_with_avx "$library" | grep -vE "$NAMED" || true)
    if [ -n "$outside" ]; then
        echo "AVX instructions in: $outside" >&2
        failed=1
    fi
    echo "$library: AVX instructions in $inside functions, all of kernels/x86_*"
    if [ "$inside" -eq 0 ]; then
        echo "no AVX instruction at all: this check, or the build, is broken" >&2
        failed=1
    fi
    for object in $(find "$build" -name '*.o' -not -path '*/libkernels_x86_*' -not -path '*/fff_bench*' \
        -not -path '*/libfake_sleef*'); do
        outside=$(functions_with_avx "$object" | grep -vE "$NAMED" || true)
        if [ -n "$outside" ]; then
            echo "AVX instructions in $object: $outside" >&2
            failed=1
        fi
    done
    ;;
esac
exit $failed
