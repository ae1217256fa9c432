"""Runs fff_bench."""

import json
import os
import re
import subprocess
import sys
import tempfile

MOST_NAMES = 500  # of one process: an argument has 128 KB at most, a name some 60 bytes


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

    def explain(self):
        """Has it tell what names there are. Lists, so that nothing runs whatever the pattern is."""
        subprocess.run([self.path, "--benchmark_list_tests", "--benchmark_filter=^$"], check=False, stdout=subprocess.DEVNULL)

    def run(self, names, repetitions, **options):
        """Runs these names, in one process if they are few enough; returns {name: [run, ...]} by repetition index."""
        found = {}
        for first in range(0, len(names), MOST_NAMES):
            found.update(self.run_few(names[first:first + MOST_NAMES], repetitions, **options))
        return found

    def run_few(self, names, repetitions, interleave=True, all_cpus=False, **labels):
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
