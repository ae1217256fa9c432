#!/bin/sh
# scripts/check_bare.sh [SUITE]: what a new user does, with the README alone, in a bare Debian of that suite (bookworm, trixie): a
# clean chroot in which nothing is installed. The README's blocks are done word for word: the packages, both ways to install, the C
# program, the commands; and in a second chroot the installation by pip and the Python lines. Prints the seconds of each, and how
# many of them a processor was busy. Those from nothing to a verified layer must be under 300, in C and in Python; on a machine that
# has nothing else to do. To be run as root. Ends with 77 where there can be no chroot.
#
# Beside what the README says, apt is told to answer "yes" by itself; and the chroot has the settings that this machine's pip needs
# to reach its index: PIP_*, proxies, /etc/pip.conf, certificates.
set -eu
CDPATH='' cd "$(dirname "$0")/.."
suite="${1:-bookworm}" work="$PWD/build-bare/${1:-bookworm}"
. scripts/chroot.sh
own_namespaces "$0" "$@"
mkdir -p "$work"
settings=$(env | grep -E '^(PIP_(CERT|INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|DEFAULT_TIMEOUT)|https?_proxy|no_proxy)=[^ ]*$' || true)

# bare NAME: a clean chroot, with a user, whose is the source in /src; $steps is the folder /steps in it.
bare() {
    clean "$1"
    steps="$root/steps" total=0
    mkdir "$steps"
    rm -rf "$root"/var/lib/apt/lists/* # which debootstrap leaves, and images of containers do not have
    echo 'APT::Get::Assume-Yes "true";' >"$root/etc/apt/apt.conf.d/yes"
    [ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/"
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    inside "useradd --create-home user && cp -R . /home/user/libfff && chown -R user /src /home/user"
}

# used: sets $busy to the processor seconds of all that ended so far.
used() {
    times >"$work/times"
    busy=$(sed -n 2p "$work/times" | tr 'ms' '  ' | awk '{ printf "%d", 60 * $1 + $2 + 60 * $3 + $4 }')
}

# does WHAT USER FILE [FOLDER]: the commands in $steps/FILE, in the source's folder or another. Adds the seconds to $total.
does() {
    does_start=$(date +%s) home=/root
    used && busy_before=$busy
    [ "$2" = root ] || home="/home/$2"
    inside_environment="$settings"
    inside "cd ${4:-.} && su -p $2 -s /bin/sh -c 'HOME=$home exec sh -eux /steps/$3'" >"$log" 2>&1 </dev/null ||
        { cat "$log" && fail "failed: $1"; }
    seconds=$(($(date +%s) - does_start))
    total=$((total + seconds))
    used
    printf '%5d s, %4d s of a processor: %s\n' "$seconds" $((busy - busy_before)) "$1"
}

# shows TEXT: what the last commands printed has it.
shows() {
    grep -qE "$1" "$log" || { cat "$log" && fail "they did not print: $1"; }
    grep -E "$1" "$log" | sed 's/^/         | /'
}

# in_time WHAT: the seconds so far are not too many.
in_time() {
    printf '%5d s in all: %s\n' "$total" "$1"
    [ "$total" -lt 300 ] || slow="$slow; $1 in $total s"
}
slow=''

say "$suite: in C"
bare c
block README.md 'sh packages' >"$steps/packages"
block README.md 'sh default' >"$steps/default"
block README.md 'sh prefix' >"$steps/prefix"
block README.md 'sh run' >"$steps/run"
grep '^fff verify' "$steps/run" >"$steps/verify"
does "the packages" root packages
does "into /usr/local, and the C program" root default
shows '^success on |^chosen: '
does "a trained layer is verified" user verify
shows '^ *ok: '
in_time "from nothing to a verified layer, in C"
does "all commands of the README" user run
shows '^ *ok: '
quietly inside "ninja -C build uninstall"
does "into a folder of one's own, and the C program" user prefix /home/user/libfff
shows '^success on |^chosen: '
leave

say "$suite: in Python"
bare python
install=$(sed -nE 's/.*`(python3 -m venv [^`]*)`.*/\1/p' README.md)
package=$(sed -nE 's/.*package (python3-venv)\).*/\1/p' README.md)
[ -n "$install" ] && [ -n "$package" ] || fail "the README does not say how the Python package is installed"
block README.md 'sh packages' >"$steps/packages"
echo "apt-get install $package" >>"$steps/packages"
echo "$install" >"$steps/install"
block README.md python >"$steps/readme.py"
echo 'print("values:", *y.shape, np.isfinite(y).all(), fff.cpu().chosen)' >>"$steps/readme.py"
echo 'env/bin/python -W error /steps/readme.py' >"$steps/program"
block README.md 'sh run' | sed -n 's,^fff verify,env/bin/fff verify,p' >"$steps/verify"
does "the packages" root packages
does "the Python package" user install
does "the Python lines" user program
shows '^values: 4 768 True'
does "a trained layer is verified" user verify
shows '^ *ok: '
in_time "from nothing to a verified layer, in Python"
leave
[ -z "$slow" ] || fail "too long: ${slow#; }"
say ok
