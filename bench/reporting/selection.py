"""Which benchmarks to run."""

import re

from .cases import FOREST, KERNEL, LAYER, ROW_KERNELS, STORED, THREADS, Case, preferred

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


def usable_isas(names):
    return sorted({match.group(3) for match in map(LAYER.fullmatch, names) if match})


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
