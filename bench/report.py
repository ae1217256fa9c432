#!/usr/bin/env python3
"""Runs a selection of fff_bench and writes bench/results/: what was measured, how sure it is, tables and pictures.

    report.py --bench build/bench/fff_bench --out bench/results [--filter REGEX] [--isa NAME,NAME] [--routes FILE]

A layer is compared with the fastest dense layer of as many neurons. First every way of every dense library is tried
at that size and batch; then the fastest few, the FFF layers and the limit run in one process, their repetitions
interleaved at random. Layers that store narrow weights run in the same process as the float32 layer, with the fastest
dense layer of their own type beside the fastest of float32. A ratio is taken between repetitions of the same index in the same process; shown are the median
of all, and a spread: from the smallest to the largest, or farther, to where another run's median is to be expected.
Several processes, because where memory happens to lie changes times more than repetitions do; in rounds over all
cases, because the machine changes in minutes.

Exit status: 0; 1 if a timed output was wrong; 2 for arguments that make no sense.
"""

import argparse
import collections
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROW_KERNELS = "node_dot|two_levels|descend|accumulate|roots|add_roots"  # those that are given rows of weights

# What `make bench` runs, FAST standing for every usable instruction set but the generic one, whose figures for
# everything would take longer than all the rest, and BEST for the one that is preferred.
DEFAULT = [
    # The published shape, by batch.
    r"layer/path_1x11/\w+/h768/b(1|2|4|8|16|32|64|128|256|512|1024|4096|16384)/warm/uniform",
    # Each layer from memory, as in a model; all tokens alike.
    r"layer/path_1x11/FAST/h768/b(1|64)/cold/uniform",
    r"layer/path_1x11/FAST/h768/b(1|64|4096)/warm/one_path",
    # All at hand.
    r"layer/path_1x11/BEST/h768/b\d+/hot/one_path",
    # Other depths, numbers of trees, widths.
    r"layer/path_1x(1|3|5|7|9|13)/FAST/h768/b1/warm/uniform",
    r"layer/path_(3072x0|512x2|128x4|32x6|8x8)/FAST/h768/b(1|64|1024)/warm/uniform",
    r"layer/path_1x11/FAST/h(256|1024|4096)/b(1|64)/warm/uniform",
    # More threads than one.
    r"layer_threads/path_1x11/BEST/h768/b(64|512|1024|4096|16384)/warm/uniform/t\d+",
    r"layer_threads/path_(1x11|512x2)/BEST/h768/b1024/warm/one_path/t\d+",
    # Whatever routes were given.
    r"layer/path_\w+/FAST/h768/b(1|64|4096)/warm/recorded",
    # What else can be stored.
    r"layer_stored/path_1x11/[\w+-]+/FAST/h768/b(1|8|64|512|4096|16384)/warm/uniform",
    # Leaf layers and layers of several parts.
    r"forest/[\w+]+/\w+/BEST/h768/b\d+",
    r"train/\w+/\w+/BEST/h768/b\d+",
    # Every entry of the kernel tables for float32; for other types what depends on them most.
    rf"({ROW_KERNELS})/f32/\w+/h768/.*",
    r"(node_dot|descend|accumulate)/(bf16|f16|i8)/FAST/h768/(t1/|t4/)?(L2|DRAM)",
    r"activate/f32/.*",
]
FLOP_RATIO = 4095 / 12  # of the published shape: multiplications saved
# What would make a dense library take other kernels than it would by itself: not in these measurements.
HOLDS_BACK = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS",
              "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
NOISY = 0.2  # a row whose smallest and largest ratio differ by more than this part of the median
CANDIDATES = 4  # dense layers timed against FFF: the fastest ones of the trial, if close
CLOSE = 1.12
LARGE = 2048  # batches from here on run fewer candidates in fewer processes: a dense layer takes seconds
SMALL = 4  # up to here dense layers are bound by memory, which others on the machine use too: trials vary more
CLOSE_SMALL = 1.5
CLOSE_BELOW = 1.3  # beyond half of LARGE, only those ways are tried that were so close at a smaller batch beyond that
# Another run's median lies within the spread with this probability: Student's t, two-sided 99 %, by degrees of freedom.
STUDENT = {4: 4.604, 5: 4.032, 6: 3.707, 7: 3.499, 8: 3.355, 9: 3.250, 10: 3.169, 12: 3.055, 15: 2.947, 20: 2.845, 30: 2.750}
POOLED_FREEDOM = 4  # what the variance of all rows counts for in that of one
MEDIAN_VARIANCE = {2: 0.455, 3: 0.693, 4: 0.789, 5: 0.839}  # of so many normal values whose variance is 1

LAYER = re.compile(r"layer/path_(\d+)x(\d+)/(\w+)/h(\d+)/b(\d+)/(hot|warm|cold)/(\w+)")
THREADS = re.compile(r"layer_threads/path_(\d+)x(\d+)/(\w+)/h(\d+)/b(\d+)/(warm|cold)/(\w+)/t(\d+)")
STORED = re.compile(r"layer_stored/path_(\d+)x(\d+)/([\w+-]+)/(\w+)/h(\d+)/b(\d+)/(warm|cold)/(\w+)")
FOREST = re.compile(r"(?:forest|train)/([\w+]+)/(\w+)/(\w+)/h(\d+)/b(\d+)")
ONE_LEAF_TREE = re.compile(r"leaf_1x(\d+)_w(\d+)")
KERNEL = re.compile(rf"({ROW_KERNELS}|activate)/(f32|bf16|f16|i8)/")
# Dense layers of a stored type; of two types, of the faster one. float16 has none.
OWN_DENSE = {"bf16": ["bf16"], "i8": ["i8"], "bf16+i8-exact": ["bf16", "i8"]}
Case = collections.namedtuple("Case", "trees depth width batch weights routes")


