# For scripts that are lists of checks. A check that ends with 77 could not be tried, and does not count.
# shellcheck shell=bash

checks_passed=0 checks_failed='' checks_start=$SECONDS

# check NAME COMMAND...: says whether it succeeded, and how long it took; what it printed is shown only if it failed.
check() {
    local name="$1" log start=$SECONDS status=0
    shift
    log=$(mktemp)
    "$@" >"$log" 2>&1 || status=$?
    case $status in
    0)
        checks_passed=$((checks_passed + 1))
        echo "ok      $name, $((SECONDS - start)) s"
        ;;
    77) echo "skipped $name: $(tail -n 1 "$log")" ;;
    *)
        checks_failed="$checks_failed  $name"$'\n'
        echo "FAILED  $name, $((SECONDS - start)) s"
        tail -n 60 "$log" | sed 's/^/    | /'
        ;;
    esac
    rm -f "$log"
}

# summary: which failed, and as the last line how many; fails if any did.
summary() {
    [ -z "$checks_failed" ] || printf 'Failed:\n%s' "$checks_failed"
    echo "$((SECONDS - checks_start)) s in all"
    echo "$checks_passed passed, $(printf '%s' "$checks_failed" | wc -l) failed"
    [ -z "$checks_failed" ]
}
