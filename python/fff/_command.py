"""The fff command that lies in this package, where the package was built with one."""

from __future__ import annotations

import os
import pathlib
import sys


def main() -> None:
    """Runs the command in place of this process, with this process's arguments."""
    program = pathlib.Path(__file__).with_name("_fff")
    if not program.is_file():
        sys.exit("fff: this package was built without the command, for which its build needs jansson")
    os.execv(program, [sys.argv[0], *sys.argv[1:]])