class WrongOutput(Exception):
    """A benchmark said that what it computed is wrong."""


class Harness:
    """fff_bench, and all that it reported."""

    def __init__(self, path, min_time):
        self.path, self.min_time = path, min_time
        self.context, self.runs = None, []
        self.all_cpus = os.sched_getaffinity(0)

    def names(self):
        listed = subprocess.run([self.path, "--benchmark_list_tests"], check=False, stdout=subprocess.PIPE, text=True)
        if listed.returncode != 0:
            sys.exit(2)  # it has said why
        return [without_suffix(line) for line in listed.stdout.splitlines()]

    def explain(self, pattern):
        subprocess.run([self.path, "--benchmark_filter=" + pattern], check=False)

    def run(self, names, repetitions, interleave=True, all_cpus=False, **labels):
        """Runs these names; returns {name: [run, ...]} by repetition index."""
        cpus = self.all_cpus if all_cpus else {max(self.all_cpus)}
        pattern = "^(" + "|".join(map(escape, names)) + ")/real_time$"
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            done = subprocess.run(
                [self.path, "--benchmark_filter=" + pattern, f"--benchmark_repetitions={repetitions}",
                 f"--benchmark_min_time={self.min_time}", "--benchmark_out=" + out.name, "--benchmark_out_format=json",
                 f"--benchmark_enable_random_interleaving={str(interleave).lower()}"],
                check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                preexec_fn=lambda: os.sched_setaffinity(0, cpus))  # pylint: disable=subprocess-popen-preexec-fn
            if done.returncode not in (0, 1):
                sys.exit(f"{self.path} failed, status {done.returncode}:\n{done.stderr}")
            report = json.load(open(out.name, encoding="utf-8"))
        self.context = self.context or report["context"]
        found = {}
        for run in report["benchmarks"]:
            if run.get("run_type") == "aggregate":
                continue
            if run.get("error_occurred"):
                raise WrongOutput(f"{run['name']}: {run.get('error_message')}")
            run["name"] = without_suffix(run["name"])
            run.update(labels)
            self.runs.append(run)
            found.setdefault(run["name"], []).append(run)
        for runs in found.values():
            runs.sort(key=lambda run: run["repetition_index"])
        if done.returncode == 1:
            raise WrongOutput("an output was wrong")
        return found


def escape(name):
    """As a POSIX regular expression, where no backslash may stand before what needs none."""
    return re.sub(r"([.+*?()|^$\[\]{}\\])", r"\\\1", name)


def without_suffix(name):
    return name[: -len("/real_time")] if name.endswith("/real_time") else name


def us(runs):
    return [1e6 * run["s_per_token"] for run in runs]


def neurons_of(case):
    return case.trees * (2 ** (case.depth + 1) - 1)


def model_of(case):
    return f"{case.trees}x{case.depth}"


def rest_of(case):
    """What follows the model, and an instruction set or reader if there is one, in a name."""
    return f"/h{case.width}/b{case.batch}/{case.weights}/{case.routes}"


def layer_name(case, isa):
    return f"layer/path_{model_of(case)}/{isa}{rest_of(case)}"


def stored_name(case, kind, isa):
    return f"layer_stored/path_{model_of(case)}/{kind}/{isa}{rest_of(case)}"


def label(case):
    return f"path_{model_of(case)}{rest_of(case)}"


# ---- What to run ----------------------------------------------------------------------------------------------------


def default_selection(usable):
    """A pattern for names of layers and kernels; `usable` are the instruction sets."""
    fast = [isa for isa in usable if isa != "generic"] or usable
    patterns = "|".join(DEFAULT).replace("FAST", "(" + "|".join(fast) + ")").replace("BEST", preferred(usable))
    return re.compile(patterns)


def select(names, wanted, isas):
    """The layer cases with their instruction sets, the same by numbers of threads, the other names, what else than
    float32 is stored in which case, as (kind, instruction set), and the names of leaf layers and forests, by layer and
    instruction set, that `wanted` (of a name) tells."""
    cases, threads, others, stored, forests = {}, {}, [], {}, {}
    for name in names:
        if not wanted(name):
            continue
        layer = LAYER.fullmatch(name)
        if layer:
            trees, depth, isa, width, batch, weights, routes = layer.groups()
            if not isas or isa in isas:
                case = Case(int(trees), int(depth), int(width), int(batch), weights, routes)
                cases.setdefault(case, []).append(isa)
        elif STORED.fullmatch(name):
            trees, depth, kind, isa, width, batch, weights, routes = STORED.fullmatch(name).groups()
            if not isas or isa in isas:
                case = Case(int(trees), int(depth), int(width), int(batch), weights, routes)
                cases.setdefault(case, [])
                stored.setdefault(case, []).append((kind, isa))
        elif THREADS.fullmatch(name):
            trees, depth, isa, width, batch, weights, routes, _ = THREADS.fullmatch(name).groups()
            if not isas or isa in isas:
                case = Case(int(trees), int(depth), int(width), int(batch), weights, routes)
                threads.setdefault((case, isa), []).append(name)
        elif FOREST.fullmatch(name):
            forest, _, isa, _, _ = FOREST.fullmatch(name).groups()
            if not isas or isa in isas:
                forests.setdefault((forest, isa), []).append(name)
        elif not isas or any("/" + isa + "/" in name + "/" for isa in isas):
            others.append(name)
    if cases or threads or forests:  # what they are compared with is run anyway
        others = [name for name in others if KERNEL.match(name)]
    return cases, threads, others, stored, forests


