#!/bin/bash
# Other C libraries and systems, as far as a Debian machine on x86-64 can try them. Each part that lacks what it needs is
# skipped; ends with 77 if all are, else tells how many passed and failed.
#
#   scripts/check_systems.sh [header] [darwin] [musl] [windows]     all of them without a name
#
# header   fff.h for Microsoft's compilers, C and C++, by clang's imitation of them
# darwin   the library's sources for macOS (scripts/check_darwin.sh)
# musl     the library by musl-gcc (package musl-tools), with the system's own libsleef, which needs so little of a C library that
#          musl's loader takes it: the bits, exhaustive tests, old headers, the README's program
# windows  the library by mingw-w64 (gcc-mingw-w64-x86-64), run by wine (wine, wine64), with the SLEEF and the cmocka that
#          scripts/windows_packages.sh has made; or those in the folder FFF_WINDOWS_PREFIX, which has a lib/pkgconfig
#
# scripts/setup.sh systems installs the programs.
set -u
CDPATH='' cd "$(dirname "$0")/.." || exit
passed=0 failed=0 skipped=0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export FFF_TEST_SHORT=1

check() {
    local name="$1" start=$SECONDS status=0
    shift
    "$@" >"$folder/log" 2>&1 || status=$?
    if [ $status -eq 0 ]; then
        passed=$((passed + 1))
        echo "  ok      $name, $((SECONDS - start)) s"
    elif [ $status -eq 77 ]; then
        skipped=$((skipped + 1))
        echo "  skipped $name: $(tail -n 1 "$folder/log")"
    else
        failed=$((failed + 1))
        echo "  FAILED  $name"
        tail -n 40 "$folder/log" | sed 's/^/    | /'
    fi
    return $status
}

# needs PROGRAM...: 77 if one is missing.
needs() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null 2>&1 || { echo "$program is missing" && return 77; }
    done
}

# ---- The header -------------------------------------------------------------------------------------------------

# clang has no headers of Microsoft's; its own stddef.h and stdint.h serve.
microsoft() {
    needs clang || return
    local standard
    echo '#include <fff/fff.h>' >"$folder/header.c"
    for standard in 'c -std=c11' 'c++ -std=c++14'; do
        for building in '' -DFFF_BUILD; do
            # shellcheck disable=SC2086 # two words
            clang --target=x86_64-pc-windows-msvc -fms-extensions -fms-compatibility -fms-compatibility-version=19.30 -x $standard \
                -ffreestanding -Wall -Wextra -pedantic -Werror $building -Iinclude -fsyntax-only "$folder/header.c" || return 1
        done
    done
    # nothing that only compilers with GNU's extensions read, once these say that they are none
    clang -E -P --target=x86_64-pc-windows-msvc -fms-compatibility -ffreestanding -x c -Iinclude "$folder/header.c" >"$folder/expanded"
    grep -q fff_layer_create "$folder/expanded" && ! grep -nE '__(attribute|extension|typeof|asm)' "$folder/expanded"
}

darwin() {
    local cpu
    for cpu in arm64 x86_64; do
        check "macOS, $cpu: the sources compile" scripts/check_darwin.sh $cpu
    done
}

# ---- Other C libraries and systems -----------------------------------------------------------------------------------

# configure BUILD CROSS-FILE OPTIONS...: the library and the tests that read no files, warnings being errors.
configure() {
    local build="$1" cross="$2"
    shift 2
    [ -f "$build/build.ninja" ] ||
        meson setup "$build" --cross-file "$cross" -Dwerror=true -Dbench=disabled -Dtools=disabled "$@"
}

# run_tests BUILD TEST...
run_tests() {
    local build="$1"
    shift
    meson test -C "$build" --no-rebuild --print-errorlogs --num-processes 2 --timeout-multiplier 4 "$@"
}

