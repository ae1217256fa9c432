#!/bin/sh
# scripts/windows_packages.sh: SLEEF and cmocka for Windows on x86-64, which Debian does not have: Debian 12's sources, compiled by
# mingw-w64 into build-systems/windows, where scripts/check_systems.sh finds them. Needs what `scripts/setup.sh systems` installs; the
# sources come through apt, with lists of its own. Takes some three minutes on two cores, once; nothing is installed.
#
# FFF_SLEEF_SOURCE names a folder with SLEEF's source, of release 3.5.1, for where the archive has packages but not that source.
set -eu
CDPATH='' cd "$(dirname "$0")/.."
suite=bookworm folder="$PWD/build-systems" log="$PWD/build-systems/log" prefix="$PWD/build-systems/windows" compiler=x86_64-w64-mingw32-gcc-posix
unset CFLAGS LDFLAGS
. scripts/functions.sh
for program in $compiler gcc cmake ninja dpkg-source apt-get; do
    command -v $program >/dev/null || fail "$program is missing: scripts/setup.sh systems"
done
mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial" "$folder/sources" "$folder/shim" "$prefix/lib/pkgconfig"

archive=$(apt-get indextargets --format '$(SITE) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
    awk '$2 ~ /^[a-z]+$/ && $3 == "main" { print $1; exit }')
[ -n "$archive" ] || fail "apt knows no archive of Debian's"
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive $suite main" >"$folder/apt/sources.list"
apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$folder/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$folder/apt/lists" -o Dir::Cache="$folder/apt/cache" -o Acquire::Languages=none \
        -o APT::Sandbox::User=root "$@"
}

# fetch PACKAGE [FOLDER]: its source, with Debian's patches, in $folder/sources/PACKAGE; or FOLDER's.
fetch() {
    [ ! -d "$folder/sources/$1" ] || return 0
    [ -z "${2:-}" ] || { cp -R "$2" "$folder/sources/$1" && return; }
    echo "== the source of $1"
    [ -f "$folder/apt/updated" ] || { quietly apt update && touch "$folder/apt/updated"; }
    rm -rf "$folder/sources/new" && mkdir "$folder/sources/new"
    (cd "$folder/sources/new" && quietly apt source --download-only "$1" && quietly dpkg-source -x ./*.dsc source)
    mv "$folder/sources/new/source" "$folder/sources/$1"
}

# configure PACKAGE OPTIONS...: by CMake, for Windows, in $folder/PACKAGE. C99's printf(); and gcc's bug 54412: it takes the stack to
# be aligned for wide registers, which it is not there.
configure() {
    package="$1"
    shift
    quietly cmake -S "$folder/sources/$package" -B "$folder/$package" -G Ninja -Wno-dev -DCMAKE_BUILD_TYPE=Release \
        -DCMAKE_SYSTEM_NAME=Windows -DCMAKE_SYSTEM_PROCESSOR=x86_64 -DCMAKE_C_COMPILER=$compiler \
        -DCMAKE_C_FLAGS="-I$folder/shim -D__USE_MINGW_ANSI_STDIO=1 -Wa,-muse-unaligned-vector-move" \
        -DCMAKE_FIND_ROOT_PATH_MODE_LIBRARY=ONLY -DCMAKE_FIND_ROOT_PATH_MODE_INCLUDE=ONLY \
        -DCMAKE_INSTALL_PREFIX="$prefix" -DCMAKE_INSTALL_LIBDIR=lib "$@"
}

# describe NAME LIBS CFLAGS: for pkg-config.
describe() {
    printf '%s\n' "Name: $1" "Description: $1, by scripts/windows_packages.sh" \
        "Version: $(sed -n 's/^CMAKE_PROJECT_VERSION:STATIC=//p' "$folder/$1/CMakeCache.txt")" \
        "Libs: -L$prefix/lib $2" "Cflags: -I$prefix/include $3" >"$prefix/lib/pkgconfig/$1.pc"
}

if [ ! -f "$prefix/lib/pkgconfig/sleef.pc" ]; then
    fetch sleef "${FFF_SLEEF_SOURCE:-}"
    echo "== SLEEF"
    echo '#include <windows.h>' >"$folder/shim/Windows.h" # SLEEF's spelling
    set -- -DBUILD_SHARED_LIBS=OFF -DBUILD_TESTS=OFF -DBUILD_DFT=OFF -DBUILD_QUAD=OFF -DBUILD_GNUABI_LIBS=OFF -DDISABLE_SSL=ON \
        -DBUILD_INLINE_HEADERS=OFF
    # Programs that run here write parts of its source.
    quietly cmake -S "$folder/sources/sleef" -B "$folder/sleef-native" -G Ninja -Wno-dev -DCMAKE_BUILD_TYPE=Release "$@"
    quietly ninja -C "$folder/sleef-native" -j2 mkrename mkrename_gnuabi mkmasked_gnuabi mkalias mkdisp
    configure sleef "$@" -DNATIVE_BUILD_DIR="$folder/sleef-native"
    quietly ninja -C "$folder/sleef" -j2 sleef
    mkdir -p "$prefix/include"
    cp "$folder/sleef/lib/libsleef.a" "$prefix/lib/"
    cp "$folder/sleef/include/sleef.h" "$prefix/include/"
    describe sleef -lsleef -DSLEEF_STATIC_LIBS
fi
if [ ! -f "$prefix/lib/pkgconfig/cmocka.pc" ]; then
    fetch cmocka
    echo "== cmocka"
    configure cmocka -DUNIT_TESTING=OFF -DWITH_EXAMPLES=OFF
    quietly ninja -C "$folder/cmocka" -j2 install
    describe cmocka -lcmocka ''
fi
echo "$prefix: SLEEF $(PKG_CONFIG_LIBDIR="$prefix/lib/pkgconfig" pkg-config --modversion sleef)," \
    "cmocka $(PKG_CONFIG_LIBDIR="$prefix/lib/pkgconfig" pkg-config --modversion cmocka)"
