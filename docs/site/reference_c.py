#!/usr/bin/env python3
"""Prints the page of the C reference: fff.h's sections, and in each what it declares, in its order.

    reference_c.py fff.h
"""
import re
import sys

PATTERNS = {
    "struct": r"^typedef struct (\w+) \{",
    "enum": r"^typedef enum (\w+) \{",
    "typedef": r"^typedef struct \w+ (\w+);",
    "function": r"^FFF_API [^;(]*?(\w+)\(",
    "define": r"^#define (FFF_(?!API)\w+)",
}


def main():
    with open(sys.argv[1], encoding="utf-8") as header:
        text = header.read()
    opening = re.match(r"/\*(.*?)\*/", text, re.S).group(1)
    print("# The C interface\n")
    print("Out of [fff.h](../include/fff/fff.h), which is the reference.\n")
    print("\n".join(re.sub(r"^ ?\*? ?", "", line) for line in opening.strip().splitlines()[1:]).strip())
    text = re.sub(r"/\*(?! -{4}).*?\*/", "", text[text.index("#include"):], flags=re.S)
    text = "/* ---- Version ---- */\n" + text
    for section in re.split(r"/\* -{4} ", text)[1:]:
        title, body = section.split(" --", 1)
        found = []
        for kind, pattern in PATTERNS.items():
            found += [(match.start(), kind, match.group(1)) for match in re.finditer(pattern, body, re.M)]
        print(f"\n## {title.strip().capitalize() if title.isupper() else title.strip()}\n")
        for _, kind, name in sorted(found):
            options = ":members:\n:undoc-members:\n" if kind == "struct" else ""
            print(f"```{{doxygen{kind}}} {name}\n{options}```\n")


if __name__ == "__main__":
    main()
