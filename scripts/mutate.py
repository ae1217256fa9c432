#!/usr/bin/env python3
"""Mutation testing: does some test notice when the code is wrong?

    scripts/mutate.py [--count 60] [--seed 1] [--minutes 90] [--only layer/ bert/config.c:40] [--list]    # --help tells the rest

Makes faults in kernels, layer and the readers of files, one at a time: an operator, a constant or an argument is another one, a
statement is left out, a condition is turned round. Each mutant is built in a copy of the sources (build-mutation/) and tried by
the fast tests that could see it, until one fails. Prints a line for each; at the end how many were killed, survived, or were no C,
and the survivors. docs/mutation.md says what became of those. Ends with 1 if any survived, or fewer were killed than --least says.
"""

import argparse
import collections
import dataclasses
import glob
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build-mutation"

# What is mutated, and the programs of a build's tests/ that try it, the quickest to find something first.
LAYER_TESTS = """soak test_errors fuzz_create fuzz_calls test_overlap test_no_allocation test_runner test_adam test_differentiate
    test_golden test_forest test_typed test_narrow test_layer fingerprint test_backward test_borrow test_batch test_store"""
GROUPS = {
    "kernels": (
        ["kernels/*.h", "kernels/*/*.[ch]"],
        "soak test_adam test_differentiate exhaustive_gelu exhaustive_derivatives test_narrow fingerprint test_backward test_kernels",
    ),
    "layer": (["layer/*.[ch]"], LAYER_TESTS),
    "readers": (
        [f"bert/{name}.c" for name in ("characters", "config", "file", "file_kind", "json_file", "json_walk", "matcher", "normalize",
                                       "safetensors", "sentence", "tensor", "text", "wordpiece*")],
        "fuzz_safetensors fuzz_config fuzz_tokenizer test_config test_messages test_tokenizer_recorded test_tokenizer test_bert"
        " test_safetensors test_model_files.py",
    ),
    # Files of layers, as the fff command reads them.
    "tools": (
        ["tools/files/layer_file.c", "tools/files/leaf_file.c", "tools/files/path_file.c", "tools/files/tensors.c",
         "tools/dense/stored_numbers.c"],
        "test_golden test_safetensors test_store test_tool.py test_model_files.py",
    ),
}
# What a CPU must have for the tests to run this code, by Linux's names in /proc/cpuinfo; of several that match, the longest decides.
NEEDS = {"kernels/x86_avx2/": "avx2", "kernels/x86_ymm_row.h": "avx2", "kernels/x86_avx2/i8_vnni.c": "avx_vnni", "kernels/x86_convert.h": "avx2",
         "kernels/x86_avx512/": "avx512bw", "kernels/x86_avx512/i8_vnni.c": "avx512_vnni",
         "kernels/arm_neon/": "asimd", "kernels/arm_neon/i8_dotprod.c": "asimddp", "kernels/generic/fmaf_windows.c": "Windows"}  # fmt: skip
# Whose test is not named after them.
FIRST = {"gradients": "test_backward", "check_gradients": "test_backward", "visits": "test_backward", "tour": "test_backward",
         "given_rows": "test_forest", "leaves": "test_forest", "nodes": "test_errors", "rows": "test_overlap", "erf": "exhaustive_gelu", "erf_f32": "exhaustive_gelu",
         "characters": "test_tokenizer", "matcher": "test_tokenizer", "normalize": "test_tokenizer",
         "sentence": "test_model_files.py", "file_kind": "test_model_files.py", "stored_numbers": "test_store"} | {  # fmt: skip
    f"wordpiece{part}": "test_tokenizer" for part in ("", "_config", "_encode", "_fields", "_json", "_json_normalizer", "_read")}
ARGUMENTS = {
    "soak": ["--cases", "8", "--seed", "1"],
    "fingerprint": ["tests/data/fingerprint.txt"],
    "exhaustive_gelu": ["40099"],
    "exhaustive_derivatives": ["40099"],
    "test_model_files.py": ["--failfast"],
    "test_tool.py": ["--failfast", "-k", "Verify", "-k", "LeafAndForestFiles", "-k", "NarrowLayers"],
}

