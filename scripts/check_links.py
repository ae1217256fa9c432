#!/usr/bin/env python3
"""Checks the Markdown of the repository: each relative link leads to a file, each anchor to a heading of it, and lines of prose are
short.

    scripts/check_links.py [FILE...]         all Markdown files that git knows, unless told
"""
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

COLUMNS = 120  # lines of prose have fewer
# Pages whose prose still has longer lines; none may be added.
LONG_LINES = {"CHANGELOG.md", "CONTRIBUTING.md", "bench/README.md", "docs/mutation.md", "docs/releasing.md"}


def prose(text):
    """(number, line) of each line outside of code blocks, headings and quotations included; code within a line is kept."""
    fence = None
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r" {0,3}(```+|~~~+)", line)
        if fence is None and mark:
            fence = mark.group(1)
        elif fence is not None and line.strip() == fence:
            fence = None
        elif fence is None and not line.startswith("    "):
            yield number, line


def anchors(text):
    """The anchors of a page's headings, as the usual renderers of repositories make them; and those written as <a id="">."""
    found, seen = set(), {}
    for _, line in prose(text):
        found.update(re.findall(r'<a (?:id|name)="([^"]+)"', line))
        heading = re.match(r"#{1,6} +(.*?)#* *$", line)
        if heading:
            plain = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", heading.group(1)).lower()
            name = re.sub(r"[^\w\- ]", "", plain, flags=re.UNICODE).replace(" ", "-")
            found.add(name if name not in seen else f"{name}-{seen[name]}")
            seen[name] = seen.get(name, 0) + 1
    return found


def links(text):
    """(line number, target) of each inline link or picture, and of each reference's definition."""
    for number, line in prose(text):
        plain = re.sub(r"(`+)(?:(?!\1).)*\1", lambda code: "`" * len(code.group(0)), line)  # no links within code
        for target in re.findall(r"\]\(<?([^)<>\s]+)>?(?: +\"[^\"]*\")?\)", plain) + re.findall(r"^\[[^]]+\]: +(\S+)", plain):
            yield number, target


def faults_of(page, is_known, texts):
    text = texts(page)
    for number, target in links(text):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path) if path else page
        if not file.exists():
            yield f"{page}:{number}: there is no {path}"
        elif not is_known(file):
            yield f"{page}:{number}: {path} is not in the repository"
        elif anchor and file.suffix == ".md" and anchor not in anchors(texts(file)):
            yield f"{page}:{number}: {path or page.name} has no heading for #{anchor}"
    if str(page) not in LONG_LINES and page.name != "report.md":
        for number, line in prose(text):
            if len(line) >= COLUMNS and not line.startswith(("|", "![")):
                yield f"{page}:{number}: {len(line)} columns of prose"


def main():
    known = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], check=True, stdout=subprocess.PIPE,
                           text=True).stdout.split("\0")
    known = {Path(name).resolve() for name in known if name and Path(name).exists()}
    folders = {parent for name in known for parent in name.parents}
    pages = [Path(name) for name in sys.argv[1:]] or sorted(Path(name).relative_to(Path.cwd()) for name in known if name.suffix == ".md")
    read = {}

    def texts(path):
        path = path.resolve()
        if path not in read:
            read[path] = path.read_text(encoding="utf-8")
        return read[path]

    faults = [fault for page in pages for fault in faults_of(page, lambda file: file.resolve() in known | folders, texts)]
    print("\n".join(faults + [f"{len(pages)} pages, {sum(1 for page in pages for _ in links(texts(page)))} links, {len(faults)} faults"]))
    return 1 if faults or not pages else 0


if __name__ == "__main__":
    sys.exit(main())
