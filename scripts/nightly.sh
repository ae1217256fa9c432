#!/bin/bash
# scripts/nightly.sh [NAME...]: what takes too long for every commit, on Debian as root, some eight hours on two cores: random
# layers for an hour (soak), invented files (fuzz), lines that no test reaches (coverage), faults that no test notices (mutation),
# other C libraries (systems), the documentation as a stranger (docs), as a site (site) and in a bare Debian (bare), the long figures
# of docs/equivalence.md (equivalence), the library as one file (amalgamation), the tarball (reproducible), wheels and debian. All of
# them without a name. What each prints is in build-nightly/NAME.log. Ends with a line "N passed, N failed"; fails if anything did.
set -u
CDPATH='' cd "$(dirname "$0")/.." || exit
. scripts/check.sh
mkdir -p build-nightly

soak() { scripts/soak.sh 1; }
fuzz() { scripts/fuzz.sh 1200; }
coverage() { scripts/coverage.sh; }
mutation() { # other places each day; equivalent mutants survive
    scripts/mutate.py --count 120 --seed "$(date +%Y%m%d)" --minutes 60 --least 0.9
}
systems() { scripts/setup.sh systems && scripts/windows_packages.sh && scripts/check_systems.sh; }
docs() { scripts/check_docs.sh --from-nothing; }
site() { scripts/setup.sh docs && scripts/docs.sh; }
bare() { scripts/setup.sh debian && scripts/check_bare.sh bookworm && scripts/check_bare.sh trixie; }
equivalence() {
    scripts/fetch_minilm.sh build-minilm || return 1
    [ -f build-quick/build.ninja ] || meson setup build-quick -Dwerror=true -Dtests=enabled -Dbench=disabled || return 1
    ninja -C build-quick && scripts/check_equivalence.py build-quick/tools/fff --long
}
amalgamation() { scripts/check_amalgamation.sh; }
reproducible() { scripts/check_reproducible.sh; }
wheels() { scripts/setup.sh wheels && scripts/build_wheels.sh; }
debian() { scripts/setup.sh debian && scripts/check_debian.sh; }

logged() { # NAME: with its log kept
    local status=0
    "$1" >"build-nightly/$1.log" 2>&1 || status=$?
    cat "build-nightly/$1.log"
    return $status
}
all='soak fuzz coverage mutation systems docs site bare equivalence amalgamation reproducible wheels debian'
# shellcheck disable=SC2086 # names
[ $# -gt 0 ] || set -- $all
for name; do
    case " $all " in
    *" $name "*) ;;
    *) echo "scripts/nightly.sh: there is no $name" >&2 && exit 2 ;;
    esac
done
check "programs" scripts/setup.sh test
for name; do
    check "$name" logged "$name"
done
summary