# Binary operators, which the formatter surrounds by spaces, and what stands in their place.
OPERATORS = {
    "<": ["<=", ">"], "<=": ["<"], ">": [">=", "<"], ">=": [">"], "==": ["!="], "!=": ["=="], "&&": ["||"], "||": ["&&"],
    "+": ["-"], "-": ["+"], "*": ["+"], "/": ["*"], "%": ["/"], "<<": [">>"], ">>": ["<<"], "&": ["|"], "|": ["&"], "^": ["|"],
    "+=": ["-=", "="], "-=": ["+="], "*=": ["="], "|=": ["="],
}
# Functions of which one is easily taken for the other.
WORDS = {
    "true": "false", "false": "true", "break": "continue", "continue": "break", "fff_min": "fff_max", "fff_max": "fff_min",
    "_CMP_GT_OQ": "_CMP_GE_OQ", "_CMP_LE_OQ": "_CMP_LT_OQ",
    "vaddq_f32": "vsubq_f32", "vmaxq_f32": "vminq_f32", "vminq_f32": "vmaxq_f32", "vfmaq_f32": "vfmsq_f32", "vcgtq_f32": "vcgeq_f32",
    "vzip1q_f32": "vzip2q_f32", "vzip2q_f32": "vzip1q_f32",
} | {f"{width}_{name}": f"{width}_{other}" for width in ("_mm", "_mm256", "_mm512") for name, other in {
    "add_ps": "sub_ps", "max_ps": "min_ps", "min_ps": "max_ps", "fmadd_ps": "fmsub_ps", "unpacklo_ps": "unpackhi_ps",
    "unpackhi_ps": "unpacklo_ps", "slli_epi32": "srli_epi32", "srai_epi32": "srli_epi32"}.items()}  # fmt: skip
# Lines that no result depends on: hints to the memory, and what only the compiler reads.
NO_EFFECT = re.compile(r"fetch|PREFETCH|FFF_OPAQUE|_Static_assert|assert\(|__attribute__|#|_Alignas|unlikely|likely\(")


@dataclasses.dataclass(frozen=True)
class Mutant:
    group: str
    path: str
    start: int
    end: int
    text: str  # what stands in place of the file's characters from start to end
    line: int
    kind: str


def code_only(source):
    """The source with comments, strings and preprocessor lines blanked: of the same length, so that places stay."""
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|^[ \t]*#(?:\\\n|[^\n])*'
    return re.sub(pattern, lambda match: re.sub(r"[^\n]", " ", match.group()), source, flags=re.S | re.M)


def split_arguments(text):
    """Arguments of a call, parted at commas outside of brackets."""
    depth, parts, start = 0, [], 0
    for i, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append((start, i))
            start = i + 1
    return [*parts, (start, len(text))]


def mutants_of(group, path, source):
    code = code_only(source)
    lines = [0, *(match.end() for match in re.finditer("\n", code))]

    def line_of(place):
        return next(i for i in range(len(lines), 0, -1) if lines[i - 1] <= place)

    def line_at(place):
        return code[code.rfind("\n", 0, place) + 1 : (code + "\n").find("\n", place)]

    def inside_function(place):
        return code.count("{", 0, place) > code.count("}", 0, place)

    def mutant(start, end, text, kind):
        if inside_function(start) and not NO_EFFECT.search(line_at(start)) and code[start:end] == source[start:end]:
            yield Mutant(group, path, start, end, text, line_of(start), kind)

    for match in re.finditer(r" (<<|>>|<=|>=|==|!=|&&|\|\||\+=|-=|\*=|\|=|[-+*/%<>&|^]) ", code):
        for other in OPERATORS[match.group(1)]:
            yield from mutant(match.start(1), match.end(1), other, "operator")
    for match in re.finditer(r"\b[A-Za-z_]\w*\b", code):
        if match.group() in WORDS:
            yield from mutant(match.start(), match.end(), WORDS[match.group()], "word")
    for match in re.finditer(r"(?<![\w.])(\d+)(?![\w.])", code):
        yield from mutant(match.start(), match.end(), str(int(match.group()) + 1), "constant")
    for match in re.finditer(r"(?<![\w.])(?:0x[\da-f.]+p[-+]?\d+|\d+\.\d*(?:e[-+]?\d+)?)f?(?!\w)", code):
        yield from mutant(match.start(), match.end(), f"({match.group()} * 1.5{'f' if match.group()[-1] == 'f' else ''} + 1)", "constant")
    for match in re.finditer(r"!(?=[\w(])", code):
        yield from mutant(match.start(), match.end(), "", "negation")
    for match in re.finditer(r"\bif \(", code):
        yield from mutant(match.end() - 1, match.end(), "(!", "condition")
    # A statement on a line of its own that is no declaration: a call or an assignment.
    for match in re.finditer(r"^ +((?:[\w.>\[\]*()+-]+ [-+*|&]?= |\w+\()[^;{}\n]*;)$", code, re.M):
        if not match.group(1).startswith(("return", "for", "while")):
            yield from mutant(match.start(1), match.end(1), ";", "statement left out")
    for match in re.finditer(r"\b(?!if|for|while|switch|sizeof|return)\w+\(([^;{}()]*(?:\([^;{}()]*\)[^;{}()]*)*)\)", code):
        places = split_arguments(match.group(1))
        for (a, b), (c, d) in zip(places, places[1:]):
            text = match.group(1)
            first, second = text[a:b].strip(), text[c:d].strip()
            if first and second and first != second and not re.match(r"(const|size_t|float|struct|void|uint\d+_t) ", first):
                swapped = text[a:b].replace(first, second, 1) + "," + text[c:d].replace(second, first, 1)
                yield from mutant(match.start(1) + a, match.start(1) + d, swapped, "arguments swapped")


