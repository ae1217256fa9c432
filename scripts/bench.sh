#!/bin/sh
# Builds the benchmarks, fetches the newest dense libraries and makes the report:
#
#   scripts/bench.sh BUILD_FOLDER [options of bench/report.py]
set -eu
CDPATH='' cd "$(dirname "$0")/.."
build="$1"
shift
[ -f "$build/build.ninja" ] || meson setup "$build"
if [ ! -f "$build/bench/fff_bench" ] && ! grep -q 'bench/fff_bench' "$build/build.ninja"; then
    meson setup --reconfigure "$build" # it was configured before Google Benchmark was installed
fi
ninja -C "$build" --quiet
settings=$(scripts/fetch_peers.sh)
eval "$settings"
python=python3
for candidate in python3 /usr/bin/python3; do
    if "$candidate" -c 'import matplotlib' 2>/dev/null; then
        python="$candidate"
        break
    fi
done
exec "$python" bench/report.py --bench "$build/bench/fff_bench" "$@"
