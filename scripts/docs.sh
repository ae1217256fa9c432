#!/bin/bash
# Makes the documentation's site, build-docs/html: the pages of the repository, the reference of the C interface out of fff.h (by
# Doxygen), that of the Python package out of its docstrings. Fails if a link within it leads nowhere, or a function that the library
# exports is missing. Needs Doxygen (scripts/setup.sh docs); Sphinx and its extensions are fetched into build-docs/site-packages.
set -eu
CDPATH='' cd "$(dirname "$0")/.."
out=build-docs site=$PWD/build-docs/site-packages
python=/usr/bin/python3 # Debian's, which pip's packages here are for
versions="sphinx==9.0.4 myst-parser==5.2.0 breathe==5.1.0 sphinx-autoapi==3.9.0 furo==2025.12.19"
if [ "$(cat "$site/versions" 2>/dev/null)" != "$versions" ]; then
    rm -rf "$site"
    # shellcheck disable=SC2086 # the list is meant to be split
    "$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$site" $versions
    echo "$versions" >"$site/versions"
fi
export PYTHONPATH="$site"

rm -rf "$out/source" "$out/doxygen" "$out/html"
mkdir -p "$out/source"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
    [ ! -f "$file" ] || printf '%s\0' "$file"
done | xargs -0 cp --parents -t "$out/source"
# The index, and below it what pages it does not name.
{
    cat docs/site/index.in
    printf '\n```{toctree}\n:caption: More\n:maxdepth: 1\n\n'
    (cd "$out/source" && find . -name '*.md' -not -path './.github/*' | sed 's|^\./||; s|\.md$||' | sort) |
        grep -vxFf docs/site/index.in || true
    echo '```'
} >"$out/index.md"
mv "$out/index.md" "$out/source/index.md"
mkdir -p "$out/source/reference"
"$python" docs/site/reference_c.py include/fff/fff.h >"$out/source/reference/c.md"

doxygen docs/site/Doxyfile
"$python" -m sphinx -q -W --keep-going -j auto -c docs/site -b html "$out/source" "$out/html"
while read -r name; do
    grep -q "id=\"c\.$name\"" "$out/html/reference/c.html" || { echo "the reference lacks $name" >&2 && exit 1; }
done <tests/data/exports.txt
for name in fff.Layer fff.LeafLayer fff.Threads fff.torch.FFF fff.torch.LeafFFF fff.torch.quantize; do
    grep -rq "id=\"$name\"" "$out/html/reference/python" || { echo "the reference lacks $name" >&2 && exit 1; }
done
echo "$out/html/index.html: $(find "$out/html" -name '*.html' | wc -l) pages"
