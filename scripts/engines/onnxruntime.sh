#!/bin/sh
# scripts/engines/onnxruntime.sh BUILD [COMMAND...]: builds the operators fff:PathFFF and fff:LeafFFF for ONNX
# Runtime and tests them in the real one.
#
# BUILD is a meson build folder that holds libfff.so. What is fetched goes into build-engines/onnxruntime. With a
# COMMAND, that is run instead of the tests, in the same environment ($PYTHON in quotes: the Python for it):
#
#   taskset -c 1 scripts/engines/onnxruntime.sh build '$PYTHON' examples/onnxruntime/bench.py
#
# Exits 0 if all checks pass, 1 if one does not, 77 if something must be installed first (as root it is).
set -eu
CDPATH='' cd "$(dirname "$0")/../.."
[ $# -ge 1 ] || { echo "usage: scripts/engines/onnxruntime.sh BUILD [COMMAND...]" >&2; exit 2; }
build=$(cd "$1" && pwd)
shift
[ -f "$build/libfff.so" ] || { echo "onnxruntime: $build holds no libfff.so" >&2; exit 1; }
cache="$PWD/build-engines/onnxruntime" source="$PWD/examples/onnxruntime"
export PYTHON=/usr/bin/python3 # Debian's: the one that its python3-torch is for
mkdir -p "$cache"
engine=onnxruntime log="$cache/log"
. scripts/engine.sh

# ---- What it needs ---------------------------------------------------------------------------------
# Debian's PyTorch, and from PyPI the runtime and `onnx`. onnxruntime_c_api.h is in no wheel of ONNX Runtime's own and
# in no package of Debian 12; AMD's quantiser, amd-quark, carries that of version 1.17 to build its own operators with.
# Every later runtime offers that version of the API.
# packages FOLDER PACKAGE...: Python packages in a folder of their own. Made whole or not at all.
packages() {
    folder="$cache/$1"
    shift
    [ ! -d "$folder" ] || return 0
    rm -rf "$folder.part"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --only-binary :all: \
        --no-warn-conflicts --target "$folder.part" "$@"
    mv "$folder.part" "$folder"
}

header_sha256=50dffd48d32043ebc05558bef52551879a3ee919796734458dc60ae83e517c95
header() {
    if [ ! -f "$cache/include/onnxruntime_c_api.h" ]; then
        rm -rf "$cache/quark" && mkdir -p "$cache/quark" "$cache/include"
        "$PYTHON" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
            -d "$cache/quark" amd-quark==0.13
        "$PYTHON" - "$cache" <<'PYTHON'
import pathlib
import sys
import zipfile

cache = pathlib.Path(sys.argv[1])
(wheel,) = (cache / "quark").glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    (name,) = (name for name in archive.namelist() if name.endswith("/onnxruntime_c_api.h"))
    (cache / "include" / "onnxruntime_c_api.h").write_bytes(archive.read(name))
PYTHON
        rm -rf "$cache/quark"
    fi
    echo "$header_sha256  $cache/include/onnxruntime_c_api.h" | sha256sum --check --quiet || {
        echo "onnxruntime: onnxruntime_c_api.h is not the one that was pinned" >&2
        exit 1
    }
}

need_packages
header
packages site onnxruntime==1.31.1 onnx==1.23.2 numpy==1.26.4 # Debian's PyTorch is built for NumPy 1
packages site-1.17 --no-deps onnxruntime==1.17.3              # the oldest that will do
packages site-1.16 --no-deps onnxruntime==1.16.3              # older than the header

# ---- Checks ----------------------------------------------------------------------------------------
# shellcheck disable=SC2317 # called by check
compile() {
    "${CC:-cc}" -std=c11 -O2 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden -isystem "$cache/include" \
        -I include "$source"/*.c -o "$FFF_ORT_LIBRARY" -L "$build" -lfff -Wl,-rpath,"$build" -Wl,-z,defs -pthread
}

# with SITE COMMAND...: with that folder's packages first.
with() {
    first="$1"
    shift
    env PYTHONPATH="$cache/$first:$cache/site:$PWD/python:$source/tests" "$@"
}

export FFF_LIBRARY="$build/libfff.so" FFF_ORT_LIBRARY="$cache/libfff_onnxruntime.so" PYTHONDONTWRITEBYTECODE=1
tests="$source/tests"
check "compiled without warnings, all symbols found" compile
if [ $# -gt 0 ]; then
    for word; do # '$PYTHON' is replaced
        shift
        # shellcheck disable=SC2016 # a literal
        [ "$word" != '$PYTHON' ] || word="$PYTHON"
        set -- "$@" "$word"
    done
    with site "$@"
    exit
fi
exported=$(nm -D --defined-only "$FFF_ORT_LIBRARY" | awk '{ print $3 }')
check "exports RegisterCustomOps and nothing else" test "$exported" = RegisterCustomOps
check "fff:PathFFF in ONNX Runtime 1.31.1: bits, threads, bad use" \
    with site "$PYTHON" -X faulthandler "$tests/test_path_fff.py"
check "fff:LeafFFF in ONNX Runtime 1.31.1: recorded results, bits, bad use" \
    with site "$PYTHON" -X faulthandler "$tests/test_leaf_fff.py"
check "fff:PathFFF in ONNX Runtime 1.17.3, the oldest" \
    with site-1.17 "$PYTHON" -X faulthandler "$tests/test_path_fff.py"
check "fff:LeafFFF in ONNX Runtime 1.17.3, the oldest" \
    with site-1.17 "$PYTHON" -X faulthandler "$tests/test_leaf_fff.py"
check "ONNX Runtime 1.16.3, older than the header, refuses it" with site-1.16 "$PYTHON" "$tests/test_registration.py" \
    'fff:PathFFF needs ONNX Runtime 1.17 or later; this is 1.16.3'
echo 'const char *fff_version(void) { return "0.0.9"; }' | "${CC:-cc}" -shared -fPIC -x c - -o "$cache/older.so"
check "an older libfff is refused" \
    with site env LD_PRELOAD="$cache/older.so" "$PYTHON" "$tests/test_registration.py" \
    'fff:PathFFF was built for libfff [0-9]+[.][0-9]+ and found 0.0.9'
check "models exported from PyTorch" with site "$PYTHON" -X faulthandler "$tests/test_export.py"
check "the export script, on a model of the published format" \
    with site "$PYTHON" "$source/export.py" tests/data/bert_fff_tiny "$cache/bert_fff_tiny.onnx"
exit $failed
