"""fff.torch with weights and tokens of 16 bits, under autocast, and with what quantize() stores.

    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 python/tests/test_fff_torch_types.py
"""

import copy
import io
import pickle
import unittest

import numpy as np
import torch
from torch import nn

import fff
import fff.torch
from fff.torch import FFF, BenchmarkFFF

HALVES = (torch.bfloat16, torch.float16)
AUTOCAST = HALVES if tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 1) else HALVES[:1]
STORE = {torch.bfloat16: "bf16", torch.float16: "f16"}


def bits(tensor):
    return tensor.detach().contiguous().view(torch.int16 if tensor.element_size() == 2 else torch.int32).numpy().tobytes()


def small(seed=1, depth=5, trees=2):
    torch.manual_seed(seed)
    return FFF(33, 21, depth, trees).eval()


def float32_output(module, x, **options):
    """Of the C library's layer that is given the module's numbers as float32."""
    into, bias, out = (None if weight is None else weight.detach().float().numpy() for weight in module._weights())
    depth, trees, activation, routing, node_major = module._plan
    layer = fff.Layer(into, out if node_major else out.T, depth=depth, trees=trees, biases=bias,
                      activation=fff.ACTIVATIONS[activation], routing=fff.ROUTINGS[routing], **options)
    return torch.from_numpy(layer(x.detach().float().numpy()))


class Halves(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(2)
        self.x = torch.randn(300, 33)
        fff.torch.release()

    def test_same_bits_rounded(self):
        for dtype in HALVES:
            for module in (small(), BenchmarkFFF(33, 6, 21).eval()):
                module = module.to(dtype)
                x = self.x.to(dtype)
                expected = float32_output(module, x).to(dtype)
                for give in (lambda t: t, lambda t: t.t().contiguous().t(), lambda t: torch.cat([t, t], 1)[:, :33]):
                    with torch.no_grad():
                        y = module(give(x))
                    self.assertEqual(y.dtype, dtype)
                    self.assertEqual(bits(y), bits(expected))
                self.assertEqual(bits(module(x)), bits(expected))  # gradients wanted
                with torch.inference_mode():
                    one = torch.cat([module(token) for token in x.unsqueeze(1)])
                    self.assertEqual(bits(one), bits(expected))
                    self.assertEqual(module(x[:0]).dtype, dtype)
                    self.assertEqual(bits(module(x.reshape(3, 10, 10, 33))), bits(expected))
                nodes, logits = module.route(x)
                self.assertEqual((nodes.dtype, logits.dtype), (torch.int32, torch.float32))

    def test_chunks(self):
        """More tokens than are widened at once, on several threads."""
        for dtype in HALVES:
            module, x = small().to(dtype), torch.randn(9001, 33).to(dtype)
            with torch.no_grad():
                self.assertEqual(bits(module(x)), bits(float32_output(module, x).to(dtype)))
                routed = module.route(x)
                again = [module.route(part) for part in x.split(1000)]
                for i in range(2):
                    self.assertEqual(bits(routed[i]), bits(torch.cat([part[i] for part in again])))

    def test_every_number(self):
        """All 16-bit patterns as tokens, and as results of all kinds of float32 numbers, subnormal ones and flushing included."""
        copying = BenchmarkFFF(1, 0, 1).eval()
        copying.activation = nn.Identity()
        with torch.no_grad():
            copying.w1s.fill_(1)
            copying.w2s.fill_(1)
        every = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).unsqueeze(1)
        fff.torch.quantize(copying, "f32")  # takes tokens of any type
        for flush in (False, True):
            for dtype in HALVES:
                x = every.view(dtype)
                with torch.no_grad():
                    torch.set_flush_denormal(flush)
                    y = copying(x).squeeze(1)
                    torch.set_flush_denormal(False)
                    number = ~x.isnan()
                    self.assertEqual(bits(torch.where(x == 0, x.abs(), x)[number]), bits(torch.where(y == 0, y.abs(), y)[number]))
                    self.assertTrue(y[~number].isnan().all())
        rounding = torch.from_numpy(np.random.default_rng(1).integers(0, 1 << 32, 400000, np.uint32).view(np.float32))
        rounding = torch.cat([rounding, rounding.abs().log2().nan_to_num(1, 1, 1) * 1e-6, rounding.sign() * 65520]).nan_to_num(7)
        for dtype in HALVES:
            # the only output weights of a layer that stores float32 and is given a token of 1
            y = torch.ops.fff.forward(torch.ones(1, 1, dtype=dtype), torch.ones(1, 1), None, rounding.unsqueeze(0), 0, 1, 5, 0, True,
                                      1, 1)
            self.assertEqual(bits(y.squeeze(0)), bits(rounding.to(dtype)))

    def test_packed_without_a_copy(self):
        """16-bit weights are packed as such: the layer is half as large."""
        sizes = {}
        for dtype in (torch.float32, *HALVES):
            fff.torch.release()
            module = FFF(256, 256, 8).eval().to(dtype)
            module(torch.zeros(1, 256, dtype=dtype))
            sizes[dtype] = fff.torch.packed()[1]
        for dtype in HALVES:
            self.assertLess(sizes[dtype], 0.75 * sizes[torch.float32])

    def test_mixed_types_are_refused(self):
        for dtype in HALVES:
            for module, x in ((small(), self.x.to(dtype)), (small().to(dtype), self.x), (small().to(dtype), self.x.double())):
                for call in (module, module.route):
                    self.assertRaisesRegex(TypeError, "torch.", call, x)
            module = small().to(dtype)
            module.linear_in.bias.data = module.linear_in.bias.data.float()
            self.assertRaisesRegex(TypeError, "bias", module, self.x.to(dtype))

    def test_changed_weights_are_noticed(self):
        for dtype in HALVES:
            module, x = small().to(dtype), self.x.to(dtype)
            module(x)
            for how, change in (("sample", lambda w: w.data.mul_(2)), ("all", lambda w: w.data[1:2, 7:8].add_(3))):
                fff.torch.watch(how)
                module(x)
                change(module.linear_out.weight)
                self.assertEqual(bits(module(x)), bits(float32_output(module, x).to(dtype)))
            fff.torch.watch("sample")
            reread = torch.bfloat16 if dtype == torch.float16 else torch.float16
            for weight in module.parameters():  # the same memory as another type
                weight.data = weight.data.view(reread)
            x = x.float().to(reread)
            self.assertEqual(bits(module(x).nan_to_num(0)), bits(float32_output(module, x).to(reread).nan_to_num(0)))

    def test_gradients(self):
        """Computed in float32 from the same numbers and rounded."""
        for dtype in HALVES:
            module, x = small().to(dtype), self.x[:20].to(dtype).requires_grad_()
            wide, wide_x = copy.deepcopy(module).float(), x.detach().float().requires_grad_()
            module(x).float().square().sum().backward()
            wide(wide_x).to(dtype).float().square().sum().backward()
            for one, other in zip([x, *module.parameters()], [wide_x, *wide.parameters()]):
                self.assertEqual(one.grad.dtype, dtype)
                torch.testing.assert_close(one.grad, other.grad.to(dtype), rtol=2 ** -6, atol=1e-3)

    def test_state_dicts(self):
        for dtype in HALVES:
            module, other = small().to(dtype), small(seed=9)
            other.load_state_dict(module.state_dict())
            self.assertEqual(bits(other(self.x)), bits(float32_output(module, self.x)))
            narrow = small(seed=9).to(dtype)
            narrow.load_state_dict(small().state_dict())
            self.assertEqual(bits(narrow(self.x.to(dtype))), bits(module(self.x.to(dtype))))


