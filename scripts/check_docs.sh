#!/bin/bash
# Checks the documentation: links and anchors lead somewhere (scripts/check_links.py), the tables of benchmarks are those of a
# report (bench/page.py), what a page shows of a program is what it is, docs/start.md names the README's packages, the commands in
# blocks that begin with ```sh run, of README.md and docs/start.md, run, and what examples/save_layer.py writes (by safetensors, from
# PyPI) is a layer.
#
#   scripts/check_docs.sh BUILD           with the library and the command of a build; takes seconds
#   scripts/check_docs.sh --from-nothing  as a stranger: in a copy of what git has, with the build that docs/start.md tells; minutes
set -eu
CDPATH='' cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
. scripts/functions.sh

python=python3
"$python" -c 'import numpy' 2>/dev/null || python=/usr/bin/python3 # the one that Debian's numpy is for
"$python" scripts/check_links.py
"$python" bench/page.py

# An excerpt: a block whose info names a file is, as it stands, a part of it.
"$python" - $(git ls-files '*.md') <<'END' || fail "a page does not show a program as it is"
import pathlib
import re
import sys

excerpts, wrong = 0, 0
for page in sys.argv[1:]:
    for program, excerpt in re.findall(r"^```\w+ (\S*/\S+)\n(.*?)^```$", pathlib.Path(page).read_text(encoding="utf-8"), re.M | re.S):
        file = pathlib.Path(program)
        excerpts += 1
        if not (excerpt.strip() and file.is_file() and excerpt in file.read_text(encoding="utf-8")):
            wrong += 1
            print(f"{page} does not show {program} as it is", file=sys.stderr)
print(f"{excerpts} excerpts")
sys.exit(wrong > 0 or excerpts == 0)
END

block README.md 'sh packages' | grep '^apt-get install' >"$folder/packages" || fail "the README names no packages"
while read -r line; do
    block docs/start.md 'sh packages' | grep -qxF "$line" || fail "docs/start.md lacks the README's line: $line"
done <"$folder/packages"

mkdir "$folder/copy" "$folder/bin"
if [ "${1:?BUILD or --from-nothing}" = --from-nothing ]; then
    git archive HEAD | tar -x -C "$folder/copy"
    (cd "$folder/copy" && block docs/start.md 'sh build' >"$folder/build.sh" && bash -eux "$folder/build.sh")
    command=build/tools/fff
else
    # The source as it is, but with another folder "build": its command takes no time for measuring.
    real=$(realpath "$1") || fail "there is no $1"
    [ -x "$real/tools/fff" ] || fail "$1 has no command"
    for name in *; do
        [ "$name" = build ] || ln -s "$PWD/$name" "$folder/copy/$name"
    done
    mkdir -p "$folder/copy/build/tools"
    ln -s "$real"/libfff.so* "$folder/copy/build/"
    cat >"$folder/copy/build/tools/fff" <<END
#!/bin/sh
case "\$1" in bench) set -- "\$@" --seconds 1 --rounds 3 ;; esac # of an option given twice the last holds
exec "$real/tools/fff" "\$@"
END
    chmod +x "$folder/copy/build/tools/fff"
    command=build/tools/fff
fi
ln -s "$folder/copy/$command" "$folder/bin/fff"
ln -s "$(command -v "$python")" "$folder/bin/python3"

for page in README.md docs/start.md; do
    block "$page" 'sh run' >"$folder/run.sh"
    # Each line by itself, so that what failed is named.
    echo "$page"
    (cd "$folder/copy" && PATH="$folder/bin:$PATH" PYTHONDONTWRITEBYTECODE=1 FFF_ISA='' bash -eux "$folder/run.sh") ||
        fail "$page: the last command above failed"
done

"$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --target "$folder/site" safetensors
PYTHONPATH="$folder/site" PYTHONDONTWRITEBYTECODE=1 "$python" examples/save_layer.py "$folder/layer.safetensors"
"$folder/bin/fff" verify "$folder/layer.safetensors"
