#!/bin/bash
# Everything that `make test` runs. Ends with a line "N passed, N failed"; fails if anything did.
#
# FFF_TEST_SEED=N repeats a run's random inputs (each test prints its seed). FFF_TEST_SHORT=1 takes a part of what only repeats: of
# widths, batches, and rounds of random numbers. All but the two compilers' release builds get it.
set -u
CDPATH='' cd "$(dirname "$0")/.."
. scripts/at_once.sh
. scripts/check.sh
unset OPENBLAS_CORETYPE # it names kernels, for which an emulated CPU may lack the instructions
export FFF_TEST_SEED="${FFF_TEST_SEED:-$(date +%s)}"
echo "FFF_TEST_SEED=$FFF_TEST_SEED repeats this run"

# group NAME: what follows is of it. Says how long the one before took, what was built for it included.
group=''
group() {
    [ -z "$group" ] || echo "  $group: $((SECONDS - group_start)) s in all"
    group="$1" group_start=$SECONDS
    [ -z "$group" ] || echo "$group"
}

# build FOLDER OPTIONS... [-- TARGETS...]: configure (once) and compile, all unless told what, warnings being errors.
build() {
    local folder="$1" options=()
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    if [ ! -f "$folder/build.ninja" ]; then
        check "$folder: configure" meson setup "$folder" -Dwerror=true -Dtests=enabled "${options[@]}"
    fi
    check "$folder: compile without warnings" ninja -C "$folder" "${@:2}"
}

