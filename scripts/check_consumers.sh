#!/bin/sh
# scripts/check_consumers.sh: installs the library into folders of its own, as a shared one, a static one and both, and builds
# and runs programs that use it as strangers would: by pkg-config, by CMake, and as a meson subproject; in C and C++.
set -eu
CDPATH='' cd "$(dirname "$0")/.."
source="$PWD" folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
consumer="$source/tests/consumers/consumer.c"
version=$(sed -nE "s/^  version: '(.*)',/\1/p" meson.build | head -n 1)
unset CFLAGS CXXFLAGS LDFLAGS LD_LIBRARY_PATH DESTDIR
log="$folder/log"
. scripts/functions.sh

# runs PROGRAM KIND: PROGRAM runs, and needs libfff.so where the library is not a static one.
runs() {
    "$1"
    case "$2" in
    static) ! readelf -d "$1" | grep -q 'NEEDED.*libfff' || fail "$1 is linked with the shared library" ;;
    *) readelf -d "$1" | grep -q 'NEEDED.*\[libfff.so.1\]' || fail "$1 is not linked with libfff.so.1" ;;
    esac
}

# is_installed PREFIX FILE yes|no
is_installed() {
    found=no
    [ ! -e "$1/$2" ] || found=yes
    [ "$found" = "$3" ] || fail "$2 is installed: $found; expected: $3"
}

# installed KIND: the library alone, in $folder/KIND.
installed() {
    say "default_library=$1"
    quietly meson setup "$folder/build-$1" --prefix "$folder/$1" --libdir lib -Ddefault_library="$1" -Dtools=disabled \
        -Dtests=disabled -Dbench=disabled -Dbuildtype=debug
    quietly ninja -C "$folder/build-$1"
    quietly meson install -C "$folder/build-$1" --no-rebuild
    shared=yes static=yes
    [ "$1" != static ] || shared=no
    [ "$1" != shared ] || static=no
    for file in include/fff/fff.h lib/pkgconfig/fff.pc lib/cmake/fff/fff-config.cmake lib/cmake/fff/fff-config-version.cmake; do
        is_installed "$folder/$1" $file yes
    done
    for file in lib/libfff.so lib/libfff.so.1; do
        is_installed "$folder/$1" $file $shared
    done
    is_installed "$folder/$1" lib/libfff.a $static
    if [ $shared = yes ]; then
        readelf -d "$folder/$1/lib/libfff.so" | grep -q 'SONAME.*\[libfff.so.1\]' || fail "the soname is not libfff.so.1"
    fi
}

# by_pkg_config KIND: in C and C++, with what --libs says, and with what --static adds.
by_pkg_config() {
    export PKG_CONFIG_PATH="$folder/$1/lib/pkgconfig"
    [ "$(pkg-config --modversion fff)" = "$version" ] || fail "fff.pc is not of version $version"
    for more in '' --static; do
        flags=$(pkg-config $more --cflags --libs fff)
        # shellcheck disable=SC2086 # the flags are meant to be split
        {
            cc -Wall -Wextra -Werror "$consumer" -o "$folder/plain" $flags -Wl,-rpath,"$folder/$1/lib"
            c++ -Wall -Wextra -Werror -x c++ "$consumer" -o "$folder/plain_cc" $flags -Wl,-rpath,"$folder/$1/lib"
        }
        runs "$folder/plain" "$1"
        runs "$folder/plain_cc" "$1"
    done
    if [ "$1" = both ]; then
        # shellcheck disable=SC2046
        cc "$consumer" -o "$folder/plain" $(pkg-config --static --cflags --libs fff | sed 's/-lfff/-l:libfff.a/')
        runs "$folder/plain" static
    fi
    unset PKG_CONFIG_PATH
}

# by_cmake KIND PREFIX
by_cmake() {
    rm -rf "$folder/cmake"
    cp -R "$source/tests/consumers/cmake" "$folder/cmake"
    cp "$consumer" "$folder/cmake"
    quietly cmake -S "$folder/cmake" -B "$folder/cmake/build" -DCMAKE_PREFIX_PATH="$2"
    quietly cmake --build "$folder/cmake/build"
    runs "$folder/cmake/build/consumer_c" "$1"
    runs "$folder/cmake/build/consumer_cc" "$1"
    if [ "$1" = shared ]; then
        is_installed "$folder/cmake/build" consumer_static no
    else
        runs "$folder/cmake/build/consumer_static" static
    fi
}

# as_subproject KIND PARENT SOURCE OPTIONS...: PARENT is a folder of tests/consumers, SOURCE its program. The library alone is
# built, and nothing of it reaches the parent but its header.
as_subproject() {
    kind="$1" parent="$folder/$2-$1"
    say "meson subproject, $2, default_library=$1"
    cp -R "$source/tests/consumers/$2" "$parent"
    cp "$consumer" "$parent/$3"
    mkdir "$parent/subprojects"
    ln -s "$source" "$parent/subprojects/fff"
    shift 3
    quietly meson setup "$parent/build" "$parent" --wrap-mode=forcefallback --prefix "$parent/prefix" --libdir lib \
        -Ddefault_library="$kind" "$@"
    quietly ninja -C "$parent/build"
    quietly meson test -C "$parent/build" --no-rebuild --suite consumer
    runs "$parent/build/consumer" "$kind"
    others=$(ninja -C "$parent/build" -t targets all | grep -E 'subprojects/fff/(tools|tests|bench|bert|python)/' || true)
    [ -z "$others" ] || fail "more is built than the library: $others"
    ! grep -E 'consumer[.]cc?"' "$parent/build/compile_commands.json" | grep -q 'ffp-contract' ||
        fail "the library's arguments reach the parent"
    quietly meson install -C "$parent/build" --no-rebuild
    is_installed "$parent/prefix" include/fff/fff.h yes
    is_installed "$parent/prefix" bin/fff no
}

for kind in shared static both; do
    installed $kind
    by_pkg_config $kind
    by_cmake $kind "$folder/$kind"
done

say "CMake, moved elsewhere, through a symbolic link; its versions"
mv "$folder/both" "$folder/moved"
mkdir "$folder/link"
ln -s "$folder/moved/lib" "$folder/link/lib" # as /lib is one to /usr/lib: what lies beside is not beside the link
by_cmake both "$folder/link"
mkdir "$folder/versions"
quietly cmake -S "$source/tests/consumers/cmake_versions" -B "$folder/versions" -DVERSION="$version" \
    -DCMAKE_PREFIX_PATH="$folder/moved"

as_subproject shared meson consumer.c
as_subproject static meson consumer.c -Dunity=on
as_subproject both meson consumer.c -Dauto_features=enabled
export CFLAGS=-ffast-math
for kind in shared static both; do
    as_subproject $kind meson_cpp consumer.cc "-Dfff:isas=[]" # fewer files to compile
done
say ok
