"""Fast feedforward layers on the CPU: libfff for NumPy.

    import numpy as np, fff

    layer = fff.Layer(linear_in_weight, linear_out_weight.T, biases=linear_in_bias, depth=11)
    y = layer(x)                      # x: (..., input width), float32, float16 or bfloat16

    layer = fff.LeafLayer(node_weights, node_biases, w1s, b1s, w2s, b2s)        # of the fastfeedforward package
    layer = fff.Layer.forest([fff.Trees(...), fff.Leaves(...)])                 # several parts, one call

Arrays are used where they lie, as far as their rows are contiguous (else input is copied), and weights are never converted; what does not fit is a TypeError or ValueError that says so. Errors of the library are fff.Error. The
interpreter's lock is released while the library works; a layer may be used by any number of threads at once. Results
have the same bits on every instruction set, batch size and number of threads (docs/numerics.md).
"""

from . import _c
from ._errors import Error, Status
from ._layer import Layer, LeafLayer, activate
from ._parts import ACTIVATIONS, ROUTINGS, STORES, Leaves, Trees
from ._system import SLEEFS, Cpu, Sleef, cpu, isas, nodes_per_tree, sleef, version
from ._threads import Threads

__all__ = ["ACTIVATIONS", "ROUTINGS", "SLEEFS", "STORES", "Cpu", "Error", "Layer", "LeafLayer", "Leaves", "Sleef",
           "Status", "Threads", "Trees", "activate", "cpu", "isas", "nodes_per_tree", "sleef", "version"]
__version__ = version()

for _public in (Cpu, Error, Layer, LeafLayer, Leaves, Sleef, Status, Threads, Trees, activate, cpu, isas, nodes_per_tree, sleef, version):
    _public.__module__ = "fff"  # where people find it
del _public

_library = _c.library  # fff.torch opens the same file