# suite NAME FOLDER [TEST...] [OPTIONS...]: each test of a build, or those named, counted one by one.
suite() {
    local name="$1" folder="$2" log ran all skipped test status=0 start=$SECONDS
    shift 2
    log=$(mktemp)
    meson test -C "$folder" --no-rebuild --print-errorlogs "$@" >"$log" 2>&1 || status=$?
    # Meson has a line for each test; after that of one that failed comes what it printed.
    sed '/^Summary of Failures:/,$d' "$log" | awk -v name="$name" -v results="$results" '
        /^ *[0-9]+\/[0-9]+ / && match($0, / +(OK|SKIP|FAIL|TIMEOUT|ERROR|INTERRUPT|UNEXPECTEDPASS|EXPECTEDFAIL) +[0-9.]+s/) {
            test = substr($0, 1, RSTART - 1)
            sub(/^ *[0-9]+\/[0-9]+ (fff[^\/]*\/ )?/, "", test)
            bad = substr($0, RSTART) !~ /^ +(OK|SKIP|EXPECTEDFAIL) /
            skipped = substr($0, RSTART) ~ /^ +SKIP /
            print (bad ? "failed" : skipped ? "skipped" : "passed") ": " name ": " test >>results
            if (bad) {
                print "  FAILED  " name ": " test
            }
            next
        }
        bad { print "    | " $0 }'
    ran=$(grep -c "^[a-z]*: $name: " "$results") skipped=$(grep -c "^skipped: $name: " "$results")
    all=$(sed -nE 's,^ *[0-9]+/([0-9]+) .*,\1,p' "$log" | head -n 1)
    if [ "$ran" -eq 0 ] || [ "$ran" -ne "${all:-0}" ]; then
        check "$name: all tests" sh -c "cat '$log'; echo '$ran of ${all:-0} tests ran'; exit 1"
    elif [ "$status" -ne 0 ] && ! grep -q "^failed: $name: " "$results"; then
        check "$name: meson" sh -c "cat '$log'; echo 'no test failed, but meson ended with $status'; exit 1"
    fi
    while [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; do # Meson passes over names that it does not know
        test="$1"
        grep -qx "[a-z]*: $name: $test" "$results" || check "$name: $test" sh -c 'echo "there is no such test"; exit 1'
        shift
    done
    if ! grep -q "^failed: $name: " "$results"; then
        echo "  ok      $name: $((ran - skipped)) tests in $((SECONDS - start)) s, $skipped skipped"
    fi
    rm -f "$log"
}

machine=$(uname -m)

scripts/fetch_minilm.sh build-minilm || echo "  MiniLM cannot be fetched: what needs it is skipped"

group "Native, gcc, release"
build build-gcc
suite "native" build-gcc
check "native: exports, and where AVX is" scripts/check_library.sh build-gcc
python=python3
"$python" -c 'import numpy' 2>/dev/null || python=/usr/bin/python3 # the one that Debian's numpy is for
python_test() {
    check "Python package: $1" env FFF_ISA= FFF_LIBRARY="$PWD/build-gcc/libfff.so" PYTHONPATH="$PWD/python" \
        "$python" -X dev -W error "python/tests/$1.py"
}
python_test test_fff_threads # which measures time: alone
packages() {
    check "native: the same bits with another SLEEF" scripts/check_sleef.sh build-gcc
    check "header in C and C++, the README and its programs" scripts/check_header.sh build-gcc
    check "the same bits whatever CFLAGS holds" scripts/check_flags.sh
    check "header for Microsoft's compilers" scripts/check_systems.sh header
    for test in test_fff test_fff_leaves test_fff_package; do
        python_test $test
    done
    check "installed as the README says, into /usr/local" scripts/check_install.sh default
    check "installed as the README says, into a folder of one's own" scripts/check_install.sh prefix
}
strangers() {
    check "installed, and used by strangers" scripts/check_consumers.sh
    check "documentation: links, excerpts, commands" scripts/check_docs.sh build-gcc
}
at_once packages strangers || check "both came to their ends" false

group "Native, clang"
CC=clang build build-clang -Dbuildtype=release
suite "clang" build-clang --no-suite script
check "clang: exports, and where AVX is" scripts/check_library.sh build-clang

group "Link-time optimisation"
# What uses the shared library, and the soak: each program that has libfff in itself takes as long to link as the library.
lto=(adam differentiate dispatch errors golden layer narrow no_allocation overlap typed)
build build-lto -Db_lto=true -Dbench=disabled -- tools/fff tests/fingerprint tests/soak "${lto[@]/#/tests/test_}"
FFF_TEST_SHORT=1 suite "lto" build-lto fingerprint soak "${lto[@]}"
check "lto: exports, and where AVX is" scripts/check_library.sh build-lto

group "Only the generic kernels"
build build-generic -Disas=[]
FFF_TEST_SHORT=1 suite "generic" build-generic --no-suite script

group "Address and undefined-behaviour sanitizers"
# -O1, which takes half the time to compile
build build-asan -Db_sanitize=address,undefined -Dbuildtype=debugoptimized -Doptimization=1 -Dbench=disabled
UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 ASAN_OPTIONS=detect_leaks=1 FFF_TEST_SHORT=1 suite "sanitizers" build-asan

group "Thread sanitizer"
threaded=(backward batch forest layer runner)
build build-tsan -Db_sanitize=thread -Dbuildtype=debugoptimized -Dbench=disabled -- "${threaded[@]/#/tests/test_}"
FFF_TEST_SHORT=1 suite "thread sanitizer" build-tsan "${threaded[@]}"

if [ "$machine" = x86_64 ]; then
    group "Older CPUs, the same binaries (QEMU)"
    export FFF_TEST_SHORT=1
    # what depends on instructions: files and tokenizers are read alike on any CPU
    instructions='kernels soak backward batch borrow forest runner adam differentiate dispatch errors layer overlap golden narrow no_allocation typed old_header_0_2 old_header_0_5 sleef
        sleef_fake bert gelu derivatives fingerprint store'
    libraries() {
        FFF_EXPECT_ISA=generic suite "Nehalem" build-gcc $instructions --wrapper 'qemu-x86_64 -cpu Nehalem'
        FFF_EXPECT_ISA=x86_avx2 suite "Haswell" build-gcc $instructions --wrapper 'qemu-x86_64 -cpu Haswell'
    }
    tool() { # one long test
        FFF_EXE_WRAPPER='qemu-x86_64 -cpu Nehalem' suite "Nehalem, the command" build-gcc tool
    }
    at_once libraries tool || check "both came to their ends" false
    group "AArch64 (QEMU)"
    build build-arm64 --cross-file tests/cross/aarch64-linux-gnu.ini
    FFF_EXPECT_ISA=arm_neon FFF_EXE_WRAPPER='qemu-aarch64 -cpu max' suite "AArch64" build-arm64
elif [ "$machine" = aarch64 ]; then
    group "x86-64 (QEMU)"
    export FFF_TEST_SHORT=1
    build build-x86_64 --cross-file tests/cross/x86_64-linux-gnu.ini
    FFF_EXPECT_ISA=x86_avx2 FFF_EXE_WRAPPER='qemu-x86_64 -cpu Haswell' suite "x86-64, Haswell" build-x86_64
    FFF_EXPECT_ISA=generic suite "x86-64, Nehalem" build-x86_64 --no-suite script \
        --wrapper 'qemu-x86_64 -cpu Nehalem'
    check "x86-64: exports, and where AVX is" scripts/check_library.sh build-x86_64
fi

group ""
summary
