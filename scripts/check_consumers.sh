#!/bin/sh
# scripts/check_consumers.sh: installs the library into a folder of its own, and builds and runs three programs that use it
# as strangers would: by pkg-config, by CMake, and as a meson subproject; in C and C++, shared and static.
set -eu
cd "$(dirname "$0")/.."
source="$PWD" folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
prefix="$folder/prefix"
only_library="-Dtools=disabled -Dtests=disabled -Dbench=disabled"
consumer="$source/tests/consumers/consumer.c"
say() { echo "== $*"; }

say install
# shellcheck disable=SC2086 # the options are meant to be split
meson setup "$folder/build" --prefix "$prefix" --libdir lib $only_library >"$folder/log" || { cat "$folder/log"; exit 1; }
ninja -C "$folder/build" --quiet
meson install -C "$folder/build" --quiet --no-rebuild
for file in include/fff/fff.h lib/libfff.so lib/libfff.so.1 lib/libfff.a lib/pkgconfig/fff.pc lib/cmake/fff/fff-config.cmake \
    lib/cmake/fff/fff-config-version.cmake; do
    test -f "$prefix/$file" || { echo "$file is not installed" >&2; exit 1; }
done
readelf -d "$prefix/lib/libfff.so" | grep -q 'SONAME.*\[libfff.so.1\]'

say pkg-config
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
flags=$(pkg-config --cflags --libs fff)
# shellcheck disable=SC2086
{
    cc -Wall -Wextra -Werror "$consumer" -o "$folder/plain" $flags
    c++ -Wall -Wextra -Werror -x c++ "$consumer" -o "$folder/plain_cc" $flags
}
LD_LIBRARY_PATH="$prefix/lib" "$folder/plain"
LD_LIBRARY_PATH="$prefix/lib" "$folder/plain_cc"
test "$(pkg-config --modversion fff)" = "$(sed -nE "s/^  version: '(.*)',/\1/p" meson.build | head -n 1)"

say CMake
cp -R "$source/tests/consumers/cmake" "$folder/cmake"
cp "$consumer" "$folder/cmake"
cmake -S "$folder/cmake" -B "$folder/cmake/build" -DCMAKE_PREFIX_PATH="$prefix" >"$folder/log" || { cat "$folder/log"; exit 1; }
cmake --build "$folder/cmake/build" >"$folder/log" || { cat "$folder/log"; exit 1; }
for program in consumer_c consumer_cc consumer_static; do
    "$folder/cmake/build/$program"
done
if readelf -d "$folder/cmake/build/consumer_static" | grep -q libfff; then
    echo "consumer_static is linked with the shared library" >&2
    exit 1
fi
# Moved elsewhere, the package still finds its files; another major version is refused.
mv "$prefix" "$folder/moved"
cmake -S "$folder/cmake" -B "$folder/cmake/moved" -DCMAKE_PREFIX_PATH="$folder/moved" >"$folder/log" || { cat "$folder/log"; exit 1; }
sed -i 's/find_package(fff 0.2 /find_package(fff 1.0 /' "$folder/cmake/CMakeLists.txt"
if cmake -S "$folder/cmake" -B "$folder/cmake/newer" -DCMAKE_PREFIX_PATH="$folder/moved" >"$folder/log" 2>&1; then
    echo "version 1.0 was asked for and 0.2 accepted" >&2
    exit 1
fi

say "meson subproject"
cp -R "$source/tests/consumers/meson" "$folder/meson"
cp "$consumer" "$folder/meson"
mkdir "$folder/meson/subprojects"
ln -s "$source" "$folder/meson/subprojects/fff"
meson setup "$folder/meson/build" "$folder/meson" --wrap-mode=forcefallback >"$folder/log" || { cat "$folder/log"; exit 1; }
meson test -C "$folder/meson/build" >"$folder/log" || { cat "$folder/log"; exit 1; }
say ok
