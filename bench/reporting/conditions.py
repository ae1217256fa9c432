"""What else bears on the figures: the machine, and what is missing."""

import os
import time

# What would make a dense library take other kernels than it would by itself: not in these measurements.
HOLDS_BACK = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS",
              "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def processor_time():
    """Seconds that the processors were busy since the machine began, those taken by other virtual machines among them; None where
    /proc/stat is not to be had. Columns: user, nice, system, idle, iowait, irq, softirq, steal (proc(5))."""
    columns = read("/proc/stat").partition("\n")[0].split()
    if len(columns) < 9 or columns[0] != "cpu":
        return None
    ticks = [int(column) for column in columns[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def busy_processors(seconds=1):
    """How many processors others keep busy while this process sleeps. (The load average still has in it what was just compiled.)"""
    began, before = time.monotonic(), processor_time()
    if before is None:
        return 0.0
    time.sleep(seconds)
    return (processor_time() - before) / (time.monotonic() - began)


def warnings(context, busy):
    """What makes the figures less sure, or fewer, than they could be; `busy` is of busy_processors(), before anything was timed."""
    found = []
    governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor and governor != "performance":
        found.append(f"The CPU's frequency is scaled (governor {governor}): times depend on what ran before. "
                     "`cpupower frequency-set -g performance` stops that.")
    if read("/sys/devices/system/cpu/cpufreq/boost") == "1" or read("/sys/devices/system/cpu/intel_pstate/no_turbo") == "0":
        found.append("The CPU may raise its frequency for a while: short measurements flatter.")
    if (os.cpu_count() or 1) == 1:
        found.append("This machine has one core: everything else that runs disturbs the measurements.")
    if busy > 0.2:
        found.append(f"The machine was busy when this began: {busy:.1f} processors with something else.")
    peers = context.get("dense_peers", "")
    for library, package in (("OpenBLAS", "libopenblas0 or scipy-openblas32"), ("MKL", "mkl"), ("oneDNN", "onednn")):
        if "no " + library in peers:
            found.append(f"{library} was not found, so dense layers by it are missing: install {package}, or run "
                         '`eval "$(scripts/fetch_peers.sh)"` first.')
    return found
