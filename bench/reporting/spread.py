"""How many times as fast, and how sure that is."""

import math
import statistics

from .harness import us

NOISY = 0.2  # a row whose smallest and largest ratio differ by more than this part of the median
# Another run's median lies within the spread with this probability: Student's t, two-sided 99 %, by degrees of freedom.
STUDENT = {4: 4.604, 5: 4.032, 6: 3.707, 7: 3.499, 8: 3.355, 9: 3.250, 10: 3.169, 12: 3.055, 15: 2.947, 20: 2.845, 30: 2.750}
POOLED_FREEDOM = 4  # what the variance of all rows counts for in that of one
MEDIAN_VARIANCE = {2: 0.455, 3: 0.693, 4: 0.789, 5: 0.839}  # of so many normal values whose variance is 1


def all_us(processes):
    return [value for runs in processes for value in us(runs)]


def median_us(processes):
    return statistics.median(all_us(processes)) if processes else None


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


def mark_noisy(rows, what, flag="noisy"):
    for row in rows:
        if row[what] is not None:
            low, high = row[what + "_spread"]
            row[flag] = high - low > NOISY * row[what]
