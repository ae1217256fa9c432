#!/bin/sh
# Checks that the public header is plain C and C++, and that the README's program compiles and runs.
#
#   scripts/check_header.sh BUILD
set -eu
build="$1"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
echo '#include <fff/fff.h>' >"$folder/header.c"
for standard in c11 c17; do
    cc -std=$standard -Wall -Wextra -pedantic -Werror -Iinclude -fsyntax-only "$folder/header.c"
done
for standard in c++11 c++20; do
    c++ -x c++ -std=$standard -Wall -Wextra -pedantic -Werror -Iinclude -fsyntax-only "$folder/header.c"
done
awk '/^```c$/ { inside = 1; next } /^```$/ { inside = 0 } inside' README.md >"$folder/embed.c"
diff examples/embed.c "$folder/embed.c" || { echo "examples/embed.c is not the README's program" >&2; exit 1; }
cc -Wall -Wextra -Werror -Iinclude "$folder/embed.c" -o "$folder/embed" -L"$build" -lfff
LD_LIBRARY_PATH="$build" "$folder/embed"