musl_program() {
    musl-gcc -std=c11 -Wall -Wextra -Werror -Iinclude examples/embed.c -o "$folder/embed" -Lbuild-musl -lfff \
        -Wl,-rpath,"$PWD/build-musl" -Wl,--allow-shlib-undefined && FFF_ISA='' "$folder/embed"
}

musl() {
    local sleef header
    check "musl: programs" needs musl-gcc meson ninja || return
    sleef=$(cc -print-file-name=libsleef.so.3)
    header=$(echo '#include <sleef.h>' | cc -E - 2>/dev/null | sed -nE 's/^# 1 "(.*sleef.h)".*/\1/p' | head -n 1)
    check "musl: SLEEF" test -f "$sleef" -a -f "$header" || return
    # nothing else of what the system has for its own C library
    local own="$PWD/build-systems/musl"
    mkdir -p "$own/lib/pkgconfig" "$own/include"
    ln -sf "$sleef" "$own/lib/libsleef.so.3"
    ln -sf libsleef.so.3 "$own/lib/libsleef.so"
    cp "$header" "$own/include"
    printf 'Name: SLEEF\nDescription: SLEEF\nVersion: %s\nLibs: -L%s -lsleef\nCflags: -I%s\n' "$(pkg-config --modversion sleef)" \
        "$own/lib" "$own/include" >"$own/lib/pkgconfig/sleef.pc"
    export LD_LIBRARY_PATH="$own/lib"
    check "musl: configure" configure build-musl tests/cross/x86_64-linux-musl.ini -Dpkg_config_path="$own/lib/pkgconfig" &&
        check "musl: compile without warnings" ninja -C build-musl -j2 &&
        check "musl: tests" run_tests build-musl &&
        check "musl: the README's program" musl_program
    unset LD_LIBRARY_PATH
}

windows_exports() { # what Linux's library has, and nothing else; a static SLEEF exports some of its own
    x86_64-w64-mingw32-objdump -p build-windows/libfff-1.dll |
        awk '/\[Ordinal\/Name Pointer\] Table/ { inside = 1; next } inside && NF == 0 { exit } inside && !/ Sleef_/ { print $NF }' |
        LC_ALL=C sort | diff tests/data/exports.txt -
}

windows_sleef() {
    [ -f "$1/lib/pkgconfig/sleef.pc" ] || { echo "scripts/windows_packages.sh has not been run" && return 77; }
}

windows() {
    local name
    check "Windows: programs" needs wine x86_64-w64-mingw32-gcc-posix meson ninja || return
    local prefix="${FFF_WINDOWS_PREFIX:-$PWD/build-systems/windows}"
    check "Windows: SLEEF" windows_sleef "$prefix" || return
    export WINEDEBUG=-all WINEPREFIX="$PWD/build-systems/wine" WINEPATH="$prefix/bin"
    for name in libgcc_s_seh-1.dll libwinpthread-1.dll; do # of the compiler
        WINEPATH="$WINEPATH;$(dirname "$(x86_64-w64-mingw32-gcc-posix -print-file-name=$name)")"
    done
    mkdir -p build-systems
    check "Windows: configure" configure build-windows tests/cross/x86_64-w64-mingw32.ini \
        -Dpkg_config_path="$prefix/lib/pkgconfig" &&
        check "Windows: compile without warnings" ninja -C build-windows -j2 &&
        check "Windows: exports" windows_exports &&
        check "Windows: tests" run_tests build-windows
}

for part in "${@:-all}"; do
    case "$part" in
    header) check "header, for Microsoft's compilers" microsoft ;;
    darwin) darwin ;;
    musl | windows) $part ;;
    all)
        check "header, for Microsoft's compilers" microsoft
        darwin
        musl
        windows
        ;;
    *) echo "usage: scripts/check_systems.sh [header] [darwin] [musl] [windows]" >&2 && exit 2 ;;
    esac
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ] || exit 1
[ $passed -gt 0 ] || exit 77