def dense_names(names, neurons, case):
    """`neurons` may begin with a type: "bf16_4095"."""
    end = f"/h{case.width}/b{case.batch}/{case.weights}"
    return [name for name in names if name.startswith(f"dense_{neurons}/") and name.endswith(end)]


class Trials:
    """Which dense layers are worth timing: each is tried at each size and batch, but for large ones, where those are that
    were close at a smaller one, bound by arithmetic too."""

    def __init__(self, harness, names):
        self.harness, self.names, self.known = harness, names, {}

    def to_try(self, neurons, case):
        names = dense_names(self.names, neurons, case)
        below = [batch for n, width, batch, weights in self.known
                 if (n, width, weights) == (neurons, case.width, case.weights) and LARGE <= 2 * batch < 2 * case.batch]
        if not below:
            return names
        ranked = self.known[neurons, case.width, max(below), case.weights]
        ways = {name.split("/")[1] for time_taken, name in ranked if time_taken <= CLOSE_BELOW * ranked[0][0]}
        return [name for name in names if name.split("/")[1] in ways]

    def fastest(self, neurons, case, most):
        key = (neurons, case.width, case.batch, case.weights)
        if key not in self.known:
            names = self.to_try(neurons, case)
            found = self.harness.run(names, 3 if case.batch <= SMALL else 1, trial=True) if names else {}
            self.known[key] = sorted((min(us(runs)), name) for name, runs in found.items())
        ranked = self.known[key]
        close = CLOSE_SMALL if case.batch <= SMALL else CLOSE
        return [name for time_taken, name in ranked if time_taken <= close * ranked[0][0]][:most]


# ---- Measuring one case ---------------------------------------------------------------------------------------------


def names_stored(names, trials, case, stored):
    """What is to run in one case for the layers that store narrow weights, beside what runs anyway."""
    wanted = [stored_name(case, kind, isa) for kind, isa in stored]
    kinds = dict.fromkeys(kind for kind, _ in stored)
    for kind in kinds:
        start = f"limit_stored/path_{model_of(case)}/{kind}/"
        wanted += [name for name in names if name.startswith(start) and name.endswith(rest_of(case))]
    for own in dict.fromkeys(own for kind in kinds for own in OWN_DENSE.get(kind, [])):
        wanted += trials.fastest(f"{own}_{neurons_of(case)}", case, 1)
    return wanted


def measure(harness, trials, names, case, isas, stored, repetitions, process, merged):
    """All that belongs to one case, in one process, added to merged: {name: [[run, ...] of each process]}."""
    large = case.batch >= LARGE
    wanted = [layer_name(case, isa) for isa in dict.fromkeys(isas + [isa for _, isa in stored])]
    wanted += names_stored(names, trials, case, stored)
    wanted += [name for name in names if name.startswith("peak_fma/") or
               name.startswith(f"limit/path_{model_of(case)}/") and name.endswith(rest_of(case))]
    wanted += trials.fastest(neurons_of(case), case, 2 if large else CANDIDATES)
    if (case.trees, case.depth, case.width, case.weights, case.routes) == (1, 11, 768, "warm", "uniform"):
        wanted += [name for name in names if name.startswith("fff_by_blas/") and name.endswith("/" + label(case))]
        wanted += trials.fastest(3072, case, 1) + trials.fastest(12, case, 1)
    for name, runs in harness.run(wanted, repetitions, process=process, case=label(case)).items():
        merged[name].append(runs)


def all_us(processes):
    return [value for runs in processes for value in us(runs)]


def median_us(processes):
    return statistics.median(all_us(processes)) if processes else None


def best(measured, prefix):
    """The name with that beginning whose median is the smallest, or None."""
    return min((name for name in measured if name.startswith(prefix)), key=lambda n: median_us(measured[n]), default=None)


def ratios(above, below):
    """Of repetitions of the same index in the same process, process by process."""
    return [[a / b for a, b in zip(us(process_a), us(process_b))] for process_a, process_b in zip(above, below)]


def summarize(row, what, by_process):
    """The median of such ratios as row[what], their spread, and each process's median."""
    paired = [ratio for process in by_process for ratio in process]
    row[what] = statistics.median(paired)
    row[what + "_spread"] = [min(paired), max(paired)]
    row[what + "_by_process"] = [statistics.median(process) for process in by_process]


def allow_for_other_runs(rows, what):
    """Extends each spread to where the median of another such run lies with the probability of STUDENT, judged by how much
    the medians of processes, which are minutes apart, differ: a prediction interval, of logarithms. Two or three
    processes tell little of their own variance, so that of the middle one of all rows counts as POOLED_FREEDOM more."""
    logs = {index: [math.log(median) for median in row[what + "_by_process"]] for index, row in enumerate(rows)
            if len(row.get(what + "_by_process") or []) > 1}
    if not logs:
        return
    pooled = statistics.median(statistics.variance(values) / MEDIAN_VARIANCE.get(len(values), 1) for values in logs.values())
    for index, values in logs.items():
        row, own = rows[index], len(values) - 1
        freedom = own + POOLED_FREEDOM
        variance = (own * statistics.variance(values) + POOLED_FREEDOM * pooled) / freedom
        student = STUDENT[max(known for known in STUDENT if known <= freedom)]
        factor = math.exp(student * math.sqrt(2 * variance / len(values)))
        low, high = row[what + "_spread"]
        row[what + "_spread"] = [min(low, row[what] / factor), max(high, row[what] * factor)]


