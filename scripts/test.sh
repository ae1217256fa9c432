#!/bin/bash
# Everything that `make test` runs. Ends with a line "N passed, N failed"; fails if anything did.
#
# FFF_TEST_SEED=N repeats a run's random inputs (each test prints its seed). FFF_TEST_SHORT=1, which emulators get, takes a part
# of the batches that test_batch tries.
set -u
cd "$(dirname "$0")/.."
passed=0 failed=0 failures=''
unset OPENBLAS_CORETYPE # it names kernels, for which an emulated CPU may lack the instructions
export FFF_TEST_SEED="${FFF_TEST_SEED:-$(date +%s)}"
echo "FFF_TEST_SEED=$FFF_TEST_SEED repeats this run"

# check NAME COMMAND...: one check, counted; its output is shown only if it fails.
check() {
    local name="$1" log
    shift
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then
        passed=$((passed + 1))
        echo "  ok      $name"
    else
        failed=$((failed + 1))
        failures="$failures
  $name"
        echo "  FAILED  $name"
        tail -n 60 "$log" | sed 's/^/    | /'
    fi
    rm -f "$log"
}

# check_if_possible NAME COMMAND...: the same, but a command that ends with 77 could not be tried here, and does not count.
check_if_possible() {
    local name="$1" log status=0
    shift
    log=$(mktemp)
    "$@" >"$log" 2>&1 || status=$?
    if [ "$status" -eq 77 ]; then
        echo "  skipped $name: $(tail -n 1 "$log")"
    else
        check "$name" sh -c "cat '$log'; exit $status"
    fi
    rm -f "$log"
}

# build FOLDER OPTIONS...: configure (once) and compile, warnings being errors.
build() {
    local folder="$1"
    shift
    if [ ! -f "$folder/build.ninja" ]; then
        check "$folder: configure" meson setup "$folder" -Dwerror=true "$@"
    fi
    check "$folder: compile without warnings" ninja -C "$folder"
}

# suite NAME FOLDER ARGUMENTS...: each test of a build, counted one by one.
suite() {
    local name="$1" folder="$2" log test result
    shift 2
    log=$(mktemp)
    local start=$SECONDS
    meson test -C "$folder" --no-rebuild --print-errorlogs "$@" >"$log" 2>&1
    local ran=0
    while read -r test result; do
        ran=$((ran + 1))
        case "$result" in
        OK | SKIP | EXPECTEDFAIL) passed=$((passed + 1)) ;;
        *)
            failed=$((failed + 1))
            failures="$failures
  $name: $test"
            ;;
        esac
    done < <(sed -nE 's#^ *[0-9]+/[0-9]+ (.*[^ ]) +(OK|SKIP|FAIL|TIMEOUT|ERROR|INTERRUPT|UNEXPECTEDPASS|EXPECTEDFAIL) +[0-9.]+s.*#\1 \2#p' "$log" | sed 's/^fff[^/]*[/] //')
    if [ "$ran" -eq 0 ] || grep -qE '^(Fail|Timeout): +[1-9]' "$log"; then
        if [ "$ran" -eq 0 ]; then
            failed=$((failed + 1))
            failures="$failures
  $name: no test ran"
        fi
        echo "  FAILED  $name"
        sed 's/^/    | /' "$log" | tail -n 100
    else
        echo "  ok      $name: $ran tests in $((SECONDS - start)) s"
    fi
    rm -f "$log"
}

machine=$(uname -m)

scripts/fetch_minilm.sh build-minilm || echo "  MiniLM cannot be fetched: what needs it is skipped"

echo "Native, gcc, release"
build build-gcc
suite "native" build-gcc
check "native: exports, and where AVX is" scripts/check_library.sh build-gcc
check_if_possible "native: the same bits with another SLEEF" scripts/check_sleef.sh build-gcc
check "header in C and C++, the README and its programs" scripts/check_header.sh build-gcc
check "installed, and used by strangers" scripts/check_consumers.sh
check "installed as the README says, into a folder of one's own" scripts/check_install.sh prefix
check_if_possible "installed as the README says, into /usr/local" scripts/check_install.sh default
python=python3
"$python" -c 'import numpy' 2>/dev/null || python=/usr/bin/python3 # the one that Debian's numpy is for
for test in test_fff test_fff_leaves test_fff_package test_fff_threads; do
    check "Python package: $test" env FFF_ISA= FFF_LIBRARY="$PWD/build-gcc/libfff.so" PYTHONPATH="$PWD/python" \
        "$python" -X dev -W error python/tests/$test.py
done

echo "Native, clang"
CC=clang build build-clang -Dbuildtype=release
suite "clang" build-clang --no-suite script
check "clang: exports, and where AVX is" scripts/check_library.sh build-clang

echo "Link-time optimisation"
build build-lto -Db_lto=true
suite "lto" build-lto --no-suite script
check "lto: exports, and where AVX is" scripts/check_library.sh build-lto

echo "Only the generic kernels"
build build-generic -Disas=[]
suite "generic" build-generic --no-suite script

echo "Address and undefined-behaviour sanitizers"
build build-asan -Db_sanitize=address,undefined -Dbuildtype=debugoptimized
UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 ASAN_OPTIONS=detect_leaks=1 suite "sanitizers" build-asan

echo "Thread sanitizer"
build build-tsan -Db_sanitize=thread -Dbuildtype=debugoptimized
FFF_TEST_SHORT=1 suite "thread sanitizer" build-tsan layer batch forest runner

if [ "$machine" = x86_64 ]; then
    echo "Older CPUs, the same binaries (QEMU)"
    export FFF_TEST_SHORT=1
    # what depends on instructions: files and tokenizers are read alike on any CPU
    instructions='kernels batch borrow forest runner dispatch errors layer overlap golden narrow no_allocation typed old_header old_header_0_3 old_header_0_4 sleef
        sleef_fake bert gelu fingerprint store'
    FFF_EXPECT_ISA=generic suite "Nehalem" build-gcc $instructions --wrapper 'qemu-x86_64 -cpu Nehalem'
    FFF_EXE_WRAPPER='qemu-x86_64 -cpu Nehalem' suite "Nehalem, the command" build-gcc tool
    FFF_EXPECT_ISA=x86_avx2 suite "Haswell" build-gcc $instructions --wrapper 'qemu-x86_64 -cpu Haswell'
    echo "AArch64 (QEMU)"
    build build-arm64 --cross-file tests/cross/aarch64-linux-gnu.ini
    FFF_EXPECT_ISA=arm_neon FFF_EXE_WRAPPER='qemu-aarch64 -cpu max' suite "AArch64" build-arm64
elif [ "$machine" = aarch64 ]; then
    echo "x86-64 (QEMU)"
    export FFF_TEST_SHORT=1
    build build-x86_64 --cross-file tests/cross/x86_64-linux-gnu.ini
    FFF_EXPECT_ISA=x86_avx2 FFF_EXE_WRAPPER='qemu-x86_64 -cpu Haswell' suite "x86-64, Haswell" build-x86_64
    FFF_EXPECT_ISA=generic suite "x86-64, Nehalem" build-x86_64 --no-suite script \
        --wrapper 'qemu-x86_64 -cpu Nehalem'
    check "x86-64: exports, and where AVX is" scripts/check_library.sh build-x86_64
fi

if [ "$failed" -gt 0 ]; then
    echo "Failed:$failures"
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
