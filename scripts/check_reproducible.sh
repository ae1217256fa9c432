#!/bin/sh
# scripts/check_reproducible.sh [TEST...]: makes a source tarball of the last commit twice, which must be the same bytes; builds the
# library from it in two folders, by other hours, places, languages and rights, which must be the same bytes, too; and runs the
# tests of the tarball, all or those named. The tarball is left in build-dist/.
set -eu
CDPATH='' cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset CFLAGS LDFLAGS LD_LIBRARY_PATH
log="$folder/log"
. scripts/functions.sh

version=$(sed -nE "s/^  version: '(.*)',/\1/p" meson.build | head -n 1)
say "meson dist"
git clone -q --no-local . "$folder/clone" # what is not committed is not in it
quietly meson setup "$folder/clone-build" "$folder/clone" -Dtools=disabled -Dtests=disabled -Dbench=disabled
# Meson's archive has the hour of its making in it: packed again, with that of the commit.
epoch=$(git log -1 --format=%ct)
for copy in 1 2; do
    quietly meson dist -C "$folder/clone-build" --no-tests --formats xztar
    mkdir "$folder/$copy"
    tar -C "$folder/$copy" -xf "$folder/clone-build/meson-dist/fff-$version.tar.xz"
    tar -C "$folder/$copy" --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner --mode=go=rX,u+rw,a-s \
        -cJf "$folder/$copy.tar.xz" "fff-$version"
done
cmp "$folder/1.tar.xz" "$folder/2.tar.xz"

# build_in FOLDER OPTIONS...: the tarball's library, in FOLDER/source and FOLDER/NAME.
build_in() {
    mkdir -p "$1"
    tar -C "$1" -xf "$folder/1.tar.xz"
    mv "$1/fff-$version" "$1/source"
    quietly meson setup "$1/build" "$1/source" -Dbench=disabled
}
say "two builds"
build_in "$folder/one"
quietly ninja -C "$folder/one/build" libfff.so.$version
(
    umask 077
    export TZ=Pacific/Auckland LC_ALL=C.UTF-8 SOURCE_DATE_EPOCH=1
    build_in "$folder/a folder that lies deeper/two"
    quietly ninja -C "$folder/a folder that lies deeper/two/build" libfff.so.$version
)
sha256sum "$folder/one/build/libfff.so.$version"
cmp "$folder/one/build/libfff.so.$version" "$folder/a folder that lies deeper/two/build/libfff.so.$version"
strings "$folder/one/build/libfff.so.$version" | grep -F "$folder" && fail "the library names the folder it was built in"

say "the tarball's tests"
quietly ninja -C "$folder/one/build"
meson test -C "$folder/one/build" --no-rebuild --print-errorlogs "$@"
mkdir -p build-dist
cp "$folder/1.tar.xz" "build-dist/fff-$version.tar.xz"
say "ok: build-dist/fff-$version.tar.xz"
