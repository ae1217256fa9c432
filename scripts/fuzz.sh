#!/bin/sh
# scripts/fuzz.sh [SECONDS] [TARGET]: the readers of files against inputs that libFuzzer invents, under address and
# undefined-behaviour sanitizers; an hour of each target (safetensors, config, tokenizer) unless told. What it finds is in
# build-fuzz/: a crash belongs into tests/fuzz/corpus/TARGET, where `make test` replays it.
set -eu
cd "$(dirname "$0")/.."
seconds="${1:-3600}" targets="${2:-safetensors config tokenizer}"
mkdir -p build-fuzz
flags="-g -O1 -std=c11 -D_GNU_SOURCE -I. -Iinclude -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all"
libraries="$(pkg-config --cflags --libs jansson libutf8proc) -lm"
# fff_nodes_per_tree() is all that the readers use of the library.
meson setup build-fuzz/library -Dtools=disabled -Dtests=disabled -Dbench=disabled >/dev/null 2>&1 || true
ninja -C build-fuzz/library --quiet
for target in $targets; do
    # shellcheck disable=SC2086 # flags and libraries are meant to be split
    clang $flags "tests/fuzz/fuzz_$target.c" bert/config.c bert/file.c bert/file_kind.c bert/json_file.c bert/json_walk.c \
        bert/report.c bert/safetensors.c bert/sentence.c bert/tensor.c bert/characters.c bert/matcher.c bert/normalize.c \
        bert/text.c bert/wordpiece*.c -o "build-fuzz/$target" $libraries -Lbuild-fuzz/library -lfff \
        -Wl,-rpath,"$PWD/build-fuzz/library"
    mkdir -p "build-fuzz/corpus-$target"
    "build-fuzz/$target" -max_total_time="$seconds" -max_len=8192 -rss_limit_mb=2048 -timeout=20 -print_final_stats=1 \
        -artifact_prefix="build-fuzz/$target-" "build-fuzz/corpus-$target" "tests/fuzz/corpus/$target"
done
