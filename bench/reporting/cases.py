"""What benchmarks there are, by their names."""

import collections
import re

ROW_KERNELS = "node_dot|two_levels|descend|accumulate|roots|add_roots"  # those that are given rows of weights
LAYER = re.compile(r"layer/path_(\d+)x(\d+)/(\w+)/h(\d+)/b(\d+)/(hot|warm|cold)/(\w+)")
THREADS = re.compile(r"layer_threads/path_(\d+)x(\d+)/(\w+)/h(\d+)/b(\d+)/(warm|cold)/(\w+)/t(\d+)")
STORED = re.compile(r"layer_stored/path_(\d+)x(\d+)/([\w+-]+)/(\w+)/h(\d+)/b(\d+)/(warm|cold)/(\w+)")
FOREST = re.compile(r"(?:forest|train)/([\w+]+)/(\w+)/(\w+)/h(\d+)/b(\d+)")
ONE_LEAF_TREE = re.compile(r"leaf_1x(\d+)_w(\d+)")
KERNEL = re.compile(rf"({ROW_KERNELS}|activate)/(f32|bf16|f16|i8)/")
Case = collections.namedtuple("Case", "trees depth width batch weights routes")


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


def preferred(isas):
    """The last in the harness's order of preference."""
    return [isa for isa in ("generic", "arm_neon", "x86_avx2", "x86_avx512") if isa in isas][-1]
