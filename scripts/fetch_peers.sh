#!/bin/sh
# Fetches the newest OpenBLAS, MKL and oneDNN, as Python wheels, for the benchmarks to load, and the Python package
# fastfeedforward:
#
#   eval "$(scripts/fetch_peers.sh)"          into build/peers, about 3 GB
#   eval "$(scripts/fetch_peers.sh FOLDER)"
#
# Prints the settings that make fff_bench use them. Needs pip; nothing is installed. What cannot be had (no network, no
# wheel for this architecture) is said, and left out.
set -eu
folder="${1:-build/peers}"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

# get NAME PACKAGE...: the shared libraries of the packages, and what lies beside them, in $folder/NAME; of a package
# without any, all of it.
get() {
    name="$1"
    shift
    [ -f "$folder/$name.done" ] && return
    work="$folder/$name.part"
    rm -rf "$work"
    mkdir -p "$work/wheels" "$work/files" "$folder/$name"
    if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        -d "$work/wheels" "$@" >&2; then
        echo "fetch_peers: cannot get $*; the benchmarks do without $name" >&2
        rm -rf "$work"
        return
    fi
    for wheel in "$work"/wheels/*.whl; do
        python3 -m zipfile -e "$wheel" "$work/files"
    done
    find "$work/files" -type d -name lib -exec cp -R {}/. "$folder/$name/" \;
    [ -n "$(find "$work/files" -type d -name lib)" ] || cp -R "$work/files/." "$folder/$name/"
    rm -rf "$work"
    touch "$folder/$name.done"
}

# setting VARIABLE FOLDER PATTERN: names the library.
setting() {
    library=$(find "$folder/$2" -name "$3" 2>/dev/null | sort | head -n 1)
    [ -z "$library" ] || echo "export $1='$library'"
}

get openblas scipy-openblas32
get mkl mkl
# The newest oneDNN runs on the CPU through SYCL, which needs all of these; the last one for OpenMP, which has less
# to do for each call, is of 2023. The harness times both.
get onednn onednn intel-sycl-rt intel-cmplr-lib-rt intel-cmplr-lib-ur intel-opencl-rt tbb umf
get onednn-omp onednn-cpu-gomp
get fastfeedforward fastfeedforward
setting FFF_BENCH_OPENBLAS openblas 'libscipy_openblas.so'
setting FFF_BENCH_MKL mkl 'libmkl_rt.so.*'
setting FFF_BENCH_ONEDNN onednn 'libdnnl.so.3'
setting FFF_BENCH_ONEDNN_OMP onednn-omp 'libdnnl.so.3'
if [ -f "$folder/onednn.done" ]; then
    echo "export LD_LIBRARY_PATH='$folder/onednn'\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
    setting OCL_ICD_FILENAMES onednn 'libintelocl.so'
    echo "export ONEAPI_DEVICE_SELECTOR=opencl:cpu"
fi
[ ! -f "$folder/fastfeedforward.done" ] || echo "export FFF_BENCH_FASTFEEDFORWARD='$folder/fastfeedforward'"
