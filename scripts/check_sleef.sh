#!/bin/sh
# scripts/check_sleef.sh BUILD: the recorded bits once more with the SLEEF of a newer Debian, which has the same soname and so
# may be the one that runs, whatever the library was built with. The package comes through apt, with lists of its own;
# nothing is installed. Ends with 77, which is to skip, where it cannot be had.
set -eu
build="$1" suite=trixie folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
command -v apt-get >/dev/null && architecture=$(dpkg --print-architecture) || exit 77
source=$(apt-get indextargets --format '$(SITE) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
    awk '$2 ~ /^[a-z]+$/ && $3 == "main" { print $1; exit }')
[ -n "$source" ] || { echo "apt knows no archive of Debian's" && exit 77; }
mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
echo "deb [arch=$architecture signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $source $suite main" >"$folder/sources.list"
apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$folder/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$folder/lists" -o Dir::Cache="$folder/cache" -o Acquire::Languages=none \
        -o APT::Sandbox::User=root -o Acquire::Retries=1 "$@"
}
apt update 2>/dev/null && (cd "$folder" && apt download libsleef3/$suite) ||
    { echo "Debian $suite's libsleef3 cannot be had here" && exit 77; }
dpkg-deb -x "$folder"/libsleef3_*.deb "$folder/root"
other=$(dirname "$(find "$folder/root" -name libsleef.so.3)")
export LD_LIBRARY_PATH="$other" FFF_ISA=
ldd "$build/tests/fingerprint" | grep "$other/libsleef.so.3"
ls "$other"
"$build/tests/fingerprint" tests/data/fingerprint.txt
"$build/tests/test_sleef"
