#!/bin/sh
# scripts/lint.sh cppcheck|clang-tidy: static analysis of the native build's sources.
set -eu
cd "$(dirname "$0")/.."
test -f build/build.ninja || meson setup build >/dev/null
sources=$(git ls-files 'layer/*.c' 'dispatch/*.c' 'kernels/generic/*.c' 'kernels/x86_*/*.c' 'bert/*.c' 'tools/*.c')
case "${1:-}" in
cppcheck)
    # unusedStructMember: public fields that only callers set.
    # shellcheck disable=SC2086
    cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 --enable=warning,performance,portability \
        -I . -I include -I build $sources
    ;;
clang-tidy)
    # The compilation database knows each file's flags; .clang-tidy holds the checks and the reasons for
    # those left out.
    # shellcheck disable=SC2086
    clang-tidy --quiet -p build $sources 2>/dev/null
    ;;
*)
    echo "usage: scripts/lint.sh cppcheck|clang-tidy" >&2
    exit 2
    ;;
esac
