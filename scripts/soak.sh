#!/bin/sh
# scripts/soak.sh HOURS [SEED]: random layers of all kinds and types on all usable instruction sets, forward and backward, in
# random batches, on threads, in the caller's floating-point modes, against a reference of their own, bit for bit
# (tests/soak/, docs/soak.md). HOURS may be a fraction. A process a core, at idle priority, each with cases of its own. A line
# of each every ten minutes tells how many layer evaluations (tokens times calls) there were and how many bits differed; each
# difference comes with the seed that repeats it. Ends with 1 if there was any, or a fault.
set -eu
CDPATH='' cd "$(dirname "$0")/.."
hours="${1:?usage: scripts/soak.sh HOURS [SEED]}" seed="${2:-$(($(date +%s) * 1000000))}"
seconds=$(awk -v hours="$hours" 'BEGIN { if (hours !~ /^[0-9]*\.?[0-9]+$/ || hours <= 0) exit 1; print hours * 3600 }') ||
    { echo "scripts/soak.sh: $hours is no number of hours" >&2 && exit 2; }
[ -f build-soak/build.ninja ] || meson setup build-soak -Dwerror=true -Dbench=disabled >/dev/null
ninja -C build-soak --quiet tests/soak
processes='' wrong=0 i=0
trap 'kill $processes 2>/dev/null || true' INT TERM
while [ $i -lt "$(nproc)" ]; do
    # Seeds are 10^9 apart, more than a process has cases.
    FFF_ISA='' chrt -i 0 nice -n 19 build-soak/tests/soak --seconds "$seconds" --line 600 --seed $((seed + i * 1000000000)) &
    processes="$processes $!" i=$((i + 1))
done
for process in $processes; do
    wait "$process" || wrong=1
done
exit $wrong
