#!/usr/bin/env python3
"""The library as two files, fff.c and fff.h, for engines that keep a copy of what they use among their own sources.

    scripts/amalgamate.py FOLDER

All source files follow each other in fff.c. Those of an instruction set stand between pragmas that allow it to the compiler, as
the build's flags for the file do, so that its instructions are in no other function. Shared headers come once. Headers that are
templates, which each kernel's file includes with other macros, come again for each file: then names that several files define
are told apart by the file's, and its macros end with it.

scripts/check_amalgamation.sh compiles and tests the result.
"""

from __future__ import annotations

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROJECT_INCLUDE = re.compile(r'^#include (?:"((?:kernels|layer|dispatch)/[^"]+|config\.h)"|<(fff/fff\.h)>).*$', re.M)

# Of these one copy serves all files. They depend on no macro that a file defines.
SHARED = re.compile(r"^(layer/.*|dispatch/.*|kernels/(kernels|toolbox|half)\.h)$")

# Instruction sets: folder of kernels, the macro for its architecture, what gcc's and clang's target attribute takes; of the
# file with the extension besides, its name and what it takes.
ISAS = [
    ("x86_avx2", "FFF_ARCH_X86_64", "avx2,fma,f16c", "i8_vnni.c", "avx2,fma,f16c,avxvnni"),
    ("x86_avx512", "FFF_ARCH_X86_64", "avx512f,avx512dq,avx512bw,avx512vl,fma,f16c", "i8_vnni.c",
     "avx512f,avx512dq,avx512bw,avx512vl,fma,f16c,avx512vnni"),
    ("arm_neon", "FFF_ARCH_ARM64", None, "i8_dotprod.c", "arch=armv8.2-a+dotprod"),
]

# Headers that are included elsewhere, or on systems that the copy is not for.
NOT_HERE = {"fff/fff.h", "windows.h"}

HEAD = """/* libfff @version@, all of it in one file: a copy to compile as C11, by gcc or clang, and to link with SLEEF and libm. The sources that
 * it was made from, by scripts/amalgamate.py, are to be read, and changed, in its stead.
 *
@license@
 */
#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* before the first header: madvise() and dladdr() */
#endif
#include "fff.h"

#if defined(__cplusplus)
#error "fff.c is C, not C++: compile it as C11, and include fff.h in C++"
#endif
#if !defined(__GNUC__)
#error "libfff needs gcc or clang"
#endif
#if defined(_WIN32)
#error "fff.c is for POSIX systems; libfff's own build is for Windows, too"
#endif
#if defined(__clang__) && defined(__x86_64__)
/* Parts of -ffast-math of which clang has no macro are undone, in its headers' intrinsics, too. Not all: docs/embedding.md. */
#pragma float_control(precise, on)
#endif
#include <dlfcn.h>
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <sleef.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif
/* sleef.h declares its functions of vectors where flags allow these. */
#if defined(__AVX__)
#define FFF_SLEEF_DECLARED_X86_AVX2
#endif
#if defined(__AVX512F__)
#define FFF_SLEEF_DECLARED_X86_AVX512
#endif
#if defined(__x86_64__)
#define FFF_ARCH_X86_64 1
#include <cpuid.h>
#include <immintrin.h>
#include <xmmintrin.h>
#else
#define FFF_ARCH_X86_64 0
#endif
#if defined(__aarch64__)
#define FFF_ARCH_ARM64 1
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#else
#define FFF_ARCH_ARM64 0
#endif
#define FFF_BUILT_X86_AVX2 FFF_ARCH_X86_64
#define FFF_BUILT_X86_AVX512 FFF_ARCH_X86_64
#define FFF_BUILT_ARM_NEON (FFF_ARCH_ARM64 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
#define FFF_VERSION_TEXT "@version@"
#define FFF_TEXT_OF(number) FFF_TEXT_OF_EXPANDED(number)
#define FFF_TEXT_OF_EXPANDED(number) #number
#define FFF_SLEEF_VERSION_TEXT                                                                                         \\
    FFF_TEXT_OF(SLEEF_VERSION_MAJOR) "." FFF_TEXT_OF(SLEEF_VERSION_MINOR) "." FFF_TEXT_OF(SLEEF_VERSION_PATCHLEVEL)

/* No multiplication and addition become one, whatever the flags are. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC optimize("fp-contract=off")
#endif
#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wunused-function" /* of which there are some in templates, for some types */
#endif
/* Nothing but the interface is seen from outside. */
#pragma GCC visibility push(hidden)
"""

