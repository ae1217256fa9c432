#!/bin/sh
# scripts/lint.sh cppcheck|clang-tidy: static analysis of the sources that are compiled on this machine.
set -eu
cd "$(dirname "$0")/.."
folder=build-clang # where the compilation database is one that clang understands
test -f $folder/build.ninja || CC=clang meson setup $folder >/dev/null
ninja -C $folder --quiet build.ninja
sources=$(git ls-files 'layer/*.c' 'dispatch/*.c' 'kernels/generic/*.c' 'kernels/x86_*/*.c' 'bert/*.c' 'tools/*.c')
case "${1:-}" in
cppcheck)
    # shellcheck disable=SC2086
    cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 --enable=warning,performance,portability \
        -I . -I include -I $folder $sources
    ;;
clang-tidy)
    # The compilation database knows each file's flags; .clang-tidy holds the checks and the reasons for
    # those left out.
    # shellcheck disable=SC2086
    clang-tidy --quiet -p $folder $sources 2>/dev/null
    ;;
*)
    echo "usage: scripts/lint.sh cppcheck|clang-tidy" >&2
    exit 2
    ;;
esac
