#!/usr/bin/env python3
"""Runs a selection of fff_bench and writes bench/results/: what was measured, how sure it is, tables and pictures.

    report.py --bench build/bench/fff_bench --out bench/results [--filter REGEX] [--isa NAME,NAME] [--routes FILE]

A layer is compared with the fastest dense layer of as many neurons. First every way of every dense library is tried
at that size and batch; then the fastest few, the FFF layers and the limit run in one process, their repetitions
interleaved at random. Layers that store narrow weights run in the same process as the float32 layer, with the fastest
dense layer of their own type beside the fastest of float32. A ratio is taken between repetitions of the same index in
the same process; shown are the median of all, and a spread: from the smallest to the largest, or farther, to where
another run's median is to be expected. Several processes, because where memory happens to lie changes times more than
repetitions do; in rounds over all cases, because the machine changes in minutes.

Exit status: 0; 1 if a timed output was wrong; 2 for arguments that make no sense; 3 if all was measured and written, but not all
pictures could be drawn.
"""

import argparse
import collections
import json
import math
import os
import re
import sys
import tempfile
import time

from reporting import conditions, page, python_peers, tables
from reporting.cases import ONE_LEAF_TREE, label
from reporting.harness import Harness, WrongOutput
from reporting.measuring import measure, measure_in_rounds, row_stored, rows_of, rows_of_forests, rows_of_threads
from reporting.results import Results
from reporting.selection import default_selection, select, usable_isas
from reporting.spread import allow_for_other_runs, mark_noisy
from reporting.trials import LARGE, Trials

FLOP_RATIO = 4095 / 12  # of the published shape: multiplications saved
WRITTEN = ("report.md", "summary.json", "benchmark.json", "pytorch.json", "fastfeedforward.json",
           "speedup.svg", "depth.svg", "trees.svg", "isas.svg", "stored.svg")  # by some run


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/bench/fff_bench")
    parser.add_argument("--out", default="bench/results")
    parser.add_argument("--filter", help="a regular expression to find in names")
    parser.add_argument("--isa", help="instruction sets, with commas between; all that are usable by default")
    parser.add_argument("--routes", help="a file with recorded routes (see bench/README.md)")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--min-time", type=float, default=0.03, help="seconds for a repetition")
    return parser.parse_args()


def judge(rows, what, flag="noisy"):
    """How sure ratios are, once all of a kind are known."""
    mark_noisy(rows, what, flag)
    allow_for_other_runs(rows, what)


def judge_stored(rows):
    judge(rows, "speedup")
    for what in ("times_f32", "times_dense_own"):
        judge(rows, what, what + "_noisy")


def measure_layers(harness, arguments, names, cases, stored, say):
    """The rows of layers of float32 and of other types: case by case, round after round."""
    trials, measured = Trials(harness, names), {case: collections.defaultdict(list) for case in cases}
    for process in range(arguments.processes):
        for index, (case, isas) in enumerate(cases.items()):
            if process >= 2 and case.batch >= LARGE:
                continue
            say(f"round {process + 1}, {index + 1}/{len(cases)} {label(case)}")
            measure(harness, trials, names, case, isas, stored.get(case, []), arguments.repetitions, process, measured[case])
    rows, stored_rows = [], []
    for case, isas in cases.items():
        rows += rows_of(case, isas, measured[case])
        stored_rows += [row_stored(case, kind, isa, measured[case]) for kind, isa in stored.get(case, [])]
    judge(rows, "speedup")
    judge_stored(stored_rows)
    return rows, stored_rows


def measure_all(harness, arguments, names, selected, say):
    cases, threads, others, stored, forests = selected
    results = Results()
    results.layers, results.stored = measure_layers(harness, arguments, names, cases, stored, say)
    groups = {group: ("threads, " + label(group[0]), of_case) for group, of_case in threads.items()}
    for group, measured in measure_in_rounds(harness, groups, arguments, say, all_cpus=True).items():
        results.threads += rows_of_threads(*group, measured)
    judge(results.threads, "times_one_thread")
    groups = {group: (f"forest/{group[0]}", of_case) for group, of_case in forests.items()}
    for group, measured in measure_in_rounds(harness, groups, arguments, say).items():
        results.forests += rows_of_forests(*group, measured)
    judge(results.forests, "times_beside")
    if forests:
        say("fastfeedforward")
        results.leaf_peer = python_peers.run_leaf_peer(arguments.bench, forests)
    if others:
        say(f"{len(others)} kernels")
        results.kernels = harness.run(others, arguments.repetitions, interleave=False)
    if not arguments.filter:
        say("PyTorch")
        results.pytorch = python_peers.run_python_peer(arguments.bench, "pytorch_peer.py")
    return results


