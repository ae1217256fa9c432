#!/bin/bash
# scripts/fuzz.sh [SECONDS] [TARGET...]: the readers of files, and the library's own functions, against inputs that libFuzzer
# invents, under address and undefined-behaviour sanitizers; an hour of each target (tests/fuzz/fuzz_*.c) unless told. What it finds is in build-fuzz/: a
# crash belongs into tests/fuzz/corpus/TARGET, where `make test` replays it. build-fuzz/runs.txt gets a line of each run:
# target, executions, seconds of CPU time. Each run goes on from all that earlier ones reached, and at its end packs the fewest
# inputs that reach it into build-fuzz/reached/TARGET.tar.gz, for tests/fuzz/reached/.
set -eu -o pipefail
CDPATH='' cd "$(dirname "$0")/.."
seconds="${1:-3600}"
[ $# -gt 0 ] && shift
targets="${*:-create calls safetensors config layer tokenizer model input}"
case "$seconds" in '' | 0* | *[!0-9]*) echo "fuzz.sh: '$seconds' is no number of seconds" >&2 && exit 2 ;; esac
for target in $targets; do
    [ -f "tests/fuzz/fuzz_$target.c" ] || { echo "fuzz.sh: there is no target '$target' (tests/fuzz/fuzz_*.c)" >&2 && exit 2; }
done
libraries=build-fuzz/libraries sanitizers='-fsanitize=address,undefined -fno-sanitize-recover=all'
# Kernels are not what is fuzzed: the generic ones do.
[ -f $libraries/build.ninja ] ||
    CC=clang meson setup $libraries -Disas=[] -Dtests=disabled -Dbench=disabled -Ddefault_library=static -Dbuildtype=debugoptimized \
        -Dc_args="-fsanitize=fuzzer-no-link $sanitizers" -Dc_link_args="$sanitizers" >/dev/null
meson compile -C $libraries kernels_generic fff_internal tool_common model_tools bert_files bert_blas bert >/dev/null
archives="$(find $libraries -name 'lib*.a')"
needed="$(pkg-config --cflags --libs jansson libutf8proc) -lsleef -lpthreadpool -lpthread -ldl -lm"

# Words that the readers know, which chance does not hit on: as they are, and as JSON strings.
grep -ohE '"[A-Za-z_][A-Za-z0-9_.]+"' bert/*.c tools/files/*.c tools/models/*.c | sort -u |
    sed -E 'p; s/"(.*)"/"\\"\1\\""/' >build-fuzz/words

# run TARGET: ends after the seconds, or tidily by SIGINT.
run() {
    local log="build-fuzz/$1.log" TIMEFORMAT='%U %S' result=0
    mkdir -p "build-fuzz/corpus-$1"
    tar -xf "tests/fuzz/reached/$1.tar.gz" -C "build-fuzz/corpus-$1"
    { time "build-fuzz/$1" -max_total_time="$seconds" -max_len=16384 -rss_limit_mb=2048 -timeout=20 -print_final_stats=1 \
        -dict=build-fuzz/words -artifact_prefix="build-fuzz/$1-" "build-fuzz/corpus-$1" "tests/fuzz/corpus/$1" >"$log" 2>&1; } \
        2>"$log.time" || result=$?
    [ $result -eq 0 ] || tail -n 60 "$log"
    awk -v target="$1" '/^stat::number_of_executed_units/ { executions = $2 } /^[0-9.]+ [0-9.]+$/ { cpu = $1 + $2 }
                        END { printf "%s %d %.0f\n", target, executions, cpu }' "$log" "$log.time" | tee -a build-fuzz/runs.txt
    return "$result"
}

# pack TARGET: the same inputs give the same bytes.
pack() {
    local fewest="build-fuzz/fewest-$1"
    rm -rf "$fewest"
    mkdir -p "$fewest" build-fuzz/reached
    "build-fuzz/$1" -set_cover_merge=1 -max_len=16384 "$fewest" "build-fuzz/corpus-$1" >"build-fuzz/$1.merge.log" 2>&1 ||
        { tail -n 20 "build-fuzz/$1.merge.log" && return 1; }
    tar -C "$fewest" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -cf - . |
        gzip -n9 >"build-fuzz/reached/$1.tar.gz"
}

for target in $targets; do
    case $target in create | calls) own="tests/fuzz/arena.c $(echo "tests/fuzz/$target"/*.c)" ;; *) own=tests/fuzz/files.c ;; esac
    # shellcheck disable=SC2086 # flags, files and libraries are meant to be split
    clang -g -O1 -std=c11 -D_GNU_SOURCE -I. -Iinclude -fsanitize=fuzzer $sanitizers "tests/fuzz/fuzz_$target.c" $own \
        -o "build-fuzz/$target" -Wl,--start-group $archives -Wl,--end-group $needed
    run "$target"
    pack "$target"
done
