#!/usr/bin/env python3
"""Tells whether one run of `make bench` reproduces another:

    compare.py FIRST/summary.json SECOND/summary.json

For every row of a layer beside a dense one that both have: does the second's median ratio lie within the first's spread?
Where it does not, the row is shown. Rows of threads, of leaf layers and of training, whose ratios are others, are not
compared. Exit status: 0 if all do, 1 if not, 2 if the files cannot be compared.
"""

import json
import sys

SAME = ("model", "width", "isa", "batch", "threads", "weights", "routes")
STORED = "stored"  # what a layer stores; absent: float32


def read_rows(path):
    with open(path, encoding="utf-8") as file:
        return {tuple(row[key] for key in SAME) + ((row[STORED],) if STORED in row else ()): row for row in json.load(file)}


def outside(first, second):
    """The rows whose second median is not within the first's spread: [(key, spread, first median, second median)]."""
    found = []
    for key in first.keys() & second.keys():
        spread, median = first[key].get("speedup_spread"), second[key].get("speedup")
        if spread and median and not spread[0] <= median <= spread[1]:
            found.append((key, spread, first[key]["speedup"], median))
    return sorted(found)


def main(arguments):
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        first, second = map(read_rows, arguments)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"compare.py: {error!r}", file=sys.stderr)
        return 2
    both = [key for key in first.keys() & second.keys() if first[key].get("speedup") and second[key].get("speedup")]
    if not both:
        print("compare.py: the two have no ratios in common", file=sys.stderr)
        return 2
    wrong = outside(first, second)
    for key, spread, before, now in wrong:
        print(f"{' '.join(map(str, key))}: {now:.3g}, before {before:.3g} ({spread[0]:.3g} to {spread[1]:.3g}), "
              f"{100 * (now / before - 1):+.1f} %")
    print(f"{len(both) - len(wrong)} of {len(both)} medians lie within the first run's spread")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
