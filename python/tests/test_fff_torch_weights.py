"""fff.torch notices that weights have changed since they were packed: which changes, how surely, and what to do about the others.

    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 python/tests/test_fff_torch_weights.py
"""

import unittest

import numpy as np
import torch
from torch import nn

import fff
import fff.torch
from fff.torch import FFF, BenchmarkFFF


def without_gradients(change):
    def changed(weight):
        with torch.no_grad():
            change(weight)
    return changed


def in_inference_mode(change):
    def changed(weight):
        with torch.inference_mode():
            change(weight)
    return changed


def new(weight):
    return torch.randn(weight.shape)


def flat(weight):
    """A view of all elements, in the order of memory."""
    return (weight if weight.is_contiguous() else weight.t()).view(-1)


def exchange_storage(weight):
    """Other memory behind the same storage."""
    storage = weight.untyped_storage() if hasattr(weight, "untyped_storage") else weight.storage()._storage
    storage.resize_(0)
    storage.resize_(4 * weight.numel())
    np.copyto(torch.Tensor.numpy(weight.detach()), new(weight).numpy())


def through_numpy(weight):
    array = weight.detach().numpy()
    array *= 2


COUNTED = {  # by PyTorch: always noticed, however little changes
    "one element": without_gradients(lambda w: flat(w)[7:8].add_(5)),
    "one element in inference mode": in_inference_mode(lambda w: flat(w)[7:8].add_(5)),
    "copy_ in inference mode": in_inference_mode(lambda w: w.copy_(new(w))),
    "nn.init": nn.init.normal_,
    "detach()": lambda w: flat(w.detach())[3:4].add_(5),
    "foreach": without_gradients(lambda w: torch._foreach_mul_([w], 2.0)),
    "set_": without_gradients(lambda w: w.set_(new(w))),
    "other .data": lambda w: setattr(w, "data", new(w)),
}
WHOLE = {  # not counted, but of the whole weight: noticed by the sample
    ".data.mul_": lambda w: w.data.mul_(1.5), ".data.copy_": lambda w: w.data.copy_(new(w)), ".data.normal_": lambda w: w.data.normal_(),
    ".data.zero_": lambda w: w.data.zero_(), ".data.clamp_": lambda w: w.data.clamp_(min=0), "NumPy": through_numpy,
    ".data[...]": lambda w: w.data.__setitem__(slice(None), 1.0),
}