def cpu_features():
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    return set(re.sub(r"(?m)^(?!flags|Features).*$", "", text).split())


def is_run_here(path, features):
    needed = max((name for name in NEEDS if path.startswith(name)), key=len, default=None)
    return needed is None or NEEDS[needed] in features


def all_mutants(only):
    features = cpu_features()
    for group, (patterns, _) in GROUPS.items():
        paths = sorted({path for pattern in patterns for path in glob.glob(pattern, root_dir=ROOT, recursive=True)})
        for path in paths:
            if not is_run_here(path, features):
                continue
            for mutant in mutants_of(group, path, (ROOT / path).read_text()):
                if only is None or any(path.startswith(name) or f"{path}:{mutant.line}" == name for name in only):
                    yield mutant


def tests_of(mutant):
    """Those of its group, the one that is about its file first."""
    stem = pathlib.Path(mutant.path).stem
    own = FIRST.get(stem, f"test_{stem}")
    return sorted(GROUPS[mutant.group][1].split(), key=lambda test: test != own)


def draw(mutants, count, seed):
    """A sample with as many of each group, as far as there are."""
    groups = collections.defaultdict(list)
    for mutant in mutants:
        groups[mutant.group].append(mutant)
    chooser, chosen = random.Random(seed), []
    for i, name in enumerate(sorted(groups)):
        share = count // len(groups) + (i < count % len(groups))
        chosen += chooser.sample(groups[name], min(share, len(groups[name])))
    # Those of a file together, so that each takes one compilation; files in any order, so that a run cut short has seen all kinds.
    order = {path: chooser.random() for path in sorted({mutant.path for mutant in chosen})}
    return sorted(chosen, key=lambda mutant: (order[mutant.path], mutant.path, mutant.start, mutant.text))


# What the compiler is to refuse, as the warnings that are errors in every other build do.
MISTAKES = ["-Werror=int-conversion", "-Werror=incompatible-pointer-types", "-Werror=array-bounds"]

CPU_SECONDS, WALL_SECONDS = 60, 900