def mark_noisy(rows, what):
    for row in rows:
        if row[what] is not None:
            low, high = row[what + "_spread"]
            row["noisy"] = high - low > NOISY * row[what]


def limits_us(measured):
    """What reading takes at least, and what the multiply-adds take at least. None: not measured."""
    limit = best(measured, "limit/")
    if limit is None:
        return None, None
    peaks = [run["multiply_adds/s"] for name in measured if name.startswith("peak_fma/")
             for runs in measured[name] for run in runs]
    multiply_adds = measured[limit][0][0]["multiply_adds_per_token"]
    return median_us(measured[limit]), 1e6 * multiply_adds / max(peaks) if peaks else None


def rows_of(case, isas, measured):
    """The rows of summary.json for one case."""
    dense = best(measured, f"dense_{neurons_of(case)}/")
    reading, multiply_adds = limits_us(measured)
    limit = max(reading, multiply_adds or 0) if reading else None
    rows = []
    for isa in isas:
        fff = measured[layer_name(case, isa)]
        row = {
            "model": model_of(case), "isa": isa, "batch": case.batch, "threads": 1,
            "weights": case.weights, "routes": case.routes,
            "fff_us_per_token": median_us(fff),
            "dense_best_us_per_token": None, "dense_best_peer": None, "speedup": None, "speedup_spread": None,
            "limit_us_per_token": limit,
            "percent_of_limit": 100 * limit / median_us(fff) if limit else None,
            "reading_us_per_token": reading, "multiply_adds_us_per_token": multiply_adds,
            "width": case.width, "neurons": neurons_of(case), "noisy": False,
        }
        if dense:
            row["dense_best_us_per_token"] = median_us(measured[dense])
            row["dense_best_peer"] = dense.split("/")[1]
            summarize(row, "speedup", ratios(measured[dense], fff))
        else:
            times = all_us(fff)
            row["noisy"] = max(times) - min(times) > NOISY * row["fff_us_per_token"]
        for key, prefix in (("dense_3072_us_per_token", "dense_3072/"), ("dense_12_us_per_token", "dense_12/"),
                            ("fff_by_blas_us_per_token", "fff_by_blas/")):
            name = best(measured, prefix)
            row[key] = median_us(measured[name]) if name else None
        rows.append(row)
    return rows


def own_dense(case, kind, measured):
    """The fastest dense layer of a stored type, or None."""
    found = [best(measured, f"dense_{own}_{neurons_of(case)}/") for own in OWN_DENSE.get(kind, [])]
    return min((name for name in found if name), key=lambda name: median_us(measured[name]), default=None)


def row_stored(case, kind, isa, measured):
    fff, float32 = measured[stored_name(case, kind, isa)], measured[layer_name(case, isa)]
    dense, own = best(measured, f"dense_{neurons_of(case)}/"), own_dense(case, kind, measured)
    limit = best(measured, f"limit_stored/path_{model_of(case)}/{kind}/")
    row = {
        "model": model_of(case), "isa": isa, "batch": case.batch, "threads": 1, "weights": case.weights,
        "routes": case.routes, "width": case.width, "neurons": neurons_of(case), "stored": kind, "noisy": False,
        "fff_us_per_token": median_us(fff), "f32_us_per_token": median_us(float32),
        "dense_best_us_per_token": median_us(measured[dense]) if dense else None,
        "dense_best_peer": dense.split("/")[1] if dense else None, "speedup": None, "speedup_spread": None,
        "dense_own_us_per_token": median_us(measured[own]) if own else None,
        "dense_own_peer": own.split("/")[1] + ", " + own.split("_")[1] if own else None, "times_dense_own": None,
        "reading_us_per_token": median_us(measured[limit]) if limit else None,
        "rms": fff[0][0]["rms"], "other_routes": fff[0][0]["other_routes"],
    }
    summarize(row, "times_f32", ratios(float32, fff))
    if dense:
        summarize(row, "speedup", ratios(measured[dense], fff))
    if own:
        summarize(row, "times_dense_own", ratios(measured[own], fff))
    return row


def rows_of_threads(harness, case, isa, names, repetitions, processes):
    """The rows of summary.json for numbers of threads: against one thread, not against a dense layer."""
    merged = collections.defaultdict(list)
    for process in range(processes):
        for name, runs in harness.run(names, repetitions, all_cpus=True, process=process, case=label(case)).items():
            merged[int(THREADS.fullmatch(name).group(8))].append(runs)
    if 1 not in merged:
        return []
    rows = []
    for threads in sorted(merged.keys() - {1}):
        row = {
            "model": model_of(case), "isa": isa, "batch": case.batch, "threads": threads,
            "weights": case.weights, "routes": case.routes, "fff_us_per_token": median_us(merged[threads]),
            "dense_best_us_per_token": None, "dense_best_peer": None, "speedup": None, "speedup_spread": None,
            "limit_us_per_token": None, "percent_of_limit": None, "width": case.width, "neurons": neurons_of(case),
            "one_thread_us_per_token": median_us(merged[1]),
        }
        summarize(row, "times_one_thread", ratios(merged[1], merged[threads]))
        rows.append(row)
    return rows


