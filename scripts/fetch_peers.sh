#!/bin/sh
# Fetches the newest OpenBLAS and MKL, as Python wheels, for the benchmarks to load:
#
#   eval "$(scripts/fetch_peers.sh)"          into build/peers
#   eval "$(scripts/fetch_peers.sh FOLDER)"
#
# Prints the settings that make fff_bench use them. Needs pip; nothing is installed.
set -eu
folder="${1:-build/peers}"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
for package in scipy-openblas32 mkl; do
    if ! ls "$folder/$package".done >/dev/null 2>&1; then
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: -d "$folder" "$package" >&2
        python3 -m zipfile -e "$folder/$(echo "$package" | tr - _)"-[0-9]*.whl "$folder/$package"
        touch "$folder/$package.done"
    fi
done
openblas=$(find "$folder/scipy-openblas32" -name 'libscipy_openblas.so' | head -n 1)
mkl=$(find "$folder/mkl" -name 'libmkl_rt.so.*' | head -n 1)
echo "export FFF_BENCH_OPENBLAS='$openblas' FFF_BENCH_MKL='$mkl'"
