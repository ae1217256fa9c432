"""Measures, and makes the rows of summary.json."""

import collections

from .cases import FOREST, THREADS, label, layer_name, model_of, neurons_of, rest_of, stored_name
from .spread import NOISY, all_us, median_us, ratios, summarize
from .trials import CANDIDATES, LARGE

# Dense layers of a stored type; of two types, of the faster one. float16 has none.
OWN_DENSE = {"bf16": ["bf16"], "i8": ["i8"], "bf16+i8-exact": ["bf16", "i8"]}


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


def best(measured, prefix):
    """The name with that beginning whose median is the smallest, or None."""
    return min((name for name in measured if name.startswith(prefix)), key=lambda n: median_us(measured[n]), default=None)


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


def measure_in_rounds(harness, groups, arguments, say, **options):
    """Runs each group of names in a process of its own, group by group, round after round; {group: {name: [[run, ...] of each
    process]}}. `groups` are {group: (label, names)}."""
    measured = {group: collections.defaultdict(list) for group in groups}
    for process in range(arguments.processes):
        for group, (name_of_group, names) in groups.items():
            say(f"round {process + 1}, {name_of_group}")
            for name, runs in harness.run(names, arguments.repetitions, process=process, case=name_of_group, **options).items():
                measured[group][name].append(runs)
    return measured


def rows_of_threads(case, isa, measured):
    """The rows of summary.json for numbers of threads: against one thread, not against a dense layer."""
    merged = {int(THREADS.fullmatch(name).group(8)): processes for name, processes in measured.items()}
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


def rows_of_forests(forest, isa, measured):
    """The rows of summary.json for a leaf layer, a forest or a step of training: against what stands beside it, of dense twins
    against the fastest."""
    merged = {}
    for name, processes in measured.items():
        _, way, _, width, batch = FOREST.fullmatch(name).groups()
        merged[int(width), int(batch), way] = processes
    rows = []
    for width, batch, other in sorted(merged):
        if other == "layer" or (width, batch, "layer") not in merged:
            continue
        twins = [key for key in merged if key[:2] == (width, batch) and key[2].startswith("dense_")]
        if other.startswith("dense_") and other != min(twins, key=lambda key: median_us(merged[key]))[2]:
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
