#!/bin/sh
# Installs what is missing on Debian 12 or later; without root, says what to install.
#
#   scripts/setup.sh build   what building the library and the demo needs
#   scripts/setup.sh bench   and what `make bench` needs
#   scripts/setup.sh test    and what `make test` needs: the other compiler, emulators, the other architecture
#   scripts/setup.sh check   and what `make check` needs
#   scripts/setup.sh coverage  and what scripts/coverage.sh needs
#   scripts/setup.sh wheels  what scripts/build_wheels.sh needs
#   scripts/setup.sh systems what scripts/check_systems.sh and scripts/windows_packages.sh need, on x86-64: other C libraries, Windows
#   scripts/setup.sh debian  what scripts/check_debian.sh and scripts/check_bare.sh need
#   scripts/setup.sh train   what the library and the training examples need: PyTorch, the data, matplotlib
#   scripts/setup.sh docs    what `make docs` needs
#   scripts/setup.sh ggml|onnxruntime|torch   what the tests inside that engine need beside a build of the library
#
# Exits with 1 if something is missing that it may not install.
set -eu

build="gcc libc6-dev make dpkg-dev meson ninja-build pkg-config python3 libsleef-dev libjansson-dev libutf8proc-dev libopenblas0 libpthreadpool-dev"
test="git binutils python3-pip python3-numpy python3-matplotlib g++ clang libclang-rt-14-dev libcmocka-dev libbenchmark-dev qemu-user cmake clang-format clang-tidy cppcheck"
bench="g++ libbenchmark-dev python3-pip python3-matplotlib"
docs="git doxygen python3 python3-pip"
ggml="gcc g++ cmake ninja-build python3-pip"
onnxruntime="gcc libc6-dev python3 python3-pip python3-numpy python3-torch"
torch="g++ python3-torch libtorch-dev python3-dev pybind11-dev python3-numpy python3-pip binutils pkg-config libsleef-dev ninja-build"
train="g++ libtorch-dev python3-dev pybind11-dev python3-torch python3-numpy python3-matplotlib python3-tqdm python3-pip dataset-fashion-mnist bible-kjv bible-kjv-text wordnet-base"
wheels="gcc libc6-dev meson ninja-build pkg-config python3-venv git binutils libsleef-dev libjansson-dev libutf8proc-dev libpthreadpool-dev qemu-user"
systems="clang llvm cmake musl-tools gcc-mingw-w64-x86-64 wine wine64"
debian="git debootstrap dpkg-dev"
case "$(uname -m)" in
x86_64) own=amd64 other=arm64 cross="gcc-aarch64-linux-gnu libc6-dev-arm64-cross" ;;
aarch64) own=arm64 other=amd64 cross="gcc-x86-64-linux-gnu libc6-dev-amd64-cross" ;;
*) own='' other='' cross='' ;;
esac
foreign=''
if [ -n "$other" ]; then
    for name in libsleef-dev libjansson-dev libutf8proc-dev libopenblas0 libcmocka-dev; do
        foreign="$foreign $name:$other"
    done
fi

case "${1:-}" in
build) wanted="$build" foreign='' ;;
bench) wanted="$build $bench" foreign='' ;;
test) wanted="$build $test $cross" ;;
check) wanted="$build git g++ binutils python3-pip python3-numpy libcmocka-dev clang-format" foreign='' ;;
coverage) wanted="$build python3-pip libcmocka-dev gcovr" foreign='' ;;
train) wanted="$build $train" foreign='' ;;
docs) wanted="$docs" foreign='' ;;
wheels)
    wanted="$wheels $cross" foreign=''
    for name in libsleef-dev libjansson-dev libutf8proc-dev; do
        foreign="$foreign $name:$other"
    done
    ;;
systems)
    wanted="$build $systems" foreign=''
    [ -z "$other" ] || foreign=" libsleef-dev:$other" # whose header check_darwin.sh compiles with
    ;;
debian) wanted="$debian" foreign='' ;;
ggml) wanted="$ggml" foreign='' ;;
onnxruntime) wanted="$onnxruntime" foreign='' ;;
torch) wanted="$torch" foreign='' ;;
*)
    echo "usage: scripts/setup.sh build|bench|test|check|coverage|wheels|systems|debian|train|docs|ggml|onnxruntime|torch" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "This is no Debian system: nothing is installed automatically. Needed, by Debian's names:"
    echo "  $wanted$foreign"
    exit 0
fi

missing=''
for package in $wanted $foreign; do
    # Once a foreign architecture is enabled, a name without one is ambiguous for some packages.
    case "$package" in *:*) full="$package" ;; *) full="$package:$own" ;; esac
    if ! dpkg-query -W -f='${Status}\n' "$full" 2>/dev/null | grep -q 'ok installed' &&
        ! dpkg-query -W -f='${Status}\n' "$package" 2>/dev/null | grep -q 'ok installed'; then
        missing="$missing $package"
    fi
done
[ -z "$missing" ] && exit 0

add_architecture=''
if [ -n "$foreign" ] && ! dpkg --print-foreign-architectures | grep -qx "$other"; then
    add_architecture="dpkg --add-architecture $other && "
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "Missing packages. As root, run:" >&2
    echo "  ${add_architecture}apt-get update && apt-get install$missing" >&2
    exit 1
fi
echo "Installing:$missing"
if [ -n "$add_architecture" ]; then
    dpkg --add-architecture "$other"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # the list is meant to be split
apt-get install -y -qq --no-install-recommends $missing >/dev/null
