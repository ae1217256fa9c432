#!/usr/bin/env python3
"""Checks the Markdown of the repository: each relative link leads to a file, each anchor to a heading of it, files, make's
targets and fff's commands and options that are called by name are there, and lines of prose are short.

    scripts/check_links.py [--external] [FILE...]         all Markdown files that git knows, unless told

With --external links to other sites are followed instead, by hand and now and then: it takes a network and minutes, and a site may
be down. A site that refuses programs (statuses 401, 403, 429) is named, and no fault.
"""
import argparse
import concurrent.futures
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote

COLUMNS = 120  # lines of prose have fewer


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


FOLDERS = r"\.ci|\.github|bench|bert|cmake|debian|dispatch|docs|examples|include|kernels|layer|models|python|scripts|tests|tools"
MADE = {"bench/results/"}  # by make


def commands_and_files(text):
    """(line number, words) of code within lines, and of each line of a block. Several blanks, after which a block may say what a
    command does, are a word ";"."""
    within = {number for number, _ in prose(text)}
    for number, line in enumerate(text.splitlines(), 1):
        for code in re.findall(r"`([^`]+)`", line) if number in within else [line]:
            words = re.sub(r"(?<=\S)\s{2,}(?=\S)", " ; ", code).split()
            if words:
                yield number, words


def known_names():
    """The Makefile's targets; the options of each command of fff, out of its manual page."""
    targets = re.findall(r"^([a-z][a-z-]*):", Path("Makefile").read_text(encoding="utf-8"), re.M)
    synopsis = Path("docs/fff.1").read_text(encoding="utf-8").partition(".Sh SYNOPSIS")[2].partition(".Sh")[0]
    commands = {}
    for part in synopsis.split(".Nm\n"):
        command = re.search(r"^\.Cm (\S+)", part, re.M)
        if command:
            commands[command.group(1)] = {"-" + option for option in re.findall(r"Fl (-\S+)", part)} | {"--help"}
    return targets, commands


def single_commands(words):
    """The words of each command of a line: without a comment, between |, &&, || and ;."""
    found = [[]]
    for word in words:
        if word == "#":
            break
        if word in ("|", "||", "&&", ";"):
            found.append([])
        else:
            found[-1].append(word.rstrip(";"))
            if word.endswith(";"):
                found.append([])
    return [command for command in found if command]


def names_that_lead_nowhere(page, text, targets, commands):
    """What is called by its name and is not there: files of the repository's folders, make's targets, fff's commands and options."""
    for number, line in commands_and_files(text):
        for words in single_commands(line):
            if words[0] == "make":
                yield from (f"{page}:{number}: there is no make {target}" for target in words[1:]
                            if re.fullmatch(r"[a-z][a-z0-9-]+", target) and target not in targets)
            before = [index for index, word in enumerate(words[:-1]) if (word == "fff" or word.endswith("/tools/fff")) and
                      not any(program.endswith(".py") for program in words[:index])]  # not where it is a program's argument
            if before and re.fullmatch(r"[a-z][a-z-]+", words[before[0] + 1]) and "=" not in words:
                command, rest = words[before[0] + 1], words[before[0] + 2:]
                options = [re.match(r"[\[(]*(--[A-Za-z][\w-]*)", word) for word in rest]
                if command not in commands:
                    yield f"{page}:{number}: there is no fff {command}"
                else:
                    yield from (f"{page}:{number}: fff {command} has no {option.group(1)}" for option in options
                                if option and option.group(1) not in commands[command])
        for word in line:
            name = re.sub(r":[0-9]+(-[0-9]+)?$", "", word.rstrip(",.;:)").lstrip("("))
            if (re.fullmatch(rf"(\./)?({FOLDERS})/[\w.+/-]*(/|\.[a-z0-9]+)", name) or
                    re.fullmatch(r"(\./)?(scripts|\.ci)/[\w.+-]+|[A-Z]+\.md", name)) and name not in MADE and \
                    not Path(name).exists() and not (page.parent / name).exists():
                yield f"{page}:{number}: there is no {name}"


