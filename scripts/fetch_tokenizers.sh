#!/bin/sh
# scripts/fetch_tokenizers.sh FOLDER: the package `tokenizers`, which Debian does not have, from PyPI into FOLDER, once (3 MB).
set -eu
folder="${1:?usage: scripts/fetch_tokenizers.sh FOLDER}"
version=0.23.3
if [ ! -f "$folder/tokenizers-$version" ]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    /usr/bin/python3 -m pip install --quiet --root-user-action=ignore --disable-pip-version-check --no-deps --target "$folder" \
        "tokenizers==$version"
    touch "$folder/tokenizers-$version"
fi
