#!/usr/bin/env python3
"""Lets the CUDA build of PyTorch, the only one that PyPI has for x86-64 Linux, be imported without CUDA.

    torch_stubs.py FOLDER      FOLDER holds the package torch

Its libraries are linked with a dozen of CUDA's, which are large. Each that is not there gets a stand-in beside
torch's own: a library of that name, with the versions of symbols that are asked of it, whose functions all return 100,
which CUDA's runtime defines as "no device". So PyTorch finds no GPU, and works on the CPU. For tests only.
"""

import collections
import pathlib
import platform
import re
import subprocess
import sys

RETURN_NO_DEVICE = {"x86_64": "mov $100, %eax; ret", "aarch64": "mov w0, #100; ret"}
CUDA = re.compile(r"lib(cu|nv|nccl)\w*\.so(\.\d+)*$")
CUDA_FUNCTION = re.compile(r"(__)?(cu|nv|nccl)\w+$")


def run(*command: object) -> str:
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def stand_in(path: pathlib.Path, functions: dict[str, set[str]]) -> None:
    """A library of that name with `functions`, a set for each symbol version ("" is none)."""
    names = sorted(set().union(*functions.values()))
    source, versions = path.with_suffix(".s"), path.with_suffix(".versions")
    source.write_text(".text\n" + "".join(f".globl {name}\n.type {name}, %function\n{name}:\n" for name in names) +
                      RETURN_NO_DEVICE[platform.machine()] + '\n.section .note.GNU-stack,"",%progbits\n', encoding="ascii")
    blocks = [f"{version} {{ global: {' '.join(f'{name};' for name in sorted(functions[version]))} }};"
              for version in sorted(functions) if version]
    versions.write_text("\n".join(blocks) + "\n", encoding="ascii")
    options = [f"-Wl,--version-script={versions}"] if blocks else []
    run("cc", "-shared", "-nostdlib", f"-Wl,-soname,{path.name}", *options, "-o", path, source)
    source.unlink()
    versions.unlink()


def main() -> int:
    folder = pathlib.Path(sys.argv[1]) / "torch" / "lib"
    own = sorted(path for path in folder.glob("*.so*") if not path.is_symlink())
    needed, undefined, defined = set(), set(), set()
    file_of = {}  # symbol version -> the library it is asked of
    for library in own:
        needed |= set(re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "--dynamic", library)))
        undefined |= set(re.findall(r" U (\S+)", run("nm", "--dynamic", "--undefined-only", library)))
        defined |= {name.split("@")[0] for name in re.findall(r" \w (\S+)", run("nm", "--dynamic", "--defined-only", library))}
        file = ""
        for kind, name in re.findall(r"\b(File|Name): (\S+)", run("readelf", "--version-info", library)):
            if kind == "File":
                file = name
            elif CUDA.match(file):
                file_of[name] = file
    missing = sorted(name for name in needed - {path.name for path in own} if CUDA.match(name))
    functions = {name: collections.defaultdict(set) for name in missing}
    for version, file in file_of.items():
        if file in functions:
            functions[file][version] = set()
    unversioned = {name for name in undefined - defined if CUDA_FUNCTION.match(name)}
    for symbol in undefined:
        name, _, version = symbol.partition("@")
        if file_of.get(version) in functions:
            functions[file_of[version]][version].add(name)
    for name in missing:  # which library an unversioned function is from is not recorded: all without versions have all
        stand_in(folder / name, functions[name] or {"": unversioned})
    print(f"{len(missing)} stand-ins: {' '.join(missing)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