# Lines of which each has one fault, and such as have none.
FAULTY = ["`fff verify --nosuch x`", "`fff verify --nosuch=one x`", "`fff verify --nosuch, x`", "`fff verify --NoSuch`",
          "`fff verify --x2`", "`fff nosuch`", "`fff cpu | fff nosuch`", "`fff cpu | fff verify --nosuch`", "`make nosuch`",
          "`cd build && make nosuch`", "`make demo nosuch`", "`cd build; make nosuch`", "`.ci/nosuch`", "`.github/nosuch.yml`",
          "`scripts/nosuch`", "`scripts/nosuch.sh:12`", "`scripts/nosuch.sh`", "`CONTRIBUTNG.md`", "`docs/nosuch/`"]
SOUND = ["`fff verify --json x | jq --nosuch`", "`make demo check BUILD=x # nosuch`", "`scripts/test.sh:12`", "`.ci/run`",
         "`README.md`", "`scripts/engines`", "make nosuch", "    make demo     nosuch"]


def test_itself(names):
    """Lines with a planted fault that are taken for sound, and the other way round."""
    for lines, expected in (FAULTY, 1), (SOUND, 0):
        for line in lines:
            found = list(names_that_lead_nowhere(Path("docs/page.md"), line, *names))
            if len(found) != expected:
                yield f"scripts/check_links.py finds in '{line}': {found}"


def faults_of(page, is_known, texts, names):
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
    if page.name not in ("CHANGELOG.md", "trials.md", "report.md"):  # these tell of their day
        yield from names_that_lead_nowhere(page, text, *names)
    if page.name != "report.md":
        for number, line in prose(text):
            if len(line) >= COLUMNS and not line.startswith(("|", "![")):
                yield f"{page}:{number}: {len(line)} columns of prose"


def answer_of(address):
    """What is wrong with an address, and whether that is a fault; or None."""
    for last in (False, True):  # twice, since connections fail now and then
        try:
            request = urllib.request.Request(address, headers={"User-Agent": "Mozilla/5.0 (check_links.py of libfff)"})
            with urllib.request.urlopen(request, timeout=30):
                return None
        except urllib.error.HTTPError as error:
            return f"status {error.code}", error.code not in (401, 403, 429)
        except (OSError, ValueError) as error:
            if last:
                return str(error), True
    return None


def check_external(pages, texts):
    """Follows each address once, whatever its anchor; prints what is wrong, and on which pages."""
    places = {}
    for page in pages:
        for number, target in links(texts(page)):
            if re.match(r"https?:", target):
                places.setdefault(target.partition("#")[0], []).append(f"{page}:{number}")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = dict(zip(places, pool.map(answer_of, places)))
    wrong = {address: answer for address, answer in answers.items() if answer}
    for address, (what, is_fault) in wrong.items():
        print(f"{', '.join(places[address])}: {address}: {what}{'' if is_fault else ', cannot be told'}")
    faults = sum(is_fault for _, is_fault in wrong.values())
    print(f"{len(pages)} pages, {len(places)} addresses, {faults} faults")
    return 1 if faults or not places else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--external", action="store_true", help="follow links to other sites instead")
    parser.add_argument("files", nargs="*")
    arguments = parser.parse_args()
    known = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], check=True, stdout=subprocess.PIPE,
                           text=True).stdout.split("\0")
    known = {Path(name).resolve() for name in known if name and Path(name).exists()}
    folders = {parent for name in known for parent in name.parents}
    pages = [Path(name) for name in arguments.files] or sorted(Path(name).relative_to(Path.cwd()) for name in known if name.suffix == ".md")
    read = {}

    def texts(path):
        path = path.resolve()
        if path not in read:
            read[path] = path.read_text(encoding="utf-8")
        return read[path]

    if arguments.external:
        return check_external(pages, texts)
    names = known_names()
    faults = list(test_itself(names))
    faults += [fault for page in pages for fault in faults_of(page, lambda file: file.resolve() in known | folders, texts, names)]
    print("\n".join(faults + [f"{len(pages)} pages, {sum(1 for page in pages for _ in links(texts(page)))} links, {len(faults)} faults"]))
    return 1 if faults or not pages else 0


if __name__ == "__main__":
    sys.exit(main())
