#!/bin/sh
# scripts/with_private_usr_local.sh COMMAND...: runs COMMAND as root of a mount namespace in which /usr/local, /etc and ldconfig's
# cache are copies that vanish at its end. The machine's own stay as they are. Exits with 77 where that is not permitted.
set -eu
if [ -z "${FFF_PRIVATE_SCRATCH:-}" ]; then
    map_root=''
    [ "$(id -u)" -eq 0 ] || map_root=--map-root-user
    unshare --mount $map_root true 2>/dev/null || { echo "mount namespaces are not permitted here" && exit 77; }
    FFF_PRIVATE_SCRATCH=$(mktemp -d)
    trap 'rmdir "$FFF_PRIVATE_SCRATCH"' EXIT
    export FFF_PRIVATE_SCRATCH
    unshare --mount $map_root "$0" "$@" && exit 0
    exit $?
fi
scratch="$FFF_PRIVATE_SCRATCH"
unset FFF_PRIVATE_SCRATCH
mount -t tmpfs tmpfs "$scratch" 2>/dev/null || { echo "mounting is not permitted here" && exit 77; }
mkdir "$scratch/upper" "$scratch/work" "$scratch/etc"
cp -a /etc/. "$scratch/etc" 2>/dev/null || true # but for what only root may read
mount --bind "$scratch/etc" /etc
[ ! -d /var/cache/ldconfig ] || mount -t tmpfs tmpfs /var/cache/ldconfig
# Over what lies in /usr/local, which may be the build tools; where that cannot be written to, in place of it.
mount -t overlay overlay -o "lowerdir=/usr/local,upperdir=$scratch/upper,workdir=$scratch/work" /usr/local 2>/dev/null || true
if ! { mkdir -p /usr/local/lib && mkdir /usr/local/lib/probe; } 2>/dev/null; then
    mount -t tmpfs tmpfs /usr/local
fi
rm -rf /usr/local/lib/probe
for tool in meson ninja pkg-config cc; do
    command -v $tool >/dev/null || { echo "$tool lies in /usr/local, which cannot be copied here" && exit 77; }
done
find /usr/local -depth \( -name 'libfff*' -o -name fff -o -name 'fff.*' \) -exec rm -rf {} + # of an installation, if there is one
exec "$@"