TAIL = """
#pragma GCC visibility pop
#if defined(__clang__)
#pragma clang diagnostic pop
#endif
"""


def read(name: str) -> str:
    folder = "include/" if name == "fff/fff.h" else ""
    return (ROOT / folder / name).read_text()


def list_of(meson_file: str, after: str) -> list[str]:
    """The C files that a meson.build names after some text, up to the next keyword argument."""
    text = (ROOT / meson_file).read_text()
    start = text.index(after)
    return re.findall(r"'([\w/]+\.c)'", text[start:text.index(":", start)])


# ---- Names ---------------------------------------------------------------------------------------

TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|[A-Za-z_]\w*|\.?\d[\w.]*|->|\s+|.', re.S)
WORD = re.compile(r"[A-Za-z_]\w*$")


def declarations(text: str):
    """Each declaration or function at file scope, as a list of tokens, with the depth in braces of each."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)
    text = re.sub(r"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", "", text, flags=re.M)
    depth, parentheses, found = 0, 0, []
    tokens = [token for token in TOKEN.findall(text) if not token.isspace()]
    for place, token in enumerate(tokens):
        depth -= token == "}"
        found.append((token, depth))
        depth += token == "{"
        parentheses += (token == "(") - (token == ")")
        following = tokens[place + 1] if place + 1 < len(tokens) else ";"
        is_body = token == "}" and depth == 0 and parentheses == 0 and "=" not in [t for t, d in found if d == 0] and \
            any(t == "(" and d == 0 for t, d in found)
        if depth == 0 and parentheses == 0 and (token == ";" or is_body and following != ";"):
            yield found
            found = []


def defined(text: str) -> set[str]:
    """Names that a file defines for itself: static functions and objects, tags, enumeration constants, types."""
    names = set()
    for declaration in declarations(text):
        tokens = [token for token, _ in declaration]
        outer = [token for token, depth in declaration if depth == 0]
        for place, (token, depth) in enumerate(declaration):  # tags, where they are defined; enumeration constants
            if depth == 0 and token in ("struct", "union", "enum"):
                named = WORD.match(tokens[place + 1]) is not None
                if tokens[place + 1 + named] == "{":
                    if named:
                        names.add(tokens[place + 1])
                    if token == "enum":
                        inner = place + 2 + named
                        while tokens[inner] != "}":
                            if tokens[inner - 1] in "{,":
                                names.add(tokens[inner])
                            inner += 1
        if outer[0] == "typedef":
            names.update(a for a, b in zip(outer, outer[1:]) if WORD.match(a) and b in (",", ";", "("))
        elif outer[0] in ("static", "FFF_INLINE"):
            for a, b in zip(outer, outer[1:]):
                if b in ("(", "[", "=", ";") and WORD.match(a) and a != "__attribute__":
                    if a != "KERNEL":
                        names.add(a)
                    break
    return names


def renamed(text: str, names: set[str], prefix: str) -> str:
    """The text with each of the names behind the prefix; members, which follow a dot or an arrow, keep theirs."""
    result, before = [], ""
    for token in TOKEN.findall(text):
        if token in names and before not in (".", "->"):
            result.append(prefix + token)
        else:
            result.append(token)
        if not token.isspace():
            before = token
    return "".join(result)


# ---- Files ---------------------------------------------------------------------------------------

class Amalgam:
    def __init__(self) -> None:
        self.shared: list[str] = []  # names of the shared headers, in the order in which they are needed

    def need(self, name: str) -> None:
        """Takes a shared header, behind those that it includes."""
        if name in self.shared or name in ("config.h", "fff/fff.h"):
            return
        for a, b in PROJECT_INCLUDE.findall(read(name)):
            self.need(a or b)
        self.shared.append(name)

    def expand(self, name: str, seen: set[str]) -> str:
        """A file with the headers that are not shared, each once, in the place of their includes."""
        def included(match: re.Match) -> str:
            header = match[1] or match[2]
            if header in ("config.h", "fff/fff.h"):
                return ""
            if SHARED.match(header):
                self.need(header)
                return ""
            if header in seen or re.match(r"kernels/\w+/isa\.h$", header):  # the latter stand before an instruction set's files
                return ""
            seen.add(header)
            return self.expand(header, seen)
        return PROJECT_INCLUDE.sub(included, read(name))


def without_system_includes(text: str) -> str:
    """They stand at the top, where nothing is hidden yet."""
    unknown = set(re.findall(r"^#include <(.*)>", text, re.M)) - set(re.findall(r"^#include <(.*)>", HEAD, re.M)) - NOT_HERE
    if unknown:
        sys.exit(f"scripts/amalgamate.py does not know {', '.join(sorted(unknown))}: HEAD should include it")
    return re.sub(r"^#include <.*>.*\n", "", text, flags=re.M)


def ends_macros(text: str) -> str:
    return "".join(f"#undef {name}\n" for name in dict.fromkeys(re.findall(r"^\s*#\s*define (\w+)", text, re.M)))


def allowed(target: str) -> tuple[str, str]:
    """What stands before and behind functions that may use an instruction set."""
    return (f'#if defined(__clang__)\n#pragma clang attribute push(__attribute__((target("{target}"))), apply_to = function)\n'
            f'#else\n#pragma GCC push_options\n#pragma GCC target("{target}")\n#endif\n',
            "#if defined(__clang__)\n#pragma clang attribute pop\n#else\n#pragma GCC pop_options\n#endif\n")


def sleef_functions(folder: str) -> str:
    """Declarations of SLEEF's functions for vectors, where sleef.h has none."""
    vector = {"x86_avx2": "__m256", "x86_avx512": "__m512"}.get(folder)
    if vector is None:
        return ""
    names = set()
    for path in sorted((ROOT / "kernels" / folder).glob("*.[ch]")):
        names.update(re.findall(r"\bSleef_\w+", path.read_text()))
    declared = "".join(f'__attribute__((visibility("default"))) {vector} {name}({vector});\n' for name in sorted(names))
    return f"#if !defined(FFF_SLEEF_DECLARED_{folder.upper()})\n{declared}#endif\n"


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-") or not sys.argv[1]:
        sys.exit(__doc__)
    version = re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text())[1]
    amalgam = Amalgam()
    units = []  # (file, its text, with headers; what stands before and behind it; the condition on the architecture)
    for name in [*list_of("meson.build", "fff_internal = static_library("), "layer/system_posix.c"]:
        units.append((name, amalgam.expand(name, set()), ("", ""), None))
    units.append(("kernels/generic/isa.h", amalgam.expand("kernels/generic/isa.h", set()), ("", ""), None))
    for name in list_of("kernels/generic/meson.build", "static_library('kernels_generic'"):
        units.append(("kernels/generic/" + name, amalgam.expand("kernels/generic/" + name, set()), ("", ""), None))
    for folder, architecture, target, special, special_target in ISAS:
        # Once: it declares the kernels, whose targets are those of this declaration.
        isa = f"kernels/{folder}/isa.h"
        units.append((isa, sleef_functions(folder) + amalgam.expand(isa, set()), allowed(target) if target else ("", ""),
                      architecture))
        for name in list_of(f"kernels/{folder}/meson.build", f"static_library('kernels_{folder}'") + [special]:
            text = amalgam.expand(f"kernels/{folder}/{name}", set())
            wanted = special_target if name == special else None if name == "table.c" else target  # which has no functions
            units.append((f"kernels/{folder}/{name}", text, allowed(wanted) if wanted else ("", ""), architecture))

    own = {name: defined(text) for name, text, _, _ in units}
    shared_names = set().union(*(defined(read(name)) for name in amalgam.shared))
    counts: dict[str, int] = {}
    for names in own.values():
        for one in names:
            counts[one] = counts.get(one, 0) + 1
    several = {one for one, count in counts.items() if count > 1} | shared_names

    license_text = "".join((" * " + line).rstrip() + "\n" for line in (ROOT / "LICENSE").read_text().strip().split("\n"))
    parts = [HEAD.replace("@version@", version).replace("@license@", license_text.rstrip())]
    for name in amalgam.shared:
        text = without_system_includes(PROJECT_INCLUDE.sub("", read(name)))
        parts.append(f"\n/* ==== {name} ==== */\n" + text)
    for name, text, (before, behind), architecture in units:
        prefix = re.sub(r"\W", "_", re.sub(r"^kernels/|^layer/|^dispatch/|\.c$", "", name)) + "__"
        text = without_system_includes(renamed(text, own[name] & several, prefix))
        if architecture is not None:
            before, behind = f"#if {architecture}\n" + before, behind + f"#endif /* {architecture} */\n"
        parts.append(f"\n/* ==== {name} ==== */\n{before}{text}{behind}{ends_macros(text)}")
    parts.append(TAIL)

    folder = pathlib.Path(sys.argv[1])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "fff.c").write_text(re.sub(r"\n{3,}", "\n\n", "".join(parts)))
        (folder / "fff.h").write_text(read("fff/fff.h"))
    except OSError as error:
        sys.exit(f"amalgamate.py: {error}")


if __name__ == "__main__":
    main()
