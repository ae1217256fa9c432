#!/bin/sh
# Checks that the version is one everywhere, that the public header is plain C and C++, and the README: its C program and its
# Python lines run, the packages it names are those of scripts/setup.sh, and it is short. Links and commands: scripts/check_docs.sh.
#
#   scripts/check_header.sh BUILD
set -eu
build="$1"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
. scripts/functions.sh

scripts/check_version.sh "$build"
echo '#include <fff/fff.h>' >"$folder/header.c"
for standard in c11 c17; do
    cc -std=$standard -Wall -Wextra -pedantic -Werror -Iinclude -fsyntax-only "$folder/header.c"
done
for standard in c++11 c++20; do
    c++ -x c++ -std=$standard -Wall -Wextra -pedantic -Werror -Iinclude -fsyntax-only "$folder/header.c"
done

block README.md c >"$folder/embed.c"
diff examples/embed.c "$folder/embed.c" || fail "examples/embed.c is not the README's program"
cc -Wall -Wextra -Werror -Iinclude "$folder/embed.c" -o "$folder/embed" -L"$build" -lfff
export LD_LIBRARY_PATH="$build"
FFF_ISA='' "$folder/embed"
if FFF_ISA=none "$folder/embed"; then
    fail "the README's program succeeds on an instruction set that there is not"
fi

python=python3
"$python" -c 'import numpy' 2>/dev/null || python=/usr/bin/python3 # the one that Debian's numpy is for
block README.md python >"$folder/readme.py"
echo 'assert y.shape == (4, 768) and np.isfinite(y).all()' >>"$folder/readme.py"
FFF_ISA='' FFF_LIBRARY="$build/libfff.so" PYTHONPATH="$PWD/python" PYTHONDONTWRITEBYTECODE=1 "$python" -W error "$folder/readme.py"

# build-essential stands for the compiler, make, and dpkg-dev, by which meson knows Debian's folder for libraries.
block README.md 'sh packages' | sed -n 's/^apt-get install \([^#]*\).*/\1/p' | tr -s ' ' '\n' | grep -v '^$' | sort >"$folder/named"
{
    echo build-essential
    sed -n 's/^build="\(.*\)"/\1/p' scripts/setup.sh | tr ' ' '\n' | grep -vxE 'gcc|libc6-dev|make|dpkg-dev|ninja-build|python3'
} | sort | diff "$folder/named" - || fail "the README's packages (<) are not those of scripts/setup.sh (>)"
[ "$(wc -l <README.md)" -le 114 ] || fail "the README has grown beyond its first screens: what is long belongs into docs/"
