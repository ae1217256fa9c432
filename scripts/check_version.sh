#!/bin/sh
# scripts/check_version.sh [BUILD]: one version everywhere. meson.build has it; the packages, fff.pc and the Python package take it
# from there. To be changed by hand with it: FFF_VERSION_* in include/fff/fff.h; CITATION.cff, with the date; a heading in CHANGELOG.md;
# an entry in debian/changelog. With a build, its library and command tell the same version.
set -eu
CDPATH='' cd "$(dirname "$0")/.."
version=$(sed -nE "s/^  version: '([0-9]+\.[0-9]+\.[0-9]+)',/\1/p" meson.build | head -n 1)
[ -n "$version" ] || { echo "meson.build has no version" >&2 && exit 1; }
failed=0

# is WHERE FOUND
is() {
    [ "$2" = "$version" ] || { echo "$1 has version '$2', meson.build $version" >&2 && failed=1; }
}
is include/fff/fff.h "$(sed -nE 's/^#define FFF_VERSION_(MAJOR|MINOR|PATCH) ([0-9]+)$/\2/p' include/fff/fff.h | paste -sd .)"
is CITATION.cff "$(sed -nE 's/^version: (.*)$/\1/p' CITATION.cff)"
# What is not released yet stands under a heading without a number, above the newest version.
is CHANGELOG.md "$(sed -nE 's/^## ([0-9][^,]*), [0-9]{4}-[0-9]{2}-[0-9]{2}.*/\1/p' CHANGELOG.md | head -n 1)"
is debian/changelog "$(sed -nE '1s/^libfff \(([^-]*)-[^)]*\) .*/\1/p' debian/changelog)"
is pyproject.toml "$(grep -q '^dynamic = \["version"\]' pyproject.toml && ! grep -q '^version' pyproject.toml && echo "$version")"
released=$(sed -nE "s/^## $version, ([0-9-]+).*/\1/p" CHANGELOG.md)
grep -qx "date-released: $released" CITATION.cff || { echo "CITATION.cff's date is not that of CHANGELOG.md, $released" >&2 && failed=1; }
# Debian's list of symbols, and that of what the library exports.
sed -nE 's/^ ([a-z_0-9]+)@Base .*/\1/p' debian/libfff1.symbols | LC_ALL=C sort | diff - tests/data/exports.txt ||
    { echo "debian/libfff1.symbols (<) is not tests/data/exports.txt (>)" >&2 && failed=1; }
if [ -n "${1:-}" ]; then
    [ -f "$1/libfff.so.$version" ] || { echo "$1 has no libfff.so.$version" >&2 && failed=1; }
    [ ! -x "$1/tools/fff" ] || is "the command" "$("$1/tools/fff" --version | sed -nE 's/^fff ([^ ]*) .*/\1/p')"
fi
[ "$failed" -eq 0 ] && echo "$version"
