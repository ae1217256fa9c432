#!/bin/sh
# scripts/engines/ggml.sh BUILD: builds ggml and examples/ggml/ with it, and runs the tests of FFF nodes in ggml graphs;
# again under the thread sanitizer. BUILD is a meson build folder that holds libfff.so.
#
# ggml comes from the source archive of ggml-python on PyPI (3 MB). It is built into build-engines/ggml/, once for each
# kind of CPU: about a minute for each of two builds on one core. FFF_BENCH_ROUNDS=11 gives the benchmark as many rounds
# as the README's figures had. Exits 77 if something is missing that it may not, or cannot, fetch.
set -eu
CDPATH='' cd "$(dirname "$0")/../.."
build="${1:?usage: scripts/engines/ggml.sh BUILD}"
build=$(cd "$build" && pwd)
test -f "$build/libfff.so" || { echo "ggml: $build holds no libfff.so" >&2; exit 1; }
package=ggml-python version=0.0.45
sum=10aac52075cf3c7ef2b00d6c35b1c23f7b018dbeff8ae8df67339b4be1166f05
cache="$PWD/build-engines/ggml"
mkdir -p "$cache"
engine=ggml log="$cache/log"
. scripts/engine.sh
need_packages

# program NAME COMMAND...: a program that prints such lines itself; one more if it dies without.
program() {
    name="$1" status=0
    shift
    "$@" >"$cache/log" 2>&1 || status=$?
    if [ "$status" -ne 0 ]; then
        failed=1
        grep -q '^  FAILED' "$cache/log" || echo "  FAILED  ggml: $name ended with status $status"
    fi
    sed '/^  /!s/^/    | /' "$cache/log" # what is no such line is indented
}

# ---- ggml ----

mkdir -p "$cache"
source="$cache/ggml_python-$version/vendor/ggml"
if [ ! -f "$source/CMakeLists.txt" ]; then
    archive="$cache/ggml_python-$version.tar.gz"
    # pip asks a source archive for its metadata, and installs what that takes (scikit-build-core) in a folder of its own.
    if [ ! -f "$archive" ] && ! python3 -m pip download --quiet --disable-pip-version-check --no-deps \
        --no-binary "$package" --dest "$cache" "$package==$version" >"$cache/log" 2>&1; then
        tail -n 20 "$cache/log" >&2
        echo "ggml: pip cannot fetch $package $version" >&2
        exit 77
    fi
    if ! echo "$sum  $archive" | sha256sum --check --status; then
        rm -f "$archive"
        echo "ggml: $package $version is not the archive that it was" >&2
        exit 1
    fi
    tar -xzf "$archive" -C "$cache"
fi

# ggml is built for the CPU at hand, as its users do: a cache that is moved to another is of no use there.
kind=$(grep -m 1 -E '^(flags|Features)' /proc/cpuinfo | cksum | cut -d ' ' -f 1)

# build_ggml FOLDER OPTIONS...
build_ggml() {
    folder="$1"
    shift
    [ -f "$folder/done" ] && return
    cmake -S "$source" -B "$folder" -G Ninja -DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++ \
        -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_OPENMP=OFF -DGGML_LLAMAFILE=ON -DGGML_CCACHE=OFF \
        -DGGML_BUILD_TESTS=OFF -DGGML_BUILD_EXAMPLES=OFF "$@" &&
        ninja -C "$folder" ggml ggml-cpu ggml-base &&
        touch "$folder/done"
}

plain="$cache/plain-$version-$kind" tsan="$cache/tsan-$version-$kind"
check "ggml builds" build_ggml "$plain"
# Without what only dense products use: nothing that runs under the sanitizer has one.
check "ggml builds with the thread sanitizer" build_ggml "$tsan" -DGGML_SANITIZE_THREAD=ON -DGGML_LLAMAFILE=OFF \
    -DGGML_CPU_REPACK=OFF -DCMAKE_C_FLAGS_RELEASE=-O1 -DCMAKE_CXX_FLAGS_RELEASE=-O1

# A libfff with the thread sanitizer, so that it sees the tasks' accesses too.
build_fff() {
    if [ ! -f "$cache/fff-tsan/build.ninja" ]; then
        meson setup "$cache/fff-tsan" -Db_sanitize=thread -Dbuildtype=debugoptimized -Dtools=disabled -Dtests=disabled \
            -Dbench=disabled || return
    fi
    ninja -C "$cache/fff-tsan"
}
check "libfff builds with the thread sanitizer" build_fff

# ---- The example ----

warnings='-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes -Wmissing-prototypes
    -Wundef -Wvla -Wcast-align -Werror'

# compile PROGRAM GGML FFF OPTIONS...: $cache/PROGRAM, of examples/ggml/, with the ggml and the libfff in those folders.
compile() {
    out="$1" ggml="$2" fff="$3"
    shift 3
    # shellcheck disable=SC2086 # the warnings are meant to be split
    gcc -std=c11 -D_GNU_SOURCE -O2 -g $warnings "$@" -I include -I "$source/include" "examples/ggml/${out%.*}.c" \
        examples/ggml/example.c examples/ggml/fff_ggml.c -o "$cache/$out" -L "$fff" -Wl,-rpath,"$fff" -lfff \
        "$ggml/src/libggml.a" "$ggml/src/libggml-cpu.a" "$ggml/src/libggml-base.a" -lstdc++ -lm -lpthread -ldl
}

include_from_cc() {
    echo '#include "examples/ggml/fff_ggml.h"' |
        g++ -std=c++17 -Wall -Wextra -Wpedantic -Werror -I . -I include -I "$source/include" -fsyntax-only -x c++ -
}

check "the header compiles as C++" include_from_cc
for name in test_fff_ggml test_inputs test_types test_leaves test_forest bench_fff_ggml; do
    rm -f "$cache/$name"
    check "$name compiles without warnings" compile "$name" "$plain" "$build"
done
for name in test_fff_ggml test_inputs test_types test_leaves test_forest; do
    rm -f "$cache/$name.tsan"
    check "$name compiles with the thread sanitizer" compile "$name.tsan" "$tsan" "$cache/fff-tsan" -fsanitize=thread
done

program test_fff_ggml "$cache/test_fff_ggml"
program test_inputs "$cache/test_inputs"
program test_types "$cache/test_types"
program test_leaves "$cache/test_leaves"
program test_forest "$cache/test_forest"
export FFF_TEST_SHORT=1 TSAN_OPTIONS=halt_on_error=1
check "graphs and threads: no race" "$cache/test_fff_ggml.tsan"
check "inputs and bad use: no race" "$cache/test_inputs.tsan"
check "other types: no race" "$cache/test_types.tsan"
check "leaf layers: no race" "$cache/test_leaves.tsan"
check "layers of several parts: no race" "$cache/test_forest.tsan"
# On one thread: two that have to share a core, which may be all there is, wait for each other for 8 ms a call.
program bench_fff_ggml "$cache/bench_fff_ggml" 1 "${FFF_BENCH_ROUNDS:-3}"

rm -f "$cache/log"
[ "$failed" -eq 0 ]
