#!/bin/sh
# scripts/engines/torch.sh BUILD: tests fff.torch with the PyTorch of Debian 12 (1.13) and a current one from PyPI.
#
# BUILD holds libfff.so. Installs Debian's packages (as root; else says which and exits with 77); the current PyTorch goes into
# build-engines/torch/, some 540 MB to download and 1.3 GB on disk, once.
set -eu
CDPATH='' cd "$(dirname "$0")/../.."
version=2.15.0 cache="$PWD/build-engines/torch"
library=$(cd "${1:?usage: scripts/engines/torch.sh BUILD}" && pwd)/libfff.so
test -f "$library" || { echo "$library is not there" >&2; exit 1; }
log=$(mktemp)
folder=$(mktemp -d)
trap 'rm -rf "$log" "$folder"' EXIT

engine=torch
. scripts/engine.sh
need_packages

# The python3 in PATH, if the operator can be compiled for it and it has pip; else Debian's.
current=python3
"$current" -c 'import pip, sysconfig, os; assert os.path.exists(sysconfig.get_paths()["include"] + "/Python.h")' 2>/dev/null ||
    current=/usr/bin/python3
tag=$("$current" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
site="$cache/$version-$tag"
if [ ! -f "$site/complete" ]; then
    rm -rf "$site"
    mkdir -p "$site"
    "$current" -m pip install --quiet --root-user-action=ignore --disable-pip-version-check --no-cache-dir --no-compile --no-deps \
        --target "$site" "torch==$version"
    "$current" -m pip install --quiet --root-user-action=ignore --disable-pip-version-check --no-cache-dir --no-compile \
        --target "$site" numpy filelock 'typing-extensions>=4.13' 'sympy>=1.13.3' networkx jinja2 fsspec 'setuptools>=77'
    "$current" scripts/engines/torch_stubs.py "$site"
    touch "$site/complete"
fi

export FFF_TORCH_CACHE="$cache/operators" FFF_LIBRARY="$library" FFF_ISA='' PYTHONWARNINGS="ignore::UserWarning" OMP_NUM_THREADS=2
unset PYTHONDONTWRITEBYTECODE # a new PyTorch takes ten seconds to import where its bytecode is not kept

debian() { env PYTHONPATH="$PWD/python" "$@"; }
recent() { env PYTHONPATH="$PWD/python:$site" "$@"; }

tests() { some_tests 'python/tests/test_fff_torch*.py' "$@"; }
some_tests() { # FILES COMMAND...
    files=$1
    shift
    for file in $files; do
        "$@" "$file" || return 1
    done
}

# As a stranger has it: a wheel, in a folder of its own, without this checkout's files.
wheel() (
    "$current" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$folder" . &&
        "$current" -m pip install --quiet --root-user-action=ignore --disable-pip-version-check --no-deps --target "$folder/site" \
            "$folder"/libfff-*.whl &&
        cd "$folder" && env -u FFF_LIBRARY PYTHONPATH="$folder/site:$site" FFF_TORCH_CACHE="$folder/operators" "$current" -c '
import numpy, torch, fff, fff.torch
assert fff.__file__.startswith("'"$folder"'") and fff.torch.backend() == "native", fff.torch.backend()
layer = fff.torch.FFF(64, 64, 5, 2).eval()
x = torch.randn(9, 64)
with torch.no_grad():
    assert torch.allclose(layer(x), layer.dense(x), atol=1e-5)
    layer = fff.torch.LeafFFF(64, 8, 64, 3).eval()
    assert torch.allclose(layer(x), layer.dense(x), atol=1e-5)'
)
# What keeps one core busy, mostly, in two lanes that take about as long, each with a log of its own: Inductor's tests, and most
# others. Threads that wait sleep, since they have no core for themselves.
others() {
    log="$log.others"
    check "1.13: compiled operator" debian /usr/bin/python3 -m fff.torch
    check "1.13: tests" tests debian env FFF_TEST_NATIVE=1 /usr/bin/python3
    check "$version: installed from a wheel" wheel
    for what in images text; do
        check "1.13: examples/train_$what, in short" env PYTHONPATH="$PWD/python:$cache/tokenizers" OMP_NUM_THREADS=1 \
            /usr/bin/python3 "examples/train_$what/train.py" --quick --out "$folder/$what"
    done
    check "1.13: examples/convert_minilm, in short" env PYTHONPATH="$PWD/python:$cache/tokenizers" OMP_NUM_THREADS=1 \
        /usr/bin/python3 examples/convert_minilm/convert.py --quick --model build-minilm --out "$folder/convert"
    # What of it PyTorch's version could make a difference to: how it is registered, compiled and traced. 1.13 runs all.
    check "$version: tests, operator in Python" some_tests 'python/tests/test_fff_torch.py python/tests/test_fff_torch_[lt]*.py' \
        recent env FFF_TORCH_NATIVE=0 FFF_TEST_NATIVE=0 "$current"
    rm -f "$log"
    return "$failed"
}
inductor() {
    log="$log.inductor"
    check "$version: compiled operator" recent "$current" -m fff.torch
    check "$version: tests, torch.compile by Inductor among them" \
        tests recent env FFF_TEST_NATIVE=1 FFF_TEST_INDUCTOR=1 "$current"
    check "1.13: tests, operator in Python" tests debian env FFF_TORCH_NATIVE=0 FFF_TEST_NATIVE=0 /usr/bin/python3
    rm -f "$log"
    return "$failed"
}
# The training examples' data are Debian's packages; `tokenizers` is PyPI's.
check "data and tokenizers of the training examples" \
    sh -c "scripts/setup.sh train && scripts/fetch_tokenizers.sh '$cache/tokenizers' && scripts/fetch_minilm.sh build-minilm"
export OMP_WAIT_POLICY=passive
at_once others inductor || failed=1
unset OMP_WAIT_POLICY
check "$version: two processes, torchrun and gloo" \
    recent env OMP_NUM_THREADS=1 "$current" -m torch.distributed.run --standalone --nproc-per-node 2 examples/torchrun/sharded.py
check "$version: examples/train_text, two processes" env PYTHONPATH="$PWD/python:$site:$cache/tokenizers" OMP_NUM_THREADS=1 \
    "$current" -m torch.distributed.run --standalone --nproc-per-node 2 examples/train_text/train.py --quick --out "$folder/text2"
for each in debian recent; do
    python=/usr/bin/python3
    [ "$each" = debian ] || python=$current
    check "$each: a PEER layer by listed rows" "$each" "$python" examples/peer/peer.py 64 64 33 3
    [ "$failed" -ne 0 ] || sed -n 's/^selection/          &/p' "$log"
done
# Far below what it is (the README beside the module has figures), for a machine that is busy: an overhead that has come back shows.
check "$version: speed against the authors' module" recent "$current" python/bench/bench_torch.py 5 40 10
if [ "$failed" -eq 0 ]; then
    grep -E '^ +batch +(1|2048) ' "$log" | sed 's/^ */          /'
fi
check "$version: speed of a training step" recent "$current" python/bench/bench_torch_train.py 3 10 8
if [ "$failed" -eq 0 ]; then
    grep -E '^ +(batch|rows is)' "$log" | sed 's/^ */          /'
fi
exit "$failed"
