"""The pictures of a benchmark report, as SVG."""

import os

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "fff", "svg.fonttype": "none", "font.size": 10, "axes.grid": True, "grid.alpha": 0.3,
                            "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False})
import matplotlib.pyplot as plt  # noqa: E402  pylint: disable=wrong-import-position
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator  # noqa: E402  pylint: disable=wrong-import-position

COLOURS = {"x86_avx512": "#0072b2", "x86_avx2": "#d55e00", "arm_neon": "#009e73", "generic": "#777777"}
MARKERS = {"x86_avx512": "o", "x86_avx2": "^", "arm_neon": "D", "generic": "v"}  # for those who print in grey; dense: "s"
STORED_COLOURS = {"bf16": "#0072b2", "bf16+i8-exact": "#009e73", "i8": "#d55e00", "f16": "#56b4e9"}
DENSE, LIMIT, OTHER = "#cc79a7", "#000000", "#e69f00"


def pick(rows, **wanted):
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def isas_of(rows):
    return [isa for isa in COLOURS if any(row["isa"] == isa for row in rows)]


def series(rows, isa, x, y):
    chosen = sorted((row for row in rows if row["isa"] == isa and row[y] is not None), key=lambda row: row[x])
    return [row[x] for row in chosen], [row[y] for row in chosen], chosen


def powers_of_two(axis, values):
    axis.set_xscale("log", base=2)
    axis.set_xticks(values, [str(value) for value in values], fontsize=9)
    axis.minorticks_off()


