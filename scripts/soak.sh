#!/bin/sh
# scripts/soak.sh HOURS [SEED]: random layers of all kinds and types on all usable instruction sets, in random batches, on
# threads, in the caller's floating-point modes, against a reference of their own, bit for bit (tests/soak/). HOURS may be a
# fraction. A line a minute tells how many layer evaluations (tokens times calls) there were and how many bits differed; each
# difference comes with the seed that repeats it. Ends with 1 if there was any.
set -eu
cd "$(dirname "$0")/.."
hours="${1:?usage: scripts/soak.sh HOURS [SEED]}"
seconds=$(awk -v hours="$hours" 'BEGIN { if (hours !~ /^[0-9]*\.?[0-9]+$/ || hours <= 0) exit 1; print hours * 3600 }') ||
    { echo "scripts/soak.sh: $hours is no number of hours" >&2 && exit 2; }
[ -f build-soak/build.ninja ] || meson setup build-soak -Dwerror=true -Dbench=disabled >/dev/null
ninja -C build-soak --quiet tests/soak
exec env FFF_ISA= build-soak/tests/soak --seconds "$seconds" ${2:+--seed "$2"}
