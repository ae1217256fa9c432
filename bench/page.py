#!/usr/bin/env python3
"""The tables of README.md and of docs' pages of benchmarks out of a report of `make bench`, figure by figure as they stand there.

    bench/page.py            checks that they are the report's; scripts/check_docs.sh calls it
    bench/page.py --write    puts them into the pages

Above a table stands a line `<!-- table: NAME of FOLDER -->`: one of the functions below, and where the report is.
"""

import difflib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/benchmarks.md", "docs/benchmarks/zen3/README.md")
BEST = ("generic", "arm_neon", "x86_avx2", "x86_avx512")  # in order of preference
BATCHES = (1, 8, 64, 512, 4096, 16384)  # of the README


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def table(head, align, rows):
    return [f"| {' | '.join(head)} |", f"|{'|'.join(align.split())}|"] + [f"| {' | '.join(map(str, row))} |" for row in rows]


class Report:
    """The tables of a report.md by their sections' names, each a list of rows by columns' names; of two columns with one name the
    second has a " 2" behind it."""

    def __init__(self, folder):
        self.folder, self.tables, section, head = folder, {}, None, None
        for line in (folder / "report.md").read_text(encoding="utf-8").splitlines():
            if line.startswith("## "):
                section, head = line[3:], None
            elif line.startswith("|") and head is None:
                names = cells(line)
                head = [name if name not in names[:index] else name + " 2" for index, name in enumerate(names)]
            elif line.startswith("|") and not line.startswith("|--"):
                self.tables.setdefault(section, []).append(dict(zip(head, cells(line))))
        self.best = max((row["Instruction set"] for row in self.tables["Layers"]), key=BEST.index)

    def rows(self, section="Layers", **wanted):
        """Those with these values; _ in a column's name stands for a space."""
        wanted = {name.replace("_", " "): str(value) for name, value in wanted.items()}
        return [row for row in self.tables[section] if all(row[name] == value for name, value in wanted.items())]

    def layers(self, model="1x11", width=768, weights="warm", routes="uniform", isa=None, **wanted):
        return self.rows(Model=model, Width=width, Weights=weights, Routes=routes, Instruction_set=isa or self.best, **wanted)

    def other(self, row, isa, column="Times faster"):
        """What another instruction set has in the row's place, or nothing."""
        same = {name.replace(" ", "_"): row[name] for name in ("Model", "Width", "Batch", "Weights", "Routes")}
        found = self.rows(**same, Instruction_set=isa)
        return found[0][column] if found else ""

    def pytorch(self, batch):
        """Times faster than nn.Linear's feedforward, of python/bench/bench_torch_dense.py, if its output is beside the report."""
        file = self.folder / "pytorch.txt"
        found = re.search(rf"^ +batch +{batch} .* ([\d.]+) times faster", file.read_text(encoding="utf-8"), re.M) if file.exists() else None
        return f"{float(found.group(1)):.3g}" if found else None

    def readme(self):
        """No bit differs: where one does, no report is written."""
        stored = {(row["Batch"], row["Stored"]): plain(row, "Times faster than dense f32")
                  for row in self.rows("By stored type", Instruction_set=self.best)}
        rows, against = [], [self.pytorch(batch) for batch in BATCHES]
        for row in (row for batch in BATCHES for row in self.layers(Batch=batch)):
            batch = row["Batch"]
            rows.append([batch, row["Dense best µs/token"], row["FFF µs/token"], f"**{plain(row)}**", row["Spread"],
                         stored[batch, "bf16"], stored[batch, "i8"], 0] + ([self.pytorch(batch)] if all(against) else []))
        head = ["Batch", "Best dense, µs a token", "libfff, µs", "Times faster", "Spread", "with bfloat16", "with int8", "Bits that differ"]
        return table(head + ["than nn.Linear, in PyTorch"] * all(against), "--: --: --: --: -- --: --: --:" + " --:" * all(against), rows)

    def by_batch(self):
        others = {name: isa for name, isa in (("AVX2 times faster", "x86_avx2"), ("Generic C", "generic")) if isa != self.best}
        return table(["Batch", "Dense best µs/token", "by", "FFF µs/token", "Times faster", "Spread", "Limit µs/token", "% of limit", *others],
                     "--: --: -- --: --: -- --: --:" + " --:" * len(others),
                     [[row["Batch"], row["Dense best µs/token"], row["by"], row["FFF µs/token"], emphasised(row), row["Spread"],
                       row["Limit µs/token"], row["% of limit"], *(self.other(row, isa) for isa in others.values())]
                      for row in self.layers()])

    def otherwise(self):
        rows = self.tables["The same work otherwise"]
        return table(list(rows[0]), "--: --: --: --: --: --:", [row.values() for row in rows])

    def routes(self):
        rows = self.layers(weights="cold") + self.layers(routes="one_path")
        return table(["Weights, routes", "Batch", "Dense best µs/token", "FFF µs/token", "Times faster", "Spread", "% of limit", "AVX2 times faster"],
                     "-- --: --: --: --: -- --: --:",
                     [[f"{row['Weights']}, {row['Routes'].replace('_', ' ')}", row["Batch"], row["Dense best µs/token"], row["FFF µs/token"],
                       row["Times faster"], row["Spread"], row["% of limit"], self.other(row, "x86_avx2")] for row in rows])

    def stored(self):
        rows = []
        for row in self.rows("By stored type", Instruction_set=self.best):
            other = self.rows("By stored type", Instruction_set="x86_avx2", Batch=row["Batch"], Stored=row["Stored"])
            rows.append([row["Batch"], row["Stored"], row["µs/token"], other[0]["µs/token"] if other else "", row["Times f32"],
                         row["Times faster than dense f32"], row["Than dense of its type"], row["Error, rms"], row["Other routes"]])
        return table(["Batch", "Stored", "µs/token", "AVX2, µs/token", "Times f32", "Times faster than dense f32",
                      "Than dense of its type", "Error, rms", "Other routes"], "--: -- --: --: --: --: --: --: --:", rows)

    def shape_table(self, name, shapes):
        return table(name + ["Neurons", "used", "Batch", "FFF µs/token", "Dense best µs/token", "Times faster", "Spread", "% of limit"],
                     "--" + " --:" * 6 + " -- --:",
                     [[shape, trees * (2 ** (depth + 1) - 1), trees * (depth + 1), row["Batch"], row["FFF µs/token"], row["Dense best µs/token"],
                       row["Times faster"], row["Spread"], row["% of limit"]]
                      for shape, trees, depth, batches in shapes for batch in batches for row in self.layers(model=shape, Batch=batch)])

    def trees(self):
        return self.shape_table(["Shape"], [(f"{trees}x{depth}", trees, depth, (1, 64, 1024)) for trees, depth in
                                            ((3072, 0), (512, 2), (128, 4), (32, 6), (8, 8), (1, 11))])

    def depth(self):
        return self.shape_table(["Shape"], [(f"1x{depth}", 1, depth, (1,)) for depth in range(1, 14, 2)])

    def width(self):
        rows = [row for width in (256, 1024, 4096) for batch in (1, 64) for row in self.layers(width=width, Batch=batch)]
        names = ["Width", "Batch", "FFF µs/token", "Dense best µs/token", "Times faster", "Spread", "% of limit"]
        return table(names, "--: --: --: --: --: -- --:", [[row[name] for name in names] for row in rows])

    def limit(self):
        rows = self.tables["How far from the limit"]
        return table(list(rows[0]), "--: --: --: --: --: --: --: --:", [row.values() for row in rows])

    def threads(self):
        names = ["Model", "Routes", "Batch", "One thread µs/token", "µs/token", "Times one thread", "Spread"]
        return table(names[:4] + ["Two threads", "Times", "Spread"], "-- -- --: --: --: --: --",
                     [[row[name] for name in names] for row in self.rows("Threads", Threads=2, Instruction_set=self.best)])

    def training(self):
        names = ["Batch", "µs/token", "µs/token 2", "Times as fast", "Spread"]
        return table(["Batch", "µs/token", "Twin, µs/token", "Times as fast", "Spread"], "--: --: --: --: --",
                     [[row[name] for name in names] for row in self.rows("Training", Layer="step_1x11") if row["Beside it"].startswith("dense_4095")])

    def pytorch_layers(self):
        rows = self.tables["PyTorch"]
        return table(list(rows[0]), "--: --: --: --: --", [row.values() for row in rows])

    def by_layer(self, section, batches, cell, beside=None):
        """A row a layer, a column a batch size."""
        rows = self.rows(section)
        lines = []
        for layer in dict.fromkeys(row["Layer"] for row in rows):
            own = {row["Batch"]: row for row in rows if row["Layer"] == layer}
            first = next(iter(own.values()))
            lines.append([layer_name(layer)] + ([layer_name(first[beside])] if beside else []) +
                         [cell(own[batch]) if batch in own else "" for batch in batches])
        return table(["Layer"] + ["Beside it"] * bool(beside) + list(batches), " ".join(["--"] * (1 + bool(beside) + len(batches))), lines)

    def leaves(self):
        return self.by_layer("Leaf layers and forests", ("1", "8", "64", "512", "4096"),
                             lambda row: f"{row['µs/token']} ({plain(row, 'Times as fast')})", "Beside it")

    def authors(self):
        return self.by_layer("The authors' leaf layer", ("1", "8", "64", "512", "4096"),
                             lambda row: f"{row['fastfeedforward µs/token']} / {row['libfff µs/token']} = {plain(row)}")


