#!/bin/bash
# Everything that `make test-engines` runs: libfff inside real engines, each by scripts/engines/NAME.sh, which fetches the
# engine into build-engines/NAME/ (some GB in all, once).
#
#   scripts/test_engines.sh [NAME...]     all of them by default
#
# Ends with a line "N passed, N failed, N skipped"; fails if anything did. Skipped is an engine that cannot be had here.
set -u
CDPATH='' cd "$(dirname "$0")/.."
passed=0 failed=0 skipped=0
build=build-gcc # as scripts/test.sh makes it
if [ ! -f "$build/build.ninja" ]; then
    meson setup "$build" -Dwerror=true >/dev/null || exit 1
fi
ninja -C "$build" --quiet || exit 1

if [ $# -eq 0 ]; then
    set -- $(basename -s .sh scripts/engines/*.sh)
fi
for engine in "$@"; do
    if [ ! -f "scripts/engines/$engine.sh" ]; then
        echo "test_engines: no engine '$engine'; there are:" $(basename -s .sh scripts/engines/*.sh) >&2
        exit 2
    fi
    echo "$engine"
    log=$(mktemp) began=$SECONDS
    sh "scripts/engines/$engine.sh" "$build" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    ok=$(grep -c '^  ok      ' "$log") bad=$(grep -c '^  FAILED  ' "$log")
    if [ "$status" -eq 77 ]; then
        skipped=$((skipped + 1))
        echo "  skipped $engine: see above"
    elif [ "$bad" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$ok" -eq 0 ]; }; then
        bad=1
        echo "  FAILED  $engine: ended with status $status after $ok checks"
    fi
    passed=$((passed + ok)) failed=$((failed + bad))
    echo "  $engine: $((SECONDS - began)) s"
    rm -f "$log"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