def plain_logarithmic(axis):
    """1, 2, 5, 10 and so on in place of powers of ten. No bars on such an axis: where they begin means nothing."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())


def legend_below(figure, axis):
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=len(labels) if len(labels) <= 5 else 3)


def save(figure, folder, name):
    figure.tight_layout()
    figure.savefig(os.path.join(folder, name), metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def speedup(rows, folder, flop_ratio):
    rows = [row for row in pick(rows, model="1x11", width=768, weights="warm", routes="uniform") if row["speedup"]]
    if len({row["batch"] for row in rows}) < 3:
        return None
    figure, axis = plt.subplots(figsize=(8, 5))
    isas = isas_of(rows)
    for index, isa in enumerate(isas):
        x, y, chosen = series(rows, isa, "batch", "speedup")
        x = [value * 2 ** (0.1 * (index - (len(isas) - 1) / 2)) for value in x]  # spreads beside, not behind each other
        low = [row["speedup"] - row["speedup_spread"][0] for row in chosen]
        high = [row["speedup_spread"][1] - row["speedup"] for row in chosen]
        axis.errorbar(x, y, yerr=[low, high], marker=MARKERS[isa], markersize=4, capsize=3, color=COLOURS[isa], label="FFF, " + isa)
    x, _, chosen = series(rows, isas_of(rows)[0], "batch", "limit_us_per_token")
    axis.plot(x, [row["dense_best_us_per_token"] / row["limit_us_per_token"] for row in chosen], "--", color=LIMIT,
              label="this machine's limit for these routes")
    x, y, chosen = series(rows, isas_of(rows)[0], "batch", "fff_by_blas_us_per_token")
    if x:
        axis.plot(x, [row["dense_best_us_per_token"] / row["fff_by_blas_us_per_token"] for row in chosen], ":", color=OTHER,
                  label="FFF by BLAS calls, a token after the other")
    axis.axhline(flop_ratio, color=DENSE, linewidth=1, label=f"{flop_ratio:.0f}: multiplications saved")
    plain_logarithmic(axis)
    powers_of_two(axis, sorted({row["batch"] for row in rows}))
    axis.set_xlabel("tokens in a batch")
    axis.set_ylabel("times faster than the best dense layer of 4095 neurons")
    axis.set_title("1x11, 768 wide, one thread, by batch")
    legend_below(figure, axis)
    save(figure, folder, "speedup.svg")
    return "How many times faster than the best dense layer, by batch", "speedup.svg"


def depth(rows, folder):
    rows = [row for row in pick(rows, width=768, weights="warm", routes="uniform", batch=1) if row["model"].startswith("1x")]
    rows = [dict(row, depth=int(row["model"][2:])) for row in rows]
    depths = sorted({row["depth"] for row in rows})
    if len(depths) < 3:
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5))
    for isa in isas_of(rows):
        x, y, _ = series(rows, isa, "depth", "fff_us_per_token")
        if len(x) < 3:
            continue
        left.plot(x, y, MARKERS[isa] + "-", markersize=4, color=COLOURS[isa], label="FFF, " + isa)
        right.plot(x, y, MARKERS[isa] + "-", markersize=4, color=COLOURS[isa], label="FFF, " + isa)
    x, y, _ = series(rows, isas_of(rows)[0], "depth", "limit_us_per_token")
    left.plot(x, y, "--", color=LIMIT, label="this machine's limit")
    x, y, _ = series(rows, isas_of(rows)[0], "depth", "dense_best_us_per_token")
    right.plot(x, y, "s-", markersize=4, color=DENSE, label="best dense layer of as many neurons")
    plain_logarithmic(right)
    neurons = [f"{d}\n{2 ** (d + 1) - 1}" for d in depths]
    for axis in (left, right):
        axis.set_xticks(depths, neurons)
        axis.set_xlabel("depth, and neurons in the tree")
        axis.set_ylabel("µs a token")
        axis.legend()
    left.set_ylim(bottom=0)
    left.set_title("one tree, batch 1: a step a level", fontsize=11)
    right.set_title("the same and dense, logarithmic", fontsize=11)
    save(figure, folder, "depth.svg")
    return "Time a token against depth: one step a level, while the neurons double", "depth.svg"


def trees(rows, folder):
    models = ["3072x0", "512x2", "128x4", "32x6", "8x8", "1x11"]
    rows = [row for row in pick(rows, width=768, weights="warm", routes="uniform") if row["model"] in models]
    rows = pick(rows, isa=isas_of(rows)[0]) if rows else []
    models = [model for model in models if pick(rows, model=model)]
    batches = sorted(set.intersection(*({row["batch"] for row in pick(rows, model=model)} for model in models))) if models else []
    if len(models) < 3 or not batches:
        return None
    isa = rows[0]["isa"]
    figure, axes = plt.subplots(1, len(batches), figsize=(4 * len(batches), 4.5), sharey=True, squeeze=False)
    for axis, batch in zip(axes[0], batches):
        chosen = [pick(rows, model=model, batch=batch, isa=isa)[0] for model in models]
        places = range(len(models))
        if all(row["dense_best_us_per_token"] for row in chosen):
            axis.plot(places, [row["dense_best_us_per_token"] for row in chosen], "s", markersize=7, color=DENSE,
                      label="best dense layer of as many neurons")
        axis.plot(places, [row["fff_us_per_token"] for row in chosen], MARKERS[isa], markersize=7, color=COLOURS[isa], label="FFF, " + isa)
        axis.plot(places, [row["limit_us_per_token"] for row in chosen], "_", markersize=16, color=LIMIT, label="this machine's limit")
        used = [int(m.split("x")[0]) * (int(m.split("x")[1]) + 1) for m in models]
        axis.set_xticks(places, [f"{model}\n{count}" for model, count in zip(models, used)], fontsize=8)
        axis.margins(x=0.08)
        plain_logarithmic(axis)
        axis.set_title(f"batch {batch}")
        axis.set_xlabel("trees x depth, and neurons used by a token")
    axes[0][0].set_ylabel("µs a token")
    legend_below(figure, axes[0][0])
    save(figure, folder, "trees.svg")
    return "Several trees or one deep tree?", "trees.svg"


def instruction_sets(rows, folder):
    rows = pick(rows, model="1x11", width=768, weights="warm", routes="uniform")
    isas = isas_of(rows)
    batches = [batch for batch in (1, 8, 64, 512, 4096) if all(pick(rows, batch=batch, isa=isa) for isa in isas)]
    if len(isas) < 2 or not batches:
        return None
    figure, axis = plt.subplots(figsize=(8, 4.5))
    apart = 0.6 / len(isas)
    for index, isa in enumerate(reversed(isas)):
        times = [pick(rows, batch=batch, isa=isa)[0]["fff_us_per_token"] for batch in batches]
        places = [p + apart * (index - (len(isas) - 1) / 2) for p in range(len(batches))]
        axis.plot(places, times, MARKERS[isa], markersize=7, color=COLOURS[isa], label=isa)
        for place, time in zip(places, times):
            axis.annotate(f"{time:.1f}", (place, time), (0, 6), textcoords="offset points", ha="center", fontsize=8)
    for p, batch in enumerate(batches):
        limit = pick(rows, batch=batch)[0]["limit_us_per_token"]
        axis.plot([p - 0.4, p + 0.4], [limit, limit], "--", color=LIMIT, label="this machine's limit" if p == 0 else None)
    plain_logarithmic(axis)
    axis.margins(y=0.1)
    axis.set_xticks(range(len(batches)), [f"batch {batch}" for batch in batches])
    axis.set_ylabel("µs a token")
    axis.set_title("1x11, 768 wide, one thread: the same bits at different speeds")
    legend_below(figure, axis)
    save(figure, folder, "isas.svg")
    return "Instruction sets side by side", "isas.svg"


def stored_types(stored_rows, folder):
    rows = pick(stored_rows, model="1x11", width=768, weights="warm", routes="uniform")
    if not rows:
        return None
    isa = isas_of(rows)[0]
    rows = pick(rows, isa=isa)
    batches = sorted({row["batch"] for row in rows})
    kinds = [kind for kind in STORED_COLOURS if pick(rows, stored=kind)]
    figure, (left, right) = plt.subplots(1, 2, figsize=(14, 4.5), gridspec_kw={"width_ratios": (5, 2)})
    wide = 0.8 / (len(kinds) + 1)
    for index, kind in enumerate(["f32", *kinds]):
        chosen = [(place, row) for place, batch in enumerate(batches)
                  for row in (pick(rows, batch=batch) if kind == "f32" else pick(rows, batch=batch, stored=kind))[:1]]
        places = [place - 0.4 + wide * (index + 0.5) for place, _ in chosen]
        heights = [row["f32_us_per_token" if kind == "f32" else "fff_us_per_token"] for _, row in chosen]
        bars = left.bar(places, heights, wide, color=STORED_COLOURS.get(kind, "#777777"), label=kind)
        left.bar_label(bars, [f"{height:.1f}" for height in heights], fontsize=7)
    left.set_xticks(range(len(batches)), [f"batch {batch}" for batch in batches])
    left.set_ylabel("µs a token")
    left.set_title(f"1x11, 768 wide, one thread, {isa}, by what is stored")
    for index, kind in enumerate(kinds):
        row = pick(rows, stored=kind)[0]
        error, others = 100 * row["rms"], 100 * row["other_routes"]
        right.barh(index, error, 0.6, color=STORED_COLOURS[kind])
        right.annotate(f"{error:.2g} %; {others:.2g} % of tokens\non other routes", (error, index), (4, 0), textcoords="offset points",
                       va="center", fontsize=8)
    right.set_yticks(range(len(kinds)), kinds)
    right.invert_yaxis()
    right.margins(x=0.9)
    right.grid(axis="y", visible=False)
    right.set_xlabel("error of the output, % of its size (rms)")
    right.set_title("what it costs")
    legend_below(figure, left)
    save(figure, folder, "stored.svg")
    return "Time and error by what the layer stores", "stored.svg"


def draw(rows, stored_rows, folder, flop_ratio):
    """Writes those pictures that the rows suffice for; returns [(title, file name)], and what went wrong, a line each."""
    pictures, failures = [], []
    for picture, arguments in ((speedup, (rows, folder, flop_ratio)), (depth, (rows, folder)), (trees, (rows, folder)),
                               (instruction_sets, (rows, folder)), (stored_types, (stored_rows, folder))):
        try:
            pictures.append(picture(*arguments))
        except Exception as error:  # pylint: disable=broad-exception-caught  # the figures are worth more than a picture
            failures.append(f"{picture.__name__}: {error!r}")
    return [picture for picture in pictures if picture], failures
