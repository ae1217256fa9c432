#!/bin/sh
# scripts/check_debian.sh [SUITE]: builds the Debian packages of what git knows here in a clean chroot of that suite (bookworm), as
# root; looks at them with lintian; installs them in another clean chroot, and runs the tests of debian/tests there, each with
# what it depends on and no more. The packages are left in build-debian/SUITE/. Ends with 77 where there can be no chroot.
#
# FFF_DEBIAN_MIRROR names the archive; without it, the one that apt uses.
set -eu
cd "$(dirname "$0")/.."
suite="${1:-bookworm}" work="$PWD/build-debian/${1:-bookworm}" version=''
if [ -z "${FFF_DEBIAN_NAMESPACE:-}" ]; then
    command -v debootstrap >/dev/null || { echo "debootstrap is not installed" && exit 77; }
    unshare --mount --pid --fork true 2>/dev/null || { echo "mount namespaces are not permitted here" && exit 77; }
    export FFF_DEBIAN_NAMESPACE=1
    exec unshare --mount --pid --fork "$0" "$@" # what it mounts and starts ends with it
fi
say() { echo "== $*"; }
fail() { echo "$*" >&2 && exit 1; }
quietly() { "$@" >"$work/log" 2>&1 || { cat "$work/log" && fail "failed: $*"; }; }
mkdir -p "$work"

version=$(sed -nE "s/^  version: '(.*)',/\1/p" meson.build | head -n 1)
grep -q "^libfff ($version-" debian/changelog || fail "debian/changelog does not begin with $version"

mirror="${FFF_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(SITE) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
    awk '$2 ~ /^[a-z]+$/ && $3 == "main" { print $1; exit }')}"
# clean NAME: a fresh chroot, $root.
clean() {
    root="$work/$1"
    rm -rf "$root"
    if [ ! -f "$work/base.tar" ]; then
        say "debootstrap $suite"
        quietly debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" "$mirror"
        tar -C "$root" -cf "$work/base.tar.new" . && mv "$work/base.tar.new" "$work/base.tar"
        rm -rf "$root"
    fi
    mkdir "$root" && tar -C "$root" -xf "$work/base.tar"
    mount -t proc proc "$root/proc"
    mount --bind /dev "$root/dev"
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" && chmod +x "$root/usr/sbin/policy-rc.d" # no services
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    mkdir "$root/src" "$root/src/libfff-$version"
    git ls-files -z | tar -c --null -T - | tar -C "$root/src/libfff-$version" -xf -
}
# inside COMMAND...: in the chroot, in the source's folder.
inside() {
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive HOME=/root \
        DEB_BUILD_OPTIONS="${DEB_BUILD_OPTIONS:-}" chroot "$root" sh -ec "cd /src/libfff-$version && $*"
}
leave() { umount "$root/dev" "$root/proc" && rm -rf "$root"; }

clean build
say "build dependencies"
quietly inside apt-get update -qq
quietly inside apt-get install -y -qq --no-install-recommends lintian
quietly inside apt-get build-dep -y -qq --no-install-recommends ./
say "dpkg-buildpackage"
quietly inside dpkg-buildpackage -us -uc -b
cp "$work/log" "$work/build.log"
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
