# Small functions for other scripts, which source this file from the project's folder.
# shellcheck shell=sh

say() { echo "== $*"; }
fail() { echo "$*" >&2 && exit 1; }

# quietly COMMAND...: shows what the command printed only if it fails, and ends the script then. The output stays in the file $log,
# which the script has named.
# shellcheck disable=SC2154
quietly() { "$@" >"$log" 2>&1 || { tail -n 100 "$log" && fail "failed: $*"; }; }

# block PAGE INFO: the lines of all blocks of a page between ```INFO and ```; there must be one.
block() {
    awk -v first="\`\`\`$2" '$0 == first { inside = begun = 1; next } /^```$/ { inside = 0 } inside
        END { exit !begun }' "$1" || fail "$1 has no block: $2"
}
