#!/bin/sh
# scripts/lint.sh cppcheck|clang-tidy: static analysis of the sources of the library, bert and the tools that are compiled on this
# machine; not of tests, benchmarks and examples.
set -eu
CDPATH='' cd "$(dirname "$0")/.."
folder=build-clang # where the compilation database is one that clang understands
test -f $folder/build.ninja || CC=clang meson setup $folder >/dev/null
ninja -C $folder --quiet build.ninja
sources=$(git ls-files 'layer/*.c' 'dispatch/*.c' 'kernels/generic/*.c' 'kernels/x86_*/*.c' 'bert/*.c' 'tools/*.c' |
    grep -v '_windows\.c$')
case "${1:-}" in
cppcheck)
    # shellcheck disable=SC2086
    cppcheck -j "$(nproc)" --quiet --error-exitcode=1 --inline-suppr --std=c11 --enable=warning,performance,portability \
        -I . -I include -I $folder $sources
    ;;
clang-tidy)
    # The compilation database knows each file's flags; .clang-tidy holds the checks and the reasons for
    # those left out.
    # Each file alone, as many at a time as there are cores; what it says of one comes together.
    # shellcheck disable=SC2016,SC2086 # $0 and $1 are the inner shell's; the list is meant to be split
    printf '%s\n' $sources | xargs -P "$(nproc)" -n 1 sh -c \
        'said=$(clang-tidy --quiet -p "$0" "$1" 2>/dev/null) || { printf "%s\n" "$said" && exit 1; }' $folder
    ;;
*)
    echo "usage: scripts/lint.sh cppcheck|clang-tidy" >&2
    exit 2
    ;;
esac
