# For scripts that are lists of checks. A check that ends with 77 could not be tried, and does not count.
# shellcheck shell=bash

results=$(mktemp) # a line for each check, "passed: NAME", "failed: NAME" or "skipped: NAME"; subshells add to it, too
trap 'rm -f "$results"' EXIT

# check NAME COMMAND...: says whether it succeeded, and how long it took; what it printed is shown only if it failed.
check() {
    local name="$1" log start=$SECONDS status=0
    shift
    log=$(mktemp)
    "$@" >"$log" 2>&1 || status=$?
    case $status in
    0)
        echo "passed: $name" >>"$results"
        echo "  ok      $name, $((SECONDS - start)) s"
        ;;
    77)
        echo "skipped: $name" >>"$results"
        echo "  skipped $name: $(tail -n 1 "$log")"
        ;;
    *)
        echo "failed: $name" >>"$results"
        echo "  FAILED  $name"
        tail -n 60 "$log" | sed 's/^/    | /'
        ;;
    esac
    rm -f "$log"
}

# summary: which were skipped and which failed, and as the last line how many; fails if any did, or if none could be tried.
summary() {
    local passed failed skipped
    passed=$(grep -c '^passed: ' "$results") failed=$(grep -c '^failed: ' "$results") skipped=$(grep -c '^skipped: ' "$results")
    if [ "$skipped" -gt 0 ]; then
        echo "Skipped:"
        sed -n 's/^skipped: /  /p' "$results"
        echo "$skipped skipped"
    fi
    if [ "$failed" -gt 0 ]; then
        echo "Failed:"
        sed -n 's/^failed: /  /p' "$results"
    fi
    echo "$SECONDS s in all"
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}
