# For scripts/engines/NAME.sh, which read it after setting `engine` to NAME and `log` to a file to write to.
# shellcheck shell=sh disable=SC2154
. scripts/at_once.sh
failed=0

# Installs what the engine's tests need; ends with 77, which is to skip, where it may not.
need_packages() {
    status=0
    scripts/setup.sh "$engine" || status=$?
    case "$status" in
    0) ;;
    1) exit 77 ;;
    *) exit "$status" ;;
    esac
}

# check WHAT COMMAND...: one check; its last output is shown only if it fails.
check() {
    what="$1" start=$(date +%s)
    shift
    if "$@" >"$log" 2>&1; then
        echo "  ok      $engine: $what, $(($(date +%s) - start)) s"
    else
        failed=1
        echo "  FAILED  $engine: $what"
        tail -n 60 "$log" | sed 's/^/    | /'
    fi
}
