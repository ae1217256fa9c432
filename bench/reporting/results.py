"""What was measured."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Results:
    """Lists of rows of summary.json; the runs of each kernel; what peers in Python said, None where there are none."""

    layers: list = dataclasses.field(default_factory=list)  # that store float32
    stored: list = dataclasses.field(default_factory=list)  # that store other types
    threads: list = dataclasses.field(default_factory=list)
    forests: list = dataclasses.field(default_factory=list)  # and leaf layers, and steps of training
    kernels: dict = dataclasses.field(default_factory=dict)
    pytorch: dict | None = None
    leaf_peer: dict | None = None

    def rows(self):
        return self.layers + self.stored + self.threads + self.forests
