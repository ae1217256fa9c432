"""Times a peer in Python and libfff in one process, in turn."""

import statistics
import time


def seconds_of(forward, batches):
    """Of all batches, and the outputs."""
    began = time.perf_counter()
    outputs = [forward(batch) for batch in batches]
    return time.perf_counter() - began, outputs


def time_both(theirs, ours, their_batches, our_batches, rounds, check):
    """A row: µs a token of both, medians of rounds of all batches, theirs first, and of the ratio in each round. `check` is
    given all outputs of a round, theirs and ours."""
    batch = len(their_batches[0])
    tokens = batch * len(their_batches)
    times = []
    for turn in range(1 + rounds):
        their_seconds, their_outputs = seconds_of(theirs, their_batches)
        our_seconds, our_outputs = seconds_of(ours, our_batches)
        check(their_outputs, our_outputs)
        if turn > 0:  # the first one warms up
            times.append((their_seconds / tokens, our_seconds / tokens))
    ratios = [a / b for a, b in times]
    return {"batch": batch, "peer_us_per_token": 1e6 * statistics.median(a for a, _ in times),
            "fff_us_per_token": 1e6 * statistics.median(b for _, b in times),
            "speedup": statistics.median(ratios), "speedup_spread": [min(ratios), max(ratios)]}
