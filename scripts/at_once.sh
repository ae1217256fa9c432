# For scripts whose checks keep one core busy each: lists of checks side by side.
# shellcheck shell=sh

# at_once FUNCTION...: calls each in a subshell of its own, all at the same time. What they print comes in the order in which
# they are named. Fails if one did.
at_once() {
    outputs=$(mktemp -d) pids='' all=0
    for each; do
        "$each" >"$outputs/$each" 2>&1 &
        pids="$pids $!"
    done
    for pid in $pids; do
        wait "$pid" || all=1
        cat "$outputs/$1"
        shift
    done
    rm -rf "$outputs"
    return "$all"
}