def rows_of_forests(harness, forest, isa, names, repetitions, processes):
    """The rows of summary.json for a leaf layer or a forest: against what stands beside it, not against a dense layer."""
    merged = collections.defaultdict(list)
    for process in range(processes):
        for name, runs in harness.run(names, repetitions, process=process, case=f"forest/{forest}").items():
            _, way, _, width, batch = FOREST.fullmatch(name).groups()
            merged[int(width), int(batch), way].append(runs)
    rows = []
    for width, batch, other in sorted(merged):
        if other == "layer" or (width, batch, "layer") not in merged:
            continue
        layer, beside = merged[width, batch, "layer"], merged[width, batch, other]
        row = {
            "model": forest, "isa": isa, "batch": batch, "threads": 1, "weights": "warm", "routes": "uniform",
            "fff_us_per_token": median_us(layer), "dense_best_us_per_token": None, "dense_best_peer": None,
            "speedup": None, "speedup_spread": None, "limit_us_per_token": None, "percent_of_limit": None, "width": width,
            "beside": other, "beside_us_per_token": median_us(beside),
        }
        summarize(row, "times_beside", ratios(beside, layer))
        rows.append(row)
    return rows


# ---- What to be told ------------------------------------------------------------------------------------------------


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def warnings(context, load_before):
    """What makes the figures less sure, or fewer, than they could be."""
    found = []
    governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor and governor != "performance":
        found.append(f"The CPU's frequency is scaled (governor {governor}): times depend on what ran before. "
                     "`cpupower frequency-set -g performance` stops that.")
    if read("/sys/devices/system/cpu/cpufreq/boost") == "1" or read("/sys/devices/system/cpu/intel_pstate/no_turbo") == "0":
        found.append("The CPU may raise its frequency for a while: short measurements flatter.")
    if (os.cpu_count() or 1) == 1:
        found.append("This machine has one core: everything else that runs disturbs the measurements.")
    if load_before > 0.5:
        found.append(f"The machine was busy when this began (load {load_before:.1f}).")
    peers = context.get("dense_peers", "")
    for library, package in (("OpenBLAS", "libopenblas0 or scipy-openblas32"), ("MKL", "mkl"), ("oneDNN", "onednn")):
        if "no " + library in peers:
            found.append(f"{library} was not found, so dense layers by it are missing: install {package}, or run "
                         '`eval "$(scripts/fetch_peers.sh)"` first.')
    return found


# ---- Tables ---------------------------------------------------------------------------------------------------------


def number(value, digits=2):
    return "" if value is None else f"{value:.{digits}f}"


def significant(value):
    return "" if value is None else f"{value:.{max(0, 2 - len(str(int(value))) + 1)}f}"


def layer_table(rows):
    lines = ["| Model | Width | Batch | Weights | Routes | Instruction set | FFF µs/token | Dense best µs/token | by | "
             "Times faster | Spread | Limit µs/token | % of limit |",
             "|--|--:|--:|--|--|--|--:|--:|--|--:|--|--:|--:|"]
    for r in rows:
        spread = "" if r["speedup_spread"] is None else "{} to {}".format(*map(significant, r["speedup_spread"]))
        lines.append(f"| {r['model']} | {r['width']} | {r['batch']} | {r['weights']} | {r['routes']} | {r['isa']} | "
                     f"{number(r['fff_us_per_token'])} | {number(r['dense_best_us_per_token'], 1)} | "
                     f"{r['dense_best_peer'] or ('' if r['weights'] == 'hot' else 'none found')} | "
                     f"{significant(r['speedup'])}{' (noisy)' if r['noisy'] else ''} | {spread} | "
                     f"{number(r['limit_us_per_token'])} | {number(r['percent_of_limit'], 0)} |")
    return lines


def threads_table(rows):
    lines = ["| Model | Batch | Routes | Instruction set | Threads | µs/token | One thread µs/token | Times one thread | Spread |",
             "|--|--:|--|--|--:|--:|--:|--:|--|"]
    for r in rows:
        lines.append(f"| {r['model']} | {r['batch']} | {r['routes']} | {r['isa']} | {r['threads']} | "
                     f"{number(r['fff_us_per_token'])} | {number(r['one_thread_us_per_token'])} | "
                     f"{number(r['times_one_thread'])}{' (noisy)' if r['noisy'] else ''} | "
                     f"{number(r['times_one_thread_spread'][0])} to {number(r['times_one_thread_spread'][1])} |")
    return lines


def forest_table(rows):
    lines = ["| Layer | Batch | Instruction set | µs/token | Beside it | µs/token | Times as fast | Spread |",
             "|--|--:|--|--:|--|--:|--:|--|"]
    for r in rows:
        lines.append(f"| {r['model']} | {r['batch']} | {r['isa']} | {number(r['fff_us_per_token'])} | {r['beside']} | "
                     f"{number(r['beside_us_per_token'])} | {number(r['times_beside'])}{' (noisy)' if r['noisy'] else ''} | "
                     f"{number(r['times_beside_spread'][0])} to {number(r['times_beside_spread'][1])} |")
    return lines


def stored_table(rows, float32_rows):
    """Narrow weights beside float32, by batch and instruction set."""
    lines = ["| Batch | Instruction set | Stored | µs/token | Times f32 | Times faster than dense f32 | Than dense of its type | "
             "by | Reading µs/token | Error, rms | Other routes |", "|--:|--|--|--:|--:|--:|--:|--|--:|--:|--:|"]
    for batch, isa in dict.fromkeys((r["batch"], r["isa"]) for r in rows):
        of_case = [r for r in rows if (r["batch"], r["isa"]) == (batch, isa)]
        float32 = [r for r in float32_rows if all(r[key] == of_case[0][key] for key in ("model", "width", "batch", "isa", "weights", "routes"))]
        speedup, reading = (float32[0][key] if float32 else None for key in ("speedup", "reading_us_per_token"))
        lines.append(f"| {batch} | {isa} | f32 | {number(of_case[0]['f32_us_per_token'])} | 1 | {significant(speedup)} | "
                     f"{significant(speedup)} | | {number(reading)} | 0 | 0 % |")
        for r in of_case:
            lines.append(f"| {batch} | {isa} | {r['stored']} | {number(r['fff_us_per_token'])} | {number(r['times_f32'])}"
                         f"{' (noisy)' if r['noisy'] else ''} | {significant(r['speedup'])} | {significant(r['times_dense_own'])} | "
                         f"{r['dense_own_peer'] or 'none here'} | {number(r['reading_us_per_token'])} | {r['rms']:.2g} | "
                         f"{100 * r['other_routes']:.2g} % |")
    return lines