def plain(row, column="Times faster"):
    return row[column].replace(" (noisy)", "")


def emphasised(row):
    return re.sub(r"^[\d.]+", lambda number: f"**{number.group()}**", row["Times faster"])


def layer_name(name):
    leaf = re.fullmatch(r"leaf_(\d+x\d+)_w(\d+)", name)
    return f"leaf {leaf.group(1)}, {leaf.group(2)} wide" if leaf else name.removeprefix("path_").removeprefix("forest_")


def filled(page):
    """The page's text with the tables of its report."""
    lines, result = page.read_text(encoding="utf-8").splitlines(), []
    index, count = 0, 0
    while index < len(lines):
        line = lines[index]
        result.append(line)
        index += 1
        mark = re.fullmatch(r"<!-- table: (\w+) of (\S+) -->", line)
        if mark:
            result.extend(getattr(Report(ROOT / mark.group(2)), mark.group(1))())
            count += 1
            while index < len(lines) and lines[index].startswith("|"):
                index += 1
    return "\n".join(result) + "\n", count


def main():
    faults = 0
    for page in (ROOT / name for name in PAGES):
        text, count = filled(page)
        if "--write" in sys.argv[1:]:
            page.write_text(text, encoding="utf-8")
            continue
        changes = list(difflib.unified_diff(page.read_text(encoding="utf-8").splitlines(), text.splitlines(), page.name, "its report", lineterm="", n=0))
        print("\n".join(changes + [f"{page.name}: {count} tables, {'not ' if changes else ''}as in the report"]))
        faults += bool(changes) or not count
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
