#!/usr/bin/env python3
"""Makes of fff.h what Doxygen reads; the header itself is written for people. Comments before a declaration become /** */, those behind
one /**< */; a column of names with their meanings becomes a list.

    doxygen_filter.py FILE
"""
import re
import sys

ITEM = re.compile(r" \* (\w+(?:, \w+)*) {2,}(\S.*)$")


def names_in_code(line):
    """`*layer` would begin an emphasis."""
    return re.sub(r"(?<![\w*/`\[])\*(\w+)", r"`*\1`", line)


def lines_of(text):
    in_comment = in_item = False
    shared = None  # the comment that ended right above a declaration, for another one that follows without a blank line
    for line in text.splitlines():
        begins = re.match(r" */\* (?!-{4})", line)
        if in_comment:
            item = ITEM.match(line)
            if item:
                in_item = True
                line = f" * - `{item.group(1)}`: {item.group(2)}"
            elif in_item and re.match(r" \* {5,}\S", line):
                line = " *   " + line[2:].strip()
            else:
                in_item = False
            if not re.match(r" *\* {4,}", line):  # but for lines of code
                line = line[:2] + names_in_code(line[2:])
            in_comment = "*/" not in line
        elif begins:
            line = line.replace("/* ", "/** ", 1)
            line = line[:begins.end() + 1] + names_in_code(line[begins.end() + 1:])
            line = re.sub(r"(\w) \*/$", r"\1. */", line)  # the comment behind a member follows the one before it
            in_comment, in_item, shared = "*/" not in line, False, None
        elif line.startswith("FFF_API"):
            if shared:
                yield f"/** See {shared}(). */"
            shared = re.search(r"(\w+)\(", line).group(1)
        elif not line.strip() or line.startswith("}"):
            shared = None
        elif re.search(r"\S.*/\* ", line) and not line.startswith("#"):
            line = line.replace("/* ", "/**< ", 1)
            in_comment, in_item = "*/" not in line, False
        yield line


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as header:
        sys.stdout.write("\n".join(lines_of(header.read())) + "\n")
