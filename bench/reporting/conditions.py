"""What else bears on the figures: the machine, and what is missing."""

import os

# What would make a dense library take other kernels than it would by itself: not in these measurements.
HOLDS_BACK = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS",
              "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


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