class Watched(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(1)
        self.assertEqual(fff.torch.watch(), "sample")

    def tearDown(self):
        fff.torch.watch("sample")

    def current(self, module, batch=1):
        """Whether the output is that of the weights as they are."""
        x = torch.randn(batch, module.input_width)
        weights = [None if weight is None else weight.detach().clone().numpy() for weight in module._weights()]
        depth, trees, activation, routing, node_major = module._plan
        layer = fff.Layer(weights[0], weights[2] if node_major else weights[2].T, depth=depth, trees=trees, biases=weights[1],
                          activation=fff.ACTIVATIONS[activation], routing=fff.ROUTINGS[routing])
        with torch.no_grad():
            return module(x).reshape(batch, -1).numpy().tobytes() == layer(x.numpy()).tobytes()

    def changed(self, change, at, module=None):
        module = module or FFF(96, 64, 5, 2).eval()  # each weight but the bias has more elements than are looked at
        self.assertTrue(self.current(module))
        change(module._weights()[at])
        return module

    def test_what_is_counted(self):
        for how in ("count", "sample", "all"):
            fff.torch.watch(how)
            for name, change in COUNTED.items():
                for at in range(3):
                    with self.subTest(name, how=how, at=at):
                        self.assertTrue(self.current(self.changed(change, at)))

    def test_whole_weights(self):
        for how in ("sample", "all"):
            fff.torch.watch(how)
            for name, change in WHOLE.items():
                for at in range(3):
                    with self.subTest(name, how=how, at=at):
                        self.assertTrue(self.current(self.changed(change, at)))
                for at in (0, 2):
                    with self.subTest(name, how=how, at=at, module="benchmark"):
                        self.assertTrue(self.current(self.changed(change, at, BenchmarkFFF(96, 5, 64).eval())))

    def test_whole_weights_of_other_layouts(self):
        for name, change in WHOLE.items():
            module = FFF(96, 64, 5, 2).eval()
            for part in (module.linear_in, module.linear_out):
                part.weight = nn.Parameter(part.weight.detach().t().contiguous().t())
            for at in (0, 2):
                with self.subTest(name, at=at):
                    if name != "NumPy" or module._weights()[at].detach().numpy().flags.writeable:
                        self.assertTrue(self.current(self.changed(change, at, module)))

    def test_weights_full_of_zeros(self):
        """A factor leaves zeros as they are: the sample is of others."""
        for share in (0.5, 0.05):
            for at in (0, 2):
                module = FFF(96, 64, 5, 2).eval()
                with torch.no_grad():
                    for weight in (module.linear_in.weight, module.linear_out.weight):
                        weight.mul_(torch.rand(weight.shape) < share)
                self.assertTrue(self.current(self.changed(lambda w: w.data.mul_(2), at, module)), (share, at))

    def test_weights_of_inference_mode(self):
        """PyTorch does not count writes to them."""
        with torch.inference_mode():
            for name, change in WHOLE.items():
                for at in range(3):
                    with self.subTest(name, at=at):
                        self.assertTrue(self.current(self.changed(change, at, FFF(96, 64, 5, 2).eval())))

    @unittest.skipUnless(fff.torch.backend() == "native", "NumPy, by which the operator in Python works, forbids it")
    def test_other_memory_behind_the_storage(self):
        for at in range(3):
            self.assertTrue(self.current(self.changed(exchange_storage, at)))

    def test_optimizers(self):
        for make in (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), lambda p: torch.optim.Adam(p, 0.1),
                     lambda p: torch.optim.RMSprop(p, 0.1)):
            module = FFF(96, 64, 5, 2).eval()
            optimizer = make(module.parameters())
            for _ in range(3):
                module.zero_grad()
                module(torch.randn(7, 96)).square().sum().backward()
                self.assertTrue(self.current(module))
                optimizer.step()
                self.assertTrue(self.current(module))

    def test_a_few_elements(self):
        """One element that PyTorch does not count: missed by the sample, which refresh() mends, and never missed by "all"."""
        module = FFF(96, 64, 5, 2).eval()
        self.assertTrue(self.current(module))
        weight = module.linear_in.weight
        with torch.no_grad():
            before = module(torch.ones(1, 96))
        weight.data[0, 1:2] += 1000  # the root's: any token's output changes; the root's first element would be noticed
        with torch.no_grad():
            self.assertTrue(torch.equal(module(torch.ones(1, 96)), before))
        fff.torch.refresh(nn.Sequential(nn.Linear(3, 96), module))
        self.assertTrue(self.current(module))

        fff.torch.watch("all")
        self.assertTrue(self.current(module))
        choose = np.random.default_rng(1)
        for i in range(300):
            weight = module._weights()[i % 3]
            flat(weight.data)[int(choose.integers(weight.numel()))] += 3
            self.assertTrue(self.current(module, 5), i)

    def test_large_batches_look_at_more(self):
        """An eighth of the elements: a token may miss it, a hundred cannot."""
        for at in (0, 2):
            module = FFF(96, 64, 5, 2).eval()
            self.assertTrue(self.current(module, 200))
            weight = module._weights()[at].data
            weight[torch.rand(weight.shape) < 0.125] += 1
            self.assertTrue(self.current(module, 200))

    def test_count(self):
        """The opt-out: what PyTorch does not count is not looked for."""
        self.assertEqual(fff.torch.watch("count"), "sample")
        module = FFF(96, 64, 5, 2).eval()
        self.assertTrue(self.current(module))
        module.linear_in.weight.data.mul_(2)
        self.assertFalse(self.current(module))
        self.assertEqual(fff.torch.watch("sample"), "count")
        self.assertTrue(self.current(module))

    def test_watch_refuses(self):
        for how in ("some", 1, "", b"all"):
            with self.assertRaises(ValueError):
                fff.torch.watch(how)
        self.assertEqual(fff.torch.watch(), "sample")


if __name__ == "__main__":
    unittest.main()
