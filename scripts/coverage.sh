#!/bin/sh
# scripts/coverage.sh: which lines of layer/, dispatch/ and the readers of files in bert/ the native tests in C run, by gcov and
# gcovr: a table of folders and files, with the numbers of the lines that no test reaches. Ends with 1 if a folder has less than
# 95 % of its lines covered, or a test fails. The build is in build-coverage/, a report to browse in build-coverage/report/.
set -eu
CDPATH='' cd "$(dirname "$0")/.."
scripts/setup.sh coverage
scripts/fetch_minilm.sh build-minilm || echo "MiniLM cannot be fetched: the tests that read it are left out"
# Only what is reported is counted, so that kernels stay fast; by threads together, hence atomically.
counted='^(.*/)?(layer|dispatch|bert)/[^/]*$'
[ -f build-coverage/build.ninja ] ||
    meson setup build-coverage -Db_coverage=true -Dbuildtype=debug -Doptimization=g -Dbench=disabled \
        "-Dc_args=['-fprofile-filter-files=$counted', '-fprofile-update=prefer-atomic']" >/dev/null
ninja -C build-coverage --quiet
find build-coverage -name '*.gcda' -delete
FFF_TEST_SHORT=1 FFF_TEST_SEED=1 meson test -C build-coverage --no-rebuild --quiet --timeout-multiplier 4 --print-errorlogs \
    --no-suite script
mkdir -p build-coverage/report
readers='(characters|config|file|file_kind|json_file|json_walk|matcher|normalize|report|safetensors|sentence|tensor|text|wordpiece\w*)'
gcovr --root . --object-directory build-coverage --filter 'layer/' --filter 'dispatch/' --filter "bert/$readers\.[ch]" \
    --json-summary build-coverage/report/summary.json --html-details build-coverage/report/index.html \
    --txt build-coverage/report/lines.txt
sed -n '/^File/,/^TOTAL/p' build-coverage/report/lines.txt
python3 - build-coverage/report/summary.json <<'END'
import collections
import json
import sys

totals = collections.defaultdict(lambda: [0, 0])
for file in json.load(open(sys.argv[1], encoding="utf-8"))["files"]:
    folder = totals[file["filename"].split("/")[0]]
    folder[0] += file["line_covered"]
    folder[1] += file["line_total"]
for folder, (covered, total) in sorted(totals.items()):
    print(f"{folder}/: {covered} of {total} lines, {100 * covered / total:.1f} %")
sys.exit(set(totals) != {"bert", "dispatch", "layer"} or any(covered < 0.95 * total for covered, total in totals.values()))
END
