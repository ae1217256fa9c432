#!/bin/sh
# scripts/check_install.sh prefix|default: does word for word what the README says of installing, in a copy of the source, and
# runs the README's program and the command: with a prefix of its own, or with the default one, /usr/local, in a mount namespace
# where that is a copy (77 where there can be none). Then it uninstalls.
set -eu
CDPATH='' cd "$(dirname "$0")/.."
unset CFLAGS LDFLAGS LD_LIBRARY_PATH PKG_CONFIG_PATH DESTDIR MESON_INSTALL_QUIET
. scripts/functions.sh

# commands NAME: runs the README's commands between ```sh NAME and ```.
commands() {
    block README.md "sh $1" >"$folder/$1.sh"
    cat "$folder/$1.sh"
    quietly sh -eux "$folder/$1.sh"
    cat "$log"
}

# ran: the commands did end with the program's line and with the command's.
ran() {
    grep -q '^success on ' "$log" || fail "the README's program did not run"
    grep -q '^chosen: ' "$log" || fail "the installed command did not run"
}

# is_gone FOLDER: after ninja uninstall.
is_gone() {
    quietly ninja -C "$build" uninstall
    left=$(find "$1" -name '*fff*')
    [ -z "$left" ] || fail "not uninstalled: $left"
}

case "${1:-}" in
default)
    [ "${2:-}" = here ] || exec scripts/with_private_usr_local.sh "$0" default here
    ;;
prefix) ;;
*) echo "usage: scripts/check_install.sh prefix|default" >&2 && exit 2 ;;
esac

folder=$(mktemp -d)
log="$folder/log"
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/source" "$folder/home"
tar -cf - --exclude='./build*' --exclude=./.git . | tar --no-same-owner -xf - -C "$folder/source"
cd "$folder/source"
# The README's commands build tests and benchmarks, too, where they can: not what is tried here, and slow.
sed -i -E "/^option\('(tests|bench)'/s/'auto'/'disabled'/" meson_options.txt

if [ "$1" = default ]; then
    build=build
    commands default
    ran
    ldconfig -p | grep -q '/usr/local/.*libfff.so.1' || fail "ldconfig was not run"
    is_gone /usr/local
    exit 0
fi

export HOME="$folder/home" build=build-own
commands prefix
ran
prefix="$HOME/fff"
# The installed tree can be moved.
cp -R "$prefix" "$folder/moved"
is_gone "$HOME"
"$folder/moved/bin/fff" cpu >/dev/null

# has_run_path TEXT PROGRAM: no run path at all where TEXT is empty.
has_run_path() {
    found=$(readelf -d "$2" | sed -nE 's/.*(RPATH|RUNPATH).*\[(.*)\]/\2/p')
    [ "$found" = "$1" ] || fail "the run path is '$found', expected '$1'"
}

# changed OPTIONS...: the same build with other options, installed.
changed() {
    quietly meson configure "$build" "$@"
    quietly meson install -C "$build"
}

changed --bindir=deep/down/bin --libdir=other/lib
# shellcheck disable=SC2016 # the loader's word, not the shell's
has_run_path '$ORIGIN/../../../other/lib' "$prefix/deep/down/bin/fff"
"$prefix/deep/down/bin/fff" cpu >/dev/null
is_gone "$HOME"
changed --bindir=bin --libdir="$folder/outside"
has_run_path "$folder/outside" "$prefix/bin/fff"
"$prefix/bin/fff" cpu >/dev/null
mkdir "$folder/cmake"
cp tests/consumers/cmake/CMakeLists.txt tests/consumers/consumer.c "$folder/cmake"
quietly cmake -S "$folder/cmake" -B "$folder/cmake/build" -Dfff_DIR="$folder/outside/cmake/fff"
quietly cmake --build "$folder/cmake/build"
"$folder/cmake/build/consumer_c"
is_gone "$HOME"
changed --libdir=lib -Drpath=false
has_run_path '' "$prefix/bin/fff"
LD_LIBRARY_PATH="$prefix/lib" "$prefix/bin/fff" cpu >/dev/null
is_gone "$HOME"
# The Python package, as a wheel is made of it, with nothing of the source or of the installed library beside it.
quietly meson configure "$build" -Drpath=true -Dpython=enabled
quietly meson install -C "$build" --tags=python --destdir "$folder/python"
package=$(find "$folder/python" -type d -path '*/fff/torch' -prune | sed 's,/fff/torch$,,')
(cd "$package" && find fff -name '*.py') | sort >"$folder/has"
(cd python && find fff -name '*.py') | sort | diff - "$folder/has" || fail "the Python package lacks files of the source"
awk '$0 == "```python" { inside = 1; next } /^```$/ { inside = 0 } inside' README.md >"$folder/readme.py"
python=python3
"$python" -c 'import numpy' 2>/dev/null || python=/usr/bin/python3
(cd "$folder" && PYTHONPATH="$package" PYTHONDONTWRITEBYTECODE=1 FFF_ISA='' "$python" readme.py)
# A distribution installs below DESTDIR, and into /usr, whose libraries the loader finds by itself.
export DESTDIR="$folder/packaged"
changed -Dpython=disabled
"$DESTDIR$prefix/bin/fff" cpu >/dev/null
[ ! -e "$prefix/bin" ] || fail "something is installed beside DESTDIR"
changed --prefix=/usr
has_run_path '' "$DESTDIR/usr/bin/fff"
