#!/bin/sh
# scripts/after_install.sh LIBDIR: what `meson install` ends with, unless DESTDIR is set. Tells the dynamic loader of the
# library if it searches LIBDIR, and the user how to reach what is not searched. Never fails: the files are in place.
libdir="$1" PATH="$PATH:/usr/sbin:/sbin"
say() { [ -n "${MESON_INSTALL_QUIET:-}" ] || echo "$*"; }

loader_searches() {
    ldconfig -v -N -X 2>/dev/null | sed -n 's/^\(\/[^:]*\):.*/\1/p' | while read -r folder; do
        [ "$(readlink -f "$folder")" != "$(readlink -f "$1")" ] || echo yes
    done | grep -q yes
}

if command -v ldconfig >/dev/null 2>&1; then
    if ! loader_searches "$libdir"; then
        say "The dynamic loader does not search $libdir: link programs with -Wl,-rpath,$libdir or run them with" \
            "LD_LIBRARY_PATH=$libdir"
    elif [ "$(id -u)" -ne 0 ]; then
        say "Run ldconfig as root, so that the dynamic loader finds the library"
    else
        ldconfig || say "ldconfig failed: the dynamic loader may not find the library"
    fi
fi
if command -v pkg-config >/dev/null 2>&1 && [ "$(pkg-config --variable=libdir fff 2>/dev/null)" != "$libdir" ]; then
    say "pkg-config does not search there either: PKG_CONFIG_PATH=$libdir/pkgconfig"
fi
exit 0
