# For scripts that try things in clean chroots of Debian. They have set $suite and $work (a folder for the chroots), are in the
# project's folder, and call own_namespaces first. build-chroots/ keeps a suite between runs, as debootstrap made it.
# shellcheck shell=sh disable=SC2154
#
# FFF_DEBIAN_MIRROR names the archive; without it, the one that apt uses.

version=$(sed -nE "s/^  version: '(.*)',/\1/p" meson.build | head -n 1)
log="$work/log"
. scripts/functions.sh

# own_namespaces SCRIPT ARGUMENT...: starts the script anew, in mount and process namespaces of its own: what it mounts and starts
# ends with it. Ends with 77 where there can be no chroot.
own_namespaces() {
    [ -z "${FFF_DEBIAN_NAMESPACE:-}" ] || return 0
    command -v debootstrap >/dev/null || { echo "debootstrap is not installed" && exit 77; }
    unshare --mount --pid --fork true 2>/dev/null || { echo "mount namespaces are not permitted here" && exit 77; }
    export FFF_DEBIAN_NAMESPACE=1
    exec unshare --mount --pid --fork "$@"
}

# clean NAME: a fresh chroot, $root, with nothing but what debootstrap's minbase has, and the source in /src/libfff-$version.
clean() {
    root="$work/$1"
    rm -rf "$root"
    base="$PWD/build-chroots/$suite.tar"
    if [ ! -f "$base" ]; then
        mkdir -p build-chroots
        say "debootstrap $suite"
        mirror="${FFF_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(SITE) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
            awk '$2 ~ /^[a-z]+$/ && $3 == "main" { print $1; exit }')}"
        quietly debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" "$mirror"
        tar -C "$root" -cf "$base.new" . && mv "$base.new" "$base"
        rm -rf "$root"
    fi
    mkdir "$root" && tar -C "$root" -xf "$base"
    mount -t proc proc "$root/proc"
    mount --bind /dev "$root/dev"
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" && chmod +x "$root/usr/sbin/policy-rc.d" # no services
    echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io" # as images of containers have it: no waiting for the disk
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    mkdir "$root/src" "$root/src/libfff-$version"
    git ls-files -z | tar -c --null -T - | tar -C "$root/src/libfff-$version" -xf -
}

# inside COMMAND...: in the chroot, in the source's folder, with the environment variables that $inside_environment names.
inside() {
    # shellcheck disable=SC2086 # one word each
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive HOME=/root \
        ${inside_environment:-} chroot "$root" sh -ec "cd /src/libfff-$version && $*"
}

leave() { umount "$root/dev" "$root/proc" && rm -rf "$root"; }
