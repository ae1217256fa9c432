#!/bin/sh
# scripts/check_debian.sh [SUITE]: builds the Debian packages of what git knows here in a clean chroot of that suite (bookworm,
# trixie), as root, with the tests; looks at them with lintian; installs them in further clean chroots, and runs the tests of
# debian/tests there, each with what it depends on and no more. The packages are left in build-debian/SUITE/packages/, the build's
# log in build-debian/SUITE/build.log. Ends with 77 where there can be no chroot.
set -eu
CDPATH='' cd "$(dirname "$0")/.."
suite="${1:-bookworm}" work="$PWD/build-debian/${1:-bookworm}"
. scripts/chroot.sh
own_namespaces "$0" "$@"
mkdir -p "$work"
grep -q "^libfff ($version-" debian/changelog || fail "debian/changelog does not begin with $version"
inside_environment="DEB_BUILD_OPTIONS=${DEB_BUILD_OPTIONS:-}"

clean build
say "build dependencies"
quietly inside apt-get update -qq
quietly inside apt-get install -y -qq --no-install-recommends lintian
quietly inside apt-get build-dep -y -qq --no-install-recommends ./
say "dpkg-buildpackage"
quietly inside dpkg-buildpackage -us -uc -b
cp "$log" "$work/build.log"
ran=$(sed -nE 's/^Ok: *([0-9]+).*/\1/p' "$work/build.log" | tail -n 1)
echo "${ran:-no} tests passed"
[ "${ran:-0}" -ge 30 ] || case "${DEB_BUILD_OPTIONS:-}" in *nocheck*) ;; *) fail "the build did not run the test suite" ;; esac
mkdir -p "$work/packages" && rm -f "$work"/packages/*
cp "$root"/src/*.deb "$root"/src/*.changes "$work/packages/"
(cd "$work/packages" && dpkg-scanpackages . >Packages 2>/dev/null && ls ./*.deb)
say "lintian"
# The address of a maintainer, and a bug in which the package is announced, are for whoever brings it to a distribution.
not_here=bogus-mail-host,bogus-mail-host-in-debian-changelog,initial-upload-closes-no-bugs
inside "useradd -m lint && chmod -R a+rX /src &&
    su lint -c 'lintian --fail-on error,warning --info --suppress-tags $not_here ../libfff_*.changes'"
leave

# Each test in a chroot that has what its Depends line says.
awk '/^Tests:/ { test = $2 } /^Depends:/ { sub(/^Depends: */, ""); print test ": " $0 }' debian/tests/control >"$work/tests"
while IFS=: read -r test depends; do
    say "debian/tests/$test"
    clean "test-$test" </dev/null
    cp -R "$work/packages" "$root/packages"
    echo 'deb [trusted=yes] file:/packages ./' >"$root/etc/apt/sources.list.d/own.list"
    quietly inside apt-get update -qq </dev/null
    wanted=$(echo "$depends" | sed 's/ *| *[a-z-]*//g; s/,/ /g')
    quietly inside apt-get install -y -qq --no-install-recommends "$wanted" </dev/null
    inside "mkdir /scratch && AUTOPKGTEST_TMP=/scratch debian/tests/$test" </dev/null || fail "debian/tests/$test failed"
    leave
done <"$work/tests"
say ok
