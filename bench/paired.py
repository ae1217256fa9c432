#!/usr/bin/env python3
"""Is one build of libfff faster than another? Called by scripts/bench_compare.sh:

    paired.py --program PAIRED --base LIBRARY --new LIBRARY [--processes 12]

Each process times three new copies of the libraries: the base, the base once more, and the new one, loaded in another order each
time. A row's ratio is the new time by the base's, its noise the ratios of the base's two copies. A row has moved if the median of
its ratios lies outside of the noise and all ratios but one at most lie on the same side of 1; of fewer than 4 processes they always
do, so nothing is said. Ends with 1 if a row differs in bits, with 2 if nothing can be measured.
"""

import argparse
import collections
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

ORDERS = [(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2)]
BASE, AGAIN, NEW = range(3)
FEWEST = 4  # processes: of 3, 2 always lie on one side


def run_process(program, libraries, order):
    """Microseconds of each row and library, and the rows whose bits differ, of one process with copies of its own."""
    with tempfile.TemporaryDirectory() as folder:
        copies = []
        for place in order:
            copies.append(pathlib.Path(folder) / f"{place}.so")
            shutil.copy(libraries[place], copies[-1])
        printed = subprocess.run([program, *copies], check=True, stdout=subprocess.PIPE, text=True).stdout
    times, different = collections.defaultdict(dict), set()
    for line in printed.splitlines():
        place, shape, kind, batch, time, same = line.split("\t")
        row = (shape, kind, int(batch))
        times[row][order[int(place)]] = float(time)
        if same != "1":
            different.add(row)
    return times, different


def verdict(ratios, noise):
    middle = statistics.median(ratios)
    aside = max(sum(ratio < 1 for ratio in ratios), sum(ratio > 1 for ratio in ratios))
    if min(noise) <= middle <= max(noise) or aside < len(ratios) - 1:
        return ""
    return "faster" if middle < 1 else "SLOWER"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", required=True)
    parser.add_argument("--base", required=True)
    parser.add_argument("--new", required=True)
    parser.add_argument("--processes", type=int, default=12)
    options = parser.parse_args()
    if options.processes < 1:
        parser.error("--processes must be positive")
    libraries = [os.path.realpath(path) for path in (options.base, options.base, options.new)]
    runs, different = [], set()
    for i in range(options.processes):
        try:
            times, bits = run_process(options.program, libraries, ORDERS[i % len(ORDERS)])
        except subprocess.CalledProcessError:
            return 2  # it has said why
        runs.append(times)
        different |= bits
        print(f"process {i + 1} of {options.processes}", file=sys.stderr, flush=True)
    print(f"{'shape':9} {'type':14} {'batch':>6} {'base, us':>9} {'new, us':>9} {'new/base':>9}  {'spread':13}  {'noise':13}")
    moved, judged = 0, options.processes >= FEWEST
    for row in runs[0]:
        ratios = [times[row][NEW] / times[row][BASE] for times in runs]
        noise = [times[row][AGAIN] / times[row][BASE] for times in runs]
        base, new = (statistics.median(times[row][which] for times in runs) for which in (BASE, NEW))
        said = verdict(ratios, noise) if judged else ""
        moved += said != ""
        print(f"{row[0]:9} {row[1]:14} {row[2]:6} {base:9.3f} {new:9.3f} {statistics.median(ratios):9.3f}  {min(ratios):.3f}-{max(ratios):.3f}"
              f"    {min(noise):.3f}-{max(noise):.3f}    {said}{', OTHER BITS' if row in different else ''}".rstrip())  # fmt: skip
    moves = f"{moved} of {len(runs[0])} rows moved beyond noise" if judged else f"fewer than {FEWEST} processes do not tell what moved"
    print(f"{moves}; {len(different)} have other bits")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