def missing_peers(arguments, results, forests):
    notes = []
    if results.pytorch is None and not arguments.filter:
        notes.append("PyTorch was not found, so the layer by its batched products is missing: install python3-torch.")
    if results.leaf_peer is None and any(ONE_LEAF_TREE.fullmatch(forest) for forest, _ in forests):
        notes.append("The authors' package fastfeedforward, or PyTorch, was not found, so their leaf layer is missing: install "
                     'python3-torch, and run `eval "$(scripts/fetch_peers.sh)"` first.')
    return notes


def draw(results, folder):
    """The pictures, as (title, file), notes, and whether one failed."""
    try:
        import plots  # pylint: disable=import-outside-toplevel
    except ImportError:
        return [], ["matplotlib was not found, so there are no pictures: install python3-matplotlib."], False
    pictures, failures = plots.draw(results.layers, results.stored, folder, FLOP_RATIO)
    return pictures, [f"A picture could not be drawn: {failure}." for failure in failures], bool(failures)


def write(folder, name, text):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)


def write_figures(folder, harness, results):
    """All but the report; what a former run left is removed."""
    for name in WRITTEN:
        if os.path.exists(os.path.join(folder, name)):
            os.remove(os.path.join(folder, name))
    write(folder, "benchmark.json", json.dumps({"context": harness.context, "benchmarks": harness.runs}, indent=1))
    write(folder, "summary.json", json.dumps(results.rows(), indent=1))
    if results.pytorch:
        write(folder, "pytorch.json", json.dumps(results.pytorch, indent=1))
    if results.leaf_peer:
        write(folder, "fastfeedforward.json", json.dumps(results.leaf_peer, indent=1))


def main_table(results):
    """What the terminal shows."""
    if results.stored and not results.layers:
        return tables.stored_table(results.stored, results.layers)
    if results.threads and not results.layers:
        return tables.threads_table(results.threads)
    if results.forests and not results.layers:
        peer = [""] + page.leaf_peer_section(results.leaf_peer) if results.leaf_peer else []
        return tables.forest_table(results.forests) + peer
    return tables.layer_table(page.main_rows(results.layers) or results.layers)


def refuse(what):
    print("report.py: " + what, file=sys.stderr)
    return 2


def wrong_with(arguments):
    """A sentence, or None. Makes the folder for the results: better now than after all was measured."""
    if arguments.repetitions < 1 or arguments.processes < 1 or not 0 < arguments.min_time < math.inf:
        return "--repetitions, --processes and --min-time must be positive"
    if not os.access(arguments.bench, os.X_OK) or os.path.isdir(arguments.bench):
        return f"there is no program {arguments.bench}: name it with --bench"
    try:
        os.makedirs(arguments.out, exist_ok=True)
        with tempfile.TemporaryFile(dir=arguments.out):
            pass
    except OSError as error:
        return f"{arguments.out} cannot be written to: {error.strerror}"
    return None


def main():
    arguments = read_arguments()
    fault = wrong_with(arguments)
    if fault:
        return refuse(fault)
    for name in conditions.HOLDS_BACK:
        os.environ.pop(name, None)
    if arguments.routes:
        os.environ["FFF_BENCH_ROUTES"] = os.path.abspath(arguments.routes)
    began = time.time()
    harness = Harness(arguments.bench, arguments.min_time)
    names = harness.names()
    isas = arguments.isa.split(",") if arguments.isa else None
    usable = usable_isas(names)
    for isa in isas or []:
        if isa not in usable:
            return refuse(f"instruction set '{isa}' is not usable here; these are: {', '.join(usable)}")
    try:
        wanted = re.compile(arguments.filter).search if arguments.filter else default_selection(isas or usable).fullmatch
        selected = cases, threads, others, _, forests = select(names, wanted, isas)
    except re.error as error:
        return refuse(f"'{arguments.filter}' is no regular expression: {error}")
    if not cases and not threads and not others and not forests:
        harness.explain()
        return refuse(f"no benchmark's name has '{arguments.filter or 'what is run by default'}' in it" +
                      (f", of {arguments.isa}" if isas else ""))

    busy = conditions.busy_processors()
    try:
        results = measure_all(harness, arguments, names, selected,
                              lambda what: print(f"[{time.time() - began:4.0f} s] {what}", flush=True))
    except WrongOutput as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 1

    notes = conditions.warnings(harness.context, busy) + missing_peers(arguments, results, forests)
    took = time.time() - began
    write_figures(arguments.out, harness, results)
    write(arguments.out, "report.md", page.markdown(harness.context, notes, results, [], took))
    pictures, more_notes, failed = draw(results, arguments.out)
    notes += more_notes
    write(arguments.out, "report.md", page.markdown(harness.context, notes, results, pictures, took))
    for note in notes:
        print("warning: " + note)
    print("\n".join(main_table(results)))
    print(f"\nWritten to {arguments.out}: report.md, summary.json, benchmark.json" +
          "".join(f", {file}" for _, file in pictures) + f"; {(time.time() - began) / 60:.1f} minutes")
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