class Workshop:
    """A copy of the sources and a build of it."""

    def __init__(self, folder):
        self.source, self.build = folder / "source", folder / "build"
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in filter(None, tracked.split("\0")):
            to = self.source / name
            if (ROOT / name).is_file() and (not to.exists() or to.read_bytes() != (ROOT / name).read_bytes()):
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, to)
        if not (self.build / "build.ninja").exists():
            options = ["-Dbench=disabled", "-Doptimization=1", "-Db_ndebug=true", f"-Dc_args={MISTAKES}"]
            subprocess.run(["meson", "setup", str(self.build), str(self.source), *options], check=True, stdout=subprocess.DEVNULL)

    def compile(self, tests):
        targets = {"tools/fff" if test.endswith(".py") else f"tests/{test}" for test in tests}
        targets |= {f"tests/fuzz_reached_{test.removeprefix('fuzz_')}" for test in tests if test.startswith("fuzz_")}
        done = subprocess.run(["ninja", "-C", str(self.build), "--quiet", "-j2", *targets], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode == 0

    def arguments(self, test):
        if test.startswith("fuzz_"):
            name = test.removeprefix("fuzz_")
            return [f"tests/fuzz/corpus/{name}", str(self.build / "tests" / f"fuzz_reached_{name}")]
        return ARGUMENTS.get(test, [])

    def passes(self, test):
        environment = {**os.environ, "FFF_ISA": "", "FFF_TEST_SHORT": "1", "FFF_TEST_SEED": "1"}
        # A mutant that runs or allocates without end is stopped: the tests take some seconds and megabytes.
        limited = ["sh", "-c", f'ulimit -t {CPU_SECONDS}; ulimit -v 8000000; exec "$@"', "sh"]
        if test.endswith(".py"):  # which asks for what the command prints
            command = [*limited, sys.executable, f"tests/{test}", str(self.build / "tools" / "fff"), "tests/data", *self.arguments(test)]
        else:
            command = [*limited, str(self.build / "tests" / test), *self.arguments(test)]
        try:
            done = subprocess.run(command, cwd=self.source, env=environment, timeout=WALL_SECONDS,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def verdict(self, mutant, tests):
        path = self.source / mutant.path
        original = (ROOT / mutant.path).read_text()
        path.write_text(original[: mutant.start] + mutant.text + original[mutant.end :])
        try:
            for test in tests:  # each linked when it is wanted
                if not self.compile([test]):
                    return "no C"
                if not self.passes(test):
                    return f"killed by {test}"
            return "SURVIVED"
        finally:
            path.write_text(original)


def describe(mutant):
    source = (ROOT / mutant.path).read_text()
    start = source.rfind("\n", 0, mutant.start) + 1
    end = source.find("\n", mutant.end)
    before = " ".join(source[start:end].split())
    after = " ".join((source[start : mutant.start] + mutant.text + source[mutant.end : end]).split())
    return f"{mutant.path}:{mutant.line}: {mutant.kind}\n    - {before}\n    + {after}"


def whole(text):
    if int(text) < 0:
        raise ValueError
    return int(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=whole, default=60, help="how many mutants to draw (60)")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (1)")
    parser.add_argument("--skip", type=whole, default=0, help="leave out so many of the draw: those that an earlier run has tried (0)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no mutant after so long")
    parser.add_argument("--least", type=float, default=1, help="the part that must be killed of what is killed or survives (1)")
    parser.add_argument("--only", nargs="+", metavar="PATH", help="draw from files whose paths begin so, or from a line, as PATH:LINE")
    parser.add_argument("--folder", type=pathlib.Path, default=FOLDER, help="where the copy is built, for runs side by side (build-mutation)")
    parser.add_argument("--list", action="store_true", help="print the mutants that are drawn, and try none")
    options = parser.parse_args()
    mutants = list(all_mutants(options.only))
    if not mutants:
        parser.error("--only: there is no place for a fault in what begins so")
    chosen = draw(mutants, options.count, options.seed)[options.skip :]
    print(f"{len(chosen)} of {len(mutants)} mutants, seed {options.seed}", flush=True)
    if options.list or not chosen:
        print("\n".join(describe(mutant) for mutant in chosen))
        return 0
    verdicts, shop, begun = {}, Workshop(options.folder.resolve()), time.monotonic()
    if not shop.compile({test for mutant in chosen for test in tests_of(mutant)}):  # all at once takes less than one by one
        sys.exit(f"mutate.py: the sources as they are do not compile: see ninja -C {options.folder}/build")
    for mutant in chosen:
        start = time.monotonic()
        if start - begun > 60 * options.minutes:
            break
        verdicts[mutant] = shop.verdict(mutant, tests_of(mutant))
        print(f"{verdicts[mutant]}, {time.monotonic() - start:.0f} s: {describe(mutant)}", flush=True)
    # What killed a mutant must let the code itself live.
    killers = sorted({verdict.removeprefix("killed by ") for verdict in verdicts.values() if verdict.startswith("killed")})
    if not shop.compile(killers) or not all(shop.passes(test) for test in killers):
        sys.exit("mutate.py: a test fails without a mutant, too: nothing is known")
    for group in GROUPS:
        of_group = [verdict for mutant, verdict in verdicts.items() if mutant.group == group]
        counts = collections.Counter(verdict.split(" by ")[0] for verdict in of_group)
        print(f"{group}: " + ", ".join(f"{counts[name]} {name.lower()}" for name in ("killed", "SURVIVED", "no C")))
    survivors = [mutant for mutant, verdict in verdicts.items() if verdict == "SURVIVED"]
    for mutant in survivors:
        print(f"SURVIVED: {describe(mutant)}")
    killed = sum(verdict.startswith("killed") for verdict in verdicts.values())
    return 1 if killed == 0 or killed < options.least * (killed + len(survivors)) else 0


if __name__ == "__main__":
    sys.exit(main())
