"""Compiles native/operator.cpp against the PyTorch that is imported, once, into a cache.

The compiler is called directly, not through torch.utils.cpp_extension: that wants ninja, and its lock, a file, holds
up every later process for good if one is killed. Here processes that start at once each compile and the last rename
wins.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sysconfig
import tempfile
import types
import warnings

import torch
import torch.version

NAME = "_fff_operator"
_HERE = pathlib.Path(__file__).resolve().parent


def _header() -> pathlib.Path:
    """The folder that fff/fff.h is in: beside this file in an installed package, else the checkout's."""
    for folder in (_HERE / "include", _HERE.parents[2] / "include"):
        if (folder / "fff" / "fff.h").is_file():
            return folder
    raise RuntimeError("fff/fff.h is not there")


def _cache() -> pathlib.Path:
    """FFF_TORCH_CACHE, or the user's cache folder."""
    named = os.environ.get("FFF_TORCH_CACHE")
    if named:
        return pathlib.Path(named)
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "fff"


def _torch_folders() -> list[str]:
    include = pathlib.Path(torch.__file__).parent / "include"
    return [str(include), str(include / "torch" / "csrc" / "api" / "include")]


def _command() -> list[str]:
    named = os.environ.get("CXX", "").strip()
    if named and not shutil.which(named.split()[0]):
        raise RuntimeError(f"CXX is {named!r}, which is no program here")
    compiler = named or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        raise RuntimeError("there is no C++ compiler: c++, g++ or clang++ in PATH, or CXX (Debian: apt install g++)")
    if not pathlib.Path(_torch_folders()[0], "torch", "library.h").is_file():
        raise RuntimeError("PyTorch's headers are not installed (Debian: apt install libtorch-dev pybind11-dev)")
    if not pathlib.Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        raise RuntimeError("Python's headers are not installed (Debian: apt install python3-dev)")
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    # -fopenmp without linking its library: at::parallel_for is a template, and must find the one that PyTorch has loaded.
    return [*compiler.split(), "-std=c++20" if (major, minor) >= (2, 1) else "-std=c++17", "-O3", "-fPIC", "-fopenmp",
            "-fvisibility=hidden", "-Wall", "-Wextra", f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
            *(f"-isystem{folder}" for folder in [*_torch_folders(), sysconfig.get_paths()["include"]]),
            f"-I{_header()}"]


def _compile(command: list[str], target: pathlib.Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made, compiled = pathlib.Path(folder) / "operator.so", pathlib.Path(folder) / "operator.o"
        link = [command[0], "-shared", str(compiled), f"-L{pathlib.Path(torch.__file__).parent / 'lib'}", "-ltorch_python",
                "-ltorch_cpu", "-lc10", "-ldl", "-o", str(made)]
        for step in ([*command, "-c", str(_HERE / "native" / "operator.cpp"), "-o", str(compiled)], link):
            done = subprocess.run(step, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"{' '.join(step)}\n{done.stderr[-4000:]}")
        os.replace(made, target)


def load() -> types.ModuleType:
    """The compiled operator as a module; RuntimeError or OSError, saying why, if there can be none."""
    if os.environ.get("FFF_TORCH_NATIVE") == "0":
        raise RuntimeError("FFF_TORCH_NATIVE is 0")
    command = _command()
    digest = hashlib.sha256()
    for part in [torch.__version__, str(torch.version.git_version), torch.__file__, sysconfig.get_config_var("SOABI"),
                 *command]:
        digest.update(str(part).encode() + b"\0")
    for path in (*sorted((_HERE / "native").glob("*.[ch]*")), _header() / "fff" / "fff.h"):
        digest.update(path.read_bytes())
    target = _cache() / f"{NAME}-{digest.hexdigest()[:16]}.so"
    if not target.is_file():
        warnings.warn(f"fff.torch compiles its operator for PyTorch {torch.__version__} into {target}: once, up to a minute "
                      "(python -m fff.torch does it beforehand)", stacklevel=2)
        _compile(command, target)
        return _load(target)
    try:
        return _load(target)
    except ImportError:  # cut short, or of a PyTorch that has been exchanged since
        _compile(command, target)
        return _load(target)


def _load(target: pathlib.Path) -> types.ModuleType:
    loader = importlib.machinery.ExtensionFileLoader(NAME, str(target))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(NAME, loader))
    loader.exec_module(module)
    return module
