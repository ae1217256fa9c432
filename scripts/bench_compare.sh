#!/bin/sh
# scripts/bench_compare.sh BASE [BUILD] [options of bench/paired.py]: this tree's library against that of another commit, in one
# process at a time, twelve processes; says which rows moved beyond noise. BUILD is the folder of this tree's build (build). The
# other commit is built in build-compare/. On a machine that does nothing else; FFF_PAIRED_SHAPES=1x11 and the like select rows
# (bench/paired.c).
set -eu
CDPATH='' cd "$(dirname "$0")/.."
base=$(git rev-parse --verify --quiet "${1:?usage: scripts/bench_compare.sh BASE [BUILD]}^{commit}") ||
    { echo "scripts/bench_compare.sh: $1 is no commit" >&2 && exit 2; }
build="${2:-build}"
shift $(($# < 2 ? $# : 2))
[ -f "$build/build.ninja" ] || meson setup "$build" >/dev/null
meson compile -C "$build" fff:shared_library paired >/dev/null
folder="build-compare/$base"
if [ ! -e "$folder/build/libfff.so" ]; then
    mkdir -p "$folder/source"
    git archive "$base" | tar -x -C "$folder/source"
    [ -f "$folder/build/build.ninja" ] ||
        meson setup "$folder/build" "$folder/source" -Dtools=disabled -Dtests=disabled -Dbench=disabled >/dev/null
    ninja -C "$folder/build" --quiet
fi
exec python3 bench/paired.py --program "$build/bench/paired" --base "$folder/build/libfff.so" --new "$build/libfff.so" "$@"