def cost_table(rows):
    """The published shape against the other dense layers, best instruction set."""
    lines = ["| Batch | FFF | FFF by BLAS calls | Dense 12 | Dense 3072 | Dense 4095 |", "|--:|--:|--:|--:|--:|--:|"]
    for r in rows:
        lines.append(f"| {r['batch']} | {number(r['fff_us_per_token'])} | {number(r['fff_by_blas_us_per_token'])} | "
                     f"{number(r['dense_12_us_per_token'])} | {number(r['dense_3072_us_per_token'], 1)} | "
                     f"{number(r['dense_best_us_per_token'], 1)} |")
    return lines


def limit_table(rows, hot):
    """The published shape against both parts of its limit, best instruction set; `hot` are its times with all at hand, by
    batch, of which a larger batch has the largest one's."""
    lines = ["| Batch | FFF | Reading | Multiply-adds | % of the longer | % of one after the other | All at hand | "
             "% of reading, then that |", "|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for r in rows:
        fff, reading, multiply_adds = (r[part + "_us_per_token"] for part in ("fff", "reading", "multiply_adds"))
        at_hand = hot.get(max((batch for batch in hot if batch <= r["batch"]), default=None))
        lines.append(f"| {r['batch']} | {number(fff)} | {number(reading)} | {number(multiply_adds)} | "
                     f"{number(r['percent_of_limit'], 0)} | {number(100 * (reading + multiply_adds) / fff, 0)} | {number(at_hand)} | "
                     f"{number(at_hand and 100 * (reading + at_hand) / fff, 0)} |")
    return lines


def kernel_table(runs_by_name):
    lines = ["| Kernel | ns a call | spread | GB/s | GFLOP/s |", "|--|--:|--|--:|--:|"]
    for name, runs in runs_by_name.items():
        times = [run["real_time"] for run in runs]
        rate = lambda key: statistics.median(run[key] for run in runs) / 1e9 if key in runs[0] else None
        lines.append(f"| {name} | {statistics.median(times):.1f} | {min(times):.1f} to {max(times):.1f} | "
                     f"{number(rate('bytes/s'), 1)} | {number(rate('FLOP/s'), 1)} |")
    return lines


def preferred(isas):
    """The last in the harness's order of preference."""
    return [isa for isa in ("generic", "arm_neon", "x86_avx2", "x86_avx512") if isa in isas][-1]


def main_rows(rows, weights="warm", routes="uniform"):
    """The published shape by batch, best instruction set."""
    wanted = [r for r in rows if (r["model"], r["width"], r["weights"], r["routes"]) == ("1x11", 768, weights, routes)]
    return [r for r in wanted if r["isa"] == preferred({r["isa"] for r in wanted})]


def stored_section(context, rows, float32_rows):
    return ["## By stored type", "",
            "1x11: what the layer stores, beside the layer of float32 in the same process. *Times f32*: how many times as fast "
            "as that. *Than dense of its type*: than the fastest dense layer whose products are of that type "
            f"({context.get('narrow_peers', 'no oneDNN')}); of two types, of the faster one. *Reading*: the visited rows as they "
            "are stored, x and y, with nothing to wait for. *Error*: of the outputs, relative to float32's, both as root mean "
            "squares. *Other routes*: the share of tokens that do not take float32's.", ""] + \
        stored_table(rows, float32_rows) + [""]


def leaf_peer_section(peer):
    lines = ["## The authors' leaf layer", "",
             f"The evaluation of fastfeedforward.FFF, the authors' own module, in PyTorch {peer['torch']}, one thread, in one "
             f"process with libfff ({peer['isa']}), both called from Python, in turn; ReLU; both without b2s, as theirs. Every "
             "output was compared.", "",
             "| Layer | Batch | fastfeedforward µs/token | libfff µs/token | Times faster | Spread |", "|--|--:|--:|--:|--:|--|"]
    return lines + [f"| leaf_1x{r['depth']}_w{r['leaf_width']} | {r['batch']} | {significant(r['peer_us_per_token'])} | "
                    f"{number(r['fff_us_per_token'])} | {significant(r['speedup'])}{' (noisy)' if r['noisy'] else ''} | "
                    f"{significant(r['speedup_spread'][0])} to {significant(r['speedup_spread'][1])} |" for r in peer["rows"]] + [""]


def markdown(context, notes, rows, stored_rows, thread_rows, forest_rows, kernels, pictures, pytorch, leaf_peer, seconds):
    lines = ["# Benchmark results", "",
             f"{context.get('cpu', 'unknown CPU')}, {context['date'][:10]}, one thread on one core; instruction sets: "
             f"{context.get('instruction_sets')}. Compiler {context.get('compiler')}, libfff {context.get('libfff')}, "
             f"SLEEF {context.get('sleef')}. Dense layers by {context.get('dense_peers')}. Took {seconds / 60:.0f} minutes.", ""]
    lines += [f"**Warning:** {note}" + "\n" for note in notes]
    if rows or stored_rows:
        lines += ["Ratios are medians of pairs within one process. The spread holds all of them, and the median of another such "
                  "run with a probability of 99 %, as far as this run's rounds, minutes apart, can tell. Rows whose own ratios "
                  f"spread over more than {100 * NOISY:.0f} % of the median are marked noisy.", ""]
        lines += [f"![{title}]({file})\n" for title, file in pictures]
        lines += ["## Layers", ""] + layer_table(rows) + [""] if rows else []
        lines += stored_section(context, stored_rows, rows) if stored_rows else []
    if main_rows(rows):
        lines += ["## The same work otherwise", "",
                  "Microseconds a token, 1x11 at 768 wide, best instruction set: the layer; the layer by calls of BLAS level 1; "
                  "a dense layer that costs as much as a path; the usual BERT width; as many neurons as the tree.", ""]
        lines += cost_table(main_rows(rows)) + [""]
    limited = [r for r in main_rows(rows) if r["reading_us_per_token"] and r["multiply_adds_us_per_token"]]
    if limited:
        lines += ["## How far from the limit", "",
                  "Microseconds a token, 1x11 at 768 wide, best instruction set: the layer; reading the visited rows and x, and "
                  "writing y, with nothing to wait for; the multiply-adds at the core's peak. A core that could do both at once, "
                  "wholly, would take the longer; one that can do but one at a time, their sum. *All at hand*: the layer again, as "
                  "many tokens as L2 holds, all on one path, again and again; what it takes if memory is for nothing.", ""]
        hot = {r["batch"]: r["fff_us_per_token"] for r in main_rows(rows, "hot", "one_path")}
        lines += limit_table(limited, hot) + [""]
    if thread_rows:
        lines += ["## Threads", "", "The threads of a pool share each batch; every other figure here is of one thread on one core.", ""]
        lines += threads_table(thread_rows) + [""]
    training = [row for row in forest_rows if row["model"].startswith("step_")]
    forest_rows = [row for row in forest_rows if row not in training]
    if training:
        lines += ["## Training", "", "A step of one layer, forward and backward, with listed rows, beside that of its dense "
                  "twin: six matrix products of the fastest library found, and GELU. \"memory\" copies what a step reads and "
                  "writes at the least, and computes nothing: the limit by bytes.", ""]
        lines += forest_table(training) + [""]
    if forest_rows:
        lines += ["## Leaf layers and forests", "",
                  "leaf_KxD_wN: K trees of depth D, which only route, with leaves of N neurons. Beside it a path sum whose "
                  "tokens visit as many rows of input weights, D + N a tree; of output weights a leaf layer visits N, a path "
                  "sum all. A forest of several parts stands beside its parts as layers of their own, whose outputs are "
                  "summed.", ""]
        lines += forest_table(forest_rows) + [""]
    if leaf_peer:
        lines += leaf_peer_section(leaf_peer)
    if pytorch:
        lines += ["## PyTorch", "", f"The layer by batched matrix products in PyTorch {pytorch['torch']}, one thread, in one process "
                  "with libfff, in turn:", "", "| Batch | PyTorch µs/token | libfff µs/token | Times faster | Spread |",
                  "|--:|--:|--:|--:|--|"]
        lines += [f"| {r['batch']} | {r['torch_us_per_token']:.1f} | {r['fff_us_per_token']:.2f} | {significant(r['speedup'])} | "
                  f"{significant(r['speedup_spread'][0])} to {significant(r['speedup_spread'][1])} |" for r in pytorch["rows"]]
        lines += [""]
    if kernels:
        lines += ["## Kernels", ""] + kernel_table(kernels) + [""]
    return "\n".join(lines)


def run_python_peer(arguments, name, *options):
    """The result of a peer in Python, or None where PyTorch, or what else it needs, is not installed."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    library = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(arguments.bench))), "libfff.so")
    if not os.path.exists(library):
        return None
    for python in dict.fromkeys([sys.executable, "/usr/bin/python3"]):
        try:
            done = subprocess.run([python, script, library, *options], check=False, stdout=subprocess.PIPE, text=True,
                                  preexec_fn=lambda: os.sched_setaffinity(0, {max(os.sched_getaffinity(0))}))
        except OSError:
            continue
        if done.returncode == 0:
            return json.loads(done.stdout)
        if done.returncode != 77:  # 77: it lacks something
            raise WrongOutput(f"{name} failed")
    return None


def run_leaf_peer(arguments, forests):
    """The authors' leaf layer in the shapes and batches that were timed; None where it is not installed, or none were."""
    shapes, batches = {}, set()
    for (forest, _), names in forests.items():
        shape = ONE_LEAF_TREE.fullmatch(forest)
        if shape:
            shapes["x".join(shape.groups())] = None
            batches |= {int(FOREST.fullmatch(name).group(5)) for name in names}
    if not shapes:
        return None
    peer = run_python_peer(arguments, "fastfeedforward_peer.py", ",".join(map(str, sorted(batches))), *shapes)
    if peer:
        mark_noisy(peer["rows"], "speedup")
    return peer


def refuse(what):
    print("report.py: " + what, file=sys.stderr)
    return 2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/bench/fff_bench")
    parser.add_argument("--out", default="bench/results")
    parser.add_argument("--filter", help="a regular expression to find in names")
    parser.add_argument("--isa", help="instruction sets, with commas between; all that are usable by default")
    parser.add_argument("--routes", help="a file with recorded routes (see bench/README.md)")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--min-time", type=float, default=0.03, help="seconds for a repetition")
    arguments = parser.parse_args()
    for name in HOLDS_BACK:
        os.environ.pop(name, None)
    if arguments.routes:
        os.environ["FFF_BENCH_ROUTES"] = os.path.abspath(arguments.routes)
    began, load_before = time.time(), os.getloadavg()[0]
    harness = Harness(arguments.bench, arguments.min_time)
    names = harness.names()
    isas = arguments.isa.split(",") if arguments.isa else None
    usable = sorted({match.group(3) for match in map(LAYER.fullmatch, names) if match})
    for isa in isas or []:
        if isa not in usable:
            return refuse(f"instruction set '{isa}' is not usable here; these are: {', '.join(usable)}")
    try:
        wanted = re.compile(arguments.filter).search if arguments.filter else default_selection(isas or usable).fullmatch
        cases, threads, others, stored, forests = select(names, wanted, isas)
    except re.error as error:
        return refuse(f"'{arguments.filter}' is no regular expression: {error}")
    if not cases and not threads and not others and not forests:
        harness.explain(arguments.filter)
        return 2

    rows, stored_rows, thread_rows, forest_rows, kernels = [], [], [], [], {}
    pytorch = leaf_peer = None
    trials = Trials(harness, names)
    try:
        measured = {case: collections.defaultdict(list) for case in cases}
        for process in range(arguments.processes):
            for index, (case, case_isas) in enumerate(cases.items()):
                if process >= 2 and case.batch >= LARGE:
                    continue
                print(f"[{time.time() - began:4.0f} s] round {process + 1}, {index + 1}/{len(cases)} {label(case)}", flush=True)
                measure(harness, trials, names, case, case_isas, stored.get(case, []), arguments.repetitions, process, measured[case])
        for case, case_isas in cases.items():
            rows += rows_of(case, case_isas, measured[case])
            stored_rows += [row_stored(case, kind, isa, measured[case]) for kind, isa in stored.get(case, [])]
        for some in (rows, stored_rows):
            mark_noisy(some, "speedup")
            allow_for_other_runs(some, "speedup")
        for (case, isa), of_case in threads.items():
            print(f"[{time.time() - began:4.0f} s] threads, {label(case)}", flush=True)
            thread_rows += rows_of_threads(harness, case, isa, of_case, arguments.repetitions, arguments.processes)
        mark_noisy(thread_rows, "times_one_thread")
        allow_for_other_runs(thread_rows, "times_one_thread")
        for (forest, isa), of_case in forests.items():
            print(f"[{time.time() - began:4.0f} s] {forest}", flush=True)
            forest_rows += rows_of_forests(harness, forest, isa, of_case, arguments.repetitions,
                                           min(2, arguments.processes))
        mark_noisy(forest_rows, "times_beside")
        allow_for_other_runs(forest_rows, "times_beside")
        if forests:
            print(f"[{time.time() - began:4.0f} s] fastfeedforward", flush=True)
            leaf_peer = run_leaf_peer(arguments, forests)
        if others:
            print(f"[{time.time() - began:4.0f} s] {len(others)} kernels", flush=True)
            kernels = harness.run(others, arguments.repetitions, interleave=False)
        if not arguments.filter:
            print(f"[{time.time() - began:4.0f} s] PyTorch", flush=True)
            pytorch = run_python_peer(arguments, "pytorch_peer.py")
    except WrongOutput as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 1

    os.makedirs(arguments.out, exist_ok=True)
    notes = warnings(harness.context, load_before)
    if pytorch is None and not arguments.filter:
        notes.append("PyTorch was not found, so the layer by its batched products is missing: install python3-torch.")
    if leaf_peer is None and any(ONE_LEAF_TREE.fullmatch(forest) for forest, _ in forests):
        notes.append("The authors' package fastfeedforward, or PyTorch, was not found, so their leaf layer is missing: install "
                     'python3-torch, and run `eval "$(scripts/fetch_peers.sh)"` first.')
    try:
        import plots  # pylint: disable=import-outside-toplevel
        pictures = plots.draw(rows, stored_rows, arguments.out, FLOP_RATIO)
    except ImportError:
        notes.append("matplotlib was not found, so there are no pictures: install python3-matplotlib.")
        pictures = []

    def write(name, text):
        with open(os.path.join(arguments.out, name), "w", encoding="utf-8") as file:
            file.write(text)

    report = markdown(harness.context, notes, rows, stored_rows, thread_rows, forest_rows, kernels, pictures, pytorch,
                      leaf_peer, time.time() - began)
    write("benchmark.json", json.dumps({"context": harness.context, "benchmarks": harness.runs}, indent=1))
    write("summary.json", json.dumps(rows + stored_rows + thread_rows + forest_rows, indent=1))
    write("report.md", report)
    if pytorch:
        write("pytorch.json", json.dumps(pytorch, indent=1))
    if leaf_peer:
        write("fastfeedforward.json", json.dumps(leaf_peer, indent=1))
    for note in notes:
        print("warning: " + note)
    if stored_rows and not rows:
        print("\n".join(stored_table(stored_rows, rows)))
    elif thread_rows and not rows:
        print("\n".join(threads_table(thread_rows)))
    elif forest_rows and not rows:
        print("\n".join(forest_table(forest_rows) + ([""] + leaf_peer_section(leaf_peer) if leaf_peer else [])))
    else:
        print("\n".join(layer_table(main_rows(rows) or rows)))
    print(f"\nWritten to {arguments.out}: report.md, summary.json, benchmark.json" +
          "".join(f", {file}" for _, file in pictures) + f"; {(time.time() - began) / 60:.1f} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