class Autocast(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(2)
        self.x = torch.randn(50, 33)

    def test_as_a_linear_layer(self):
        """Rounded rows and tokens, results of that type; whatever the tokens' type, with or without gradients; packed once."""
        for dtype in AUTOCAST:
            fff.torch.release()
            module, linear = small(), nn.Linear(33, 21)
            expected = float32_output(module, self.x.to(dtype), store=STORE[dtype]).to(dtype)
            with torch.autocast("cpu", dtype=dtype):
                for x in (self.x, self.x.to(dtype)):
                    self.assertEqual(module(x).dtype, linear(x).dtype)
                    self.assertEqual(bits(module(x)), bits(expected))
                    with torch.no_grad():
                        self.assertEqual(bits(module(x)), bits(expected))
                self.assertEqual(fff.torch.packed()[0], 1)
                self.assertRaises(TypeError, module, self.x.double())
                with torch.autocast("cpu", enabled=False):
                    self.assertEqual(bits(module(self.x)), bits(float32_output(module, self.x)))
                narrow = small().to(dtype)
                self.assertEqual(bits(narrow(self.x)), bits(float32_output(narrow, self.x.to(dtype)).to(dtype)))
                module(self.x).float().sum().backward()
                self.assertEqual({weight.grad.dtype for weight in module.parameters()}, {torch.float32})
            model = nn.Sequential(nn.Linear(33, 33), module, nn.ReLU())
            with torch.autocast("cpu", dtype=dtype):
                self.assertEqual(model(self.x).dtype, dtype)

    def test_quantized(self):
        module = fff.torch.quantize(small(), "i8")
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
            y = module(self.x)
        x = self.x.bfloat16()
        self.assertEqual(bits(y), bits(float32_output(module, x, store="i8").bfloat16()))


class Quantize(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(2)
        self.x = torch.randn(200, 33)

    def test_as_the_library(self):
        for dtype in (torch.float32, *HALVES):
            for store in ("f32", "bf16", "f16", "i8", "bf16+i8", "i8+f16"):
                for exact in (False, True):
                    model = nn.Sequential(small().to(dtype), nn.Identity(), nn.Sequential(BenchmarkFFF(21, 4, 7).eval().to(dtype)))
                    state = {name: value.clone() for name, value in model.state_dict().items()}
                    self.assertIs(fff.torch.quantize(model, store, exact_routes=exact), model)
                    x = self.x.to(dtype)
                    with torch.no_grad():
                        y = model[0](x)
                    self.assertEqual(y.dtype, dtype)
                    self.assertEqual(bits(y), bits(float32_output(model[0], x, store=store, exact_routes=exact).to(dtype)))
                    self.assertEqual(model(x).shape, (200, 1, 7))
                    self.assertEqual(list(state), list(model.state_dict()))
                    for name, value in model.state_dict().items():
                        self.assertEqual(bits(value), bits(state[name]))

    def test_copies_and_pickles(self):
        module = fff.torch.quantize(small(), "bf16+i8", exact_routes=True)
        saved = io.BytesIO()
        torch.save(module, saved)
        saved.seek(0)
        options = {"weights_only": False} if AUTOCAST == HALVES else {}
        for other in (copy.copy(module), copy.deepcopy(module), pickle.loads(pickle.dumps(module)), torch.load(saved, **options)):
            self.assertEqual((other.store, other.exact_routes), ("bf16+i8", True))
            self.assertIn("bf16+i8 with exact routes", repr(other))
            self.assertEqual(bits(other(self.x)), bits(module(self.x)))
        other = small(seed=7)
        other.load_state_dict(module.state_dict())  # which does not hold it
        self.assertEqual(other.store, None)
        self.assertEqual(bits(other(self.x)), bits(small()(self.x)))
        fff.torch.quantize(module, None)
        self.assertEqual(bits(module(self.x)), bits(small()(self.x)))

    def test_training_and_gradients(self):
        """Training does not look at it; the gradient is that of the parameters, along the same routes."""
        module, plain = fff.torch.quantize(small(), "bf16", exact_routes=True), small()
        torch.testing.assert_close(module.train()(self.x), plain.train()(self.x), rtol=0, atol=0)
        module.eval()(self.x).sum().backward()
        plain.eval()(self.x).sum().backward()
        self.assertNotEqual(bits(module(self.x)), bits(plain(self.x)))
        for one, other in zip(module.parameters(), plain.parameters()):
            torch.testing.assert_close(one.grad, other.grad)

    def test_traced(self):
        module = fff.torch.quantize(small(), "bf16+i8")
        expected = bits(module(self.x))
        self.assertEqual(bits(torch.jit.trace(module, (self.x,))(self.x)), expected)
        self.assertEqual(bits(torch.jit.script(module)(self.x)), expected)
        if hasattr(torch, "export") and AUTOCAST == HALVES:
            for one, x in ((module, self.x), (small().bfloat16(), self.x.bfloat16())):
                self.assertEqual(bits(torch.export.export(one, (x,)).module()(x)), bits(one(x)))
            compiled = torch.compile(small(), backend="aot_eager", fullgraph=True)
            with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
                self.assertEqual(bits(compiled(self.x)), bits(small()(self.x)))

    def test_backward_under_autocast(self):
        """It is that of the forward pass, wherever it is called."""
        torch.manual_seed(1)
        x = torch.randn(256, 33)
        leaves = fff.torch.LeafFFF(33, 4, 21, 5)
        for module in (small(depth=8), leaves.eval(), fff.torch.quantize(small(depth=8), "i8"), small(depth=8).train()):
            for forward in (False, True):
                found = []
                for backward in (False, True):
                    module.zero_grad(set_to_none=True)
                    leaf = x.clone().requires_grad_()
                    if forward and module.training:
                        continue  # PyTorch's own operations
                    with torch.autocast("cpu", torch.bfloat16, enabled=forward):
                        y = module(leaf)
                    with torch.autocast("cpu", torch.bfloat16, enabled=backward):
                        y.backward(torch.ones_like(y))
                    found.append([bits(leaf.grad), *(bits(weight.grad) for weight in module.parameters() if weight.grad is not None)])
                self.assertTrue(all(each == found[0] for each in found))

    def test_refuses(self):
        for wrong in ("fp16", "bf16+", "", 16):
            self.assertRaisesRegex(ValueError, "f32, bf16, f16, i8", fff.torch.quantize, small(), wrong)
        self.assertRaisesRegex(ValueError, "no FFF", fff.torch.quantize, nn.Linear(2, 2), "bf16")
        module = fff.torch.quantize(small(), "i8")
        with torch.no_grad():
            module.linear_out.weight[3, 40] = float("inf")
        self.assertRaisesRegex(RuntimeError, "output_weight.*40.*3", module, self.x)
        module = small()
        for stored in ((5, 0), (0, -1)):
            self.assertRaises(ValueError, torch.ops.fff.forward, self.x, *module._weights(), *module._plan, *stored)


if __name__ == "__main__":
    unittest.main()
