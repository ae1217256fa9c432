"""Which dense layers to compare with: the fastest ones of a trial."""

import re

from .harness import us

CANDIDATES = 4  # dense layers timed against FFF: the fastest ones of the trial, if close
CLOSE = 1.12
LARGE = 2048  # batches from here on run fewer candidates in fewer processes: a dense layer takes seconds
SMALL = 4  # up to here dense layers are bound by memory, which others on the machine use too: trials vary more
CLOSE_SMALL = 1.5
CLOSE_BELOW = 1.3  # beyond half of LARGE, only those ways are tried that were so close at a smaller batch beyond that
IN_PARTS = re.compile(r"_by\d+$")  # ends the name of a way that computes a batch in parts


def dense_names(names, neurons, case):
    """`neurons` may begin with a type: "bf16_4095"."""
    end = f"/h{case.width}/b{case.batch}/{case.weights}"
    return [name for name in names if name.startswith(f"dense_{neurons}/") and name.endswith(end)]


class Trials:
    """Which dense layers are worth timing: each is tried at each size and batch, but for large ones, where those are that
    were close at a smaller one, bound by arithmetic too, whole or in parts."""

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
        return [name for name in names if name.split("/")[1] in ways or IN_PARTS.sub("", name.split("/")[1]) in ways]

    def fastest(self, neurons, case, most):
        key = (neurons, case.width, case.batch, case.weights)
        if key not in self.known:
            names = self.to_try(neurons, case)
            found = self.harness.run(names, 3 if case.batch <= SMALL else 1, trial=True) if names else {}
            self.known[key] = sorted((min(us(runs)), name) for name, runs in found.items())
        ranked = self.known[key]
        close = CLOSE_SMALL if case.batch <= SMALL else CLOSE
        return [name for time_taken, name in ranked if time_taken <= close * ranked[0][0]][:most]
