"""fff.torch's forward_out() and the operators fff::forward.out and fff::forest.out: the bits of forward(), in memory
of the caller's, and what bad memory gets.

    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 python/tests/test_fff_torch_out.py
"""

import itertools
import unittest

import torch
from torch import nn

import fff
import fff.torch
from fff.torch import FFF, BenchmarkFFF, Forest, LeafFFF, MasterLeafFFF

TYPES = torch.float32, torch.bfloat16, torch.float16
NATIVE = fff.torch.backend() == "native"
MODERN = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 4)


def bits(tensor):
    return (tensor if tensor.dtype == torch.float32 else tensor.view(torch.int16)).contiguous().numpy().tobytes()


def made(width=40, out=24, depth=5, trees=2, **options):
    torch.manual_seed(1)
    return FFF(width, out, depth, trees, **options).eval()


def made_of_parts():
    torch.manual_seed(1)
    leaves, master = LeafFFF(40, 4, 24, 3, nn.SiLU()), MasterLeafFFF(40, 2, 24, 2, nn.GELU(), master_width=5)
    forest = Forest([FFF(40, 24, 2, 2), LeafFFF(40, 3, 24, 2), FFF(40, 24, 0, 5)], output_bias=True)
    nn.init.normal_(forest.output_bias)
    return leaves.eval(), master.eval(), forest.eval()


@torch.no_grad()
def filled(*shape, dtype=torch.float32):
    """Memory that holds what no result does."""
    return torch.full(shape, float("nan"), dtype=dtype)


class SameBits(unittest.TestCase):
    @torch.no_grad()
    def test_shapes_and_types(self):
        shapes = (), (1,), (7,), (0,), (3, 5), (2, 0, 4), (1, 2, 3, 4), (300,), (5000,)
        for dtype, shape in itertools.product(TYPES, shapes):
            layer = made().to(dtype)
            x = torch.randn(*shape, 40).to(dtype)
            out = filled(*shape, 24, dtype=dtype)
            place = out.data_ptr()
            self.assertIs(layer.forward_out(x, out=out), out)
            self.assertEqual((bits(out), out.data_ptr()), (bits(layer(x)), place), (dtype, shape))

    @torch.no_grad()
    def test_threads_and_large_batches(self):
        threads = torch.get_num_threads()
        self.addCleanup(torch.set_num_threads, threads)
        layer, x = made(256, 256, 8, 1), torch.randn(9000, 256)
        expected = layer(x)
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            self.assertEqual(bits(layer.forward_out(x, out=filled(9000, 256))), bits(expected))

    @torch.no_grad()
    def test_strided_rows(self):
        """Columns of a wider matrix: what lies between the rows stays as it is."""
        for dtype in TYPES:
            layer, x = made().to(dtype), torch.randn(5000, 40).to(dtype)
            matrix = torch.zeros(5000, 31, dtype=dtype)
            layer.forward_out(x, out=matrix[:, 3:27])
            self.assertEqual(bits(matrix[:, 3:27]), bits(layer(x)))
            self.assertEqual(int(torch.count_nonzero(matrix[:, :3])) + int(torch.count_nonzero(matrix[:, 27:])), 0)

    @torch.no_grad()
    def test_columns_of_one_matrix(self):
        """Tokens and results side by side share no element."""
        layer, matrix = made(), torch.randn(50, 64)
        expected = layer(matrix[:, :40])
        self.assertEqual(bits(layer.forward_out(matrix[:, :40], out=matrix[:, 40:])), bits(expected))

    @torch.no_grad()
    def test_other_modules(self):
        torch.manual_seed(2)
        layer, x = BenchmarkFFF(40, 5, 24).eval(), torch.randn(9, 40)
        self.assertEqual(bits(layer.forward_out(x, out=filled(9, 1, 24))), bits(layer(x)))
        with self.assertRaisesRegex(ValueError, r"out has shape \[9, 24\], not \[..., 1, 24\]"):
            layer.forward_out(x, out=filled(9, 24))

    @torch.no_grad()
    def test_parts(self):
        for dtype, layer, shape in itertools.product(TYPES, made_of_parts(), ((), (7,), (0,), (3, 5), (5000,))):
            layer.to(dtype)
            x, out = torch.randn(*shape, 40).to(dtype), filled(*shape, 24, dtype=dtype)
            self.assertIs(layer.forward_out(x, out=out), out)
            self.assertEqual(bits(out), bits(layer(x)), (dtype, type(layer), shape))
            matrix = torch.zeros(50, 31, dtype=dtype)
            x = torch.randn(50, 40).to(dtype)
            expected = layer(x)
            layer.train().forward_out(x, out=matrix[:, 3:27])
            layer.eval()
            self.assertEqual(bits(matrix[:, 3:27]), bits(expected))
            self.assertEqual(int(torch.count_nonzero(matrix[:, :3])) + int(torch.count_nonzero(matrix[:, 27:])), 0)

    @torch.no_grad()
    def test_quantised_and_autocast(self):
        for layer in (made(), *made_of_parts()):
            self.quantised_and_autocast(layer)

    def quantised_and_autocast(self, layer):
        x = torch.randn(60, 40)
        with torch.autocast("cpu", torch.bfloat16):
            out = filled(60, 24, dtype=torch.bfloat16)
            self.assertEqual(bits(layer.forward_out(x, out=out)), bits(layer(x)))
            with self.assertRaisesRegex(TypeError, "out has dtype torch.float32, where the results are torch.bfloat16"):
                layer.forward_out(x, out=filled(60, 24))
        fff.torch.quantize(layer, "bf16+i8", exact_routes=True)
        for dtype in TYPES:
            out = filled(60, 24, dtype=dtype)
            self.assertEqual(bits(layer.forward_out(x.to(dtype), out=out)), bits(layer(x.to(dtype))))

    def test_inference_mode(self):
        layer, x, out = made(), torch.randn(9, 40), filled(9, 24)
        with torch.inference_mode():
            self.assertEqual(bits(layer.forward_out(x, out=out)), bits(layer(x)))
            own = torch.empty(9, 24)
            self.assertEqual(bits(layer.forward_out(x, out=own)), bits(layer(x)))

    @torch.no_grad()
    def test_counted_as_a_write(self):
        """By PyTorch, and so by the next packing if `out` is a weight."""
        layer, other = made(24, 24), made(24, 24)
        out = filled(11, 24)
        version = out._version
        layer.forward_out(torch.randn(11, 24), out=out)
        self.assertGreater(out._version, version)
        x = torch.randn(4, 24)
        before = other(x)
        rows = other.linear_in.weight.shape[0]
        layer.forward_out(torch.randn(rows, 24), out=other.linear_in.weight)
        after = other(x)
        self.assertNotEqual(bits(before), bits(after))
        other.repack()
        self.assertEqual(bits(after), bits(other(x)))


class Refuses(unittest.TestCase):
    def setUp(self):
        self.layer, self.x = made(), torch.randn(10, 40)

    def refuses(self, error, pattern, out, x=None):
        before = out.clone() if out.device.type == "cpu" and not out.is_sparse else None
        with torch.no_grad(), self.assertRaisesRegex(error, pattern):
            self.layer.forward_out(self.x if x is None else x, out=out)
        if before is not None and before.dtype.is_floating_point:
            self.assertTrue(torch.equal(before, out), "a refused call has written")

    def test_shapes(self):
        for shape in ((10, 23), (9, 24), (11, 24), (240,), (10, 24, 1), (1, 10, 24), (0,), ()):
            told = ", ".join(map(str, shape))
            self.refuses(ValueError, rf"out has shape \[{told}\], not \[10, 24\]", torch.zeros(shape))

    def test_types(self):
        for dtype in (torch.bfloat16, torch.float16):
            told = f"out has dtype {dtype}, where the results are torch.float32"
            self.refuses(TypeError, told, torch.zeros(10, 24, dtype=dtype))
        for dtype in (torch.float64, torch.int32, torch.complex64):
            self.refuses(TypeError, f"out has dtype {dtype}", torch.zeros(10, 24, dtype=dtype))

    def test_layouts(self):
        self.refuses(ValueError, "out has strides", torch.zeros(24, 10).t())
        self.refuses(ValueError, "out has strides", torch.zeros(10, 48)[:, ::2])
        self.refuses(ValueError, "out has strides", torch.zeros(24).expand(10, 24))
        self.refuses(ValueError, "out has strides", torch.zeros(2, 5, 30)[..., :24], self.x.reshape(2, 5, 40))
        with self.assertRaises(NotImplementedError), torch.no_grad():
            self.layer.forward_out(self.x, out=torch.zeros(10, 24).to_sparse())

    def test_overlap(self):
        for dtype in TYPES:
            self.layer = made(24, 24).to(dtype)
            memory = torch.zeros(1000, dtype=dtype)
            x = memory[:240].view(10, 24)
            self.refuses(ValueError, "out shares memory with x", x, x)
            for start in (1, 23, 24, 239):
                self.refuses(ValueError, "out shares memory with x", memory[start:start + 240].view(10, 24), x)
            self.refuses(ValueError, "out shares memory with x", memory[239:479].view(10, 24), x)
            with torch.no_grad():
                self.layer.forward_out(x, out=memory[240:480].view(10, 24))
            wide = torch.zeros(10, 47, dtype=dtype)
            self.refuses(ValueError, "out shares memory with x", wide[:, 23:], wide[:, :24])
            self.refuses(ValueError, "out shares memory with x", wide[:, :24], wide[:, 23:])

    def test_tokens(self):
        self.refuses(ValueError, r"x has shape .10, 39., not .\.\.\., 40.", torch.zeros(10, 24), torch.zeros(10, 39))
        self.refuses(TypeError, "x has dtype torch.float64", torch.zeros(10, 24), self.x.double())

    def test_gradients(self):
        """As PyTorch's own out=: an error wherever one is wanted."""
        with self.assertRaisesRegex(RuntimeError, "fff::forward.out has no derivatives"):
            self.layer.forward_out(self.x, out=filled(10, 24))
        for parameter in self.layer.parameters():
            parameter.requires_grad_(False)
        self.layer.forward_out(self.x, out=filled(10, 24))
        for x, out in ((self.x.clone().requires_grad_(), filled(10, 24)), (self.x, filled(10, 24).requires_grad_())):
            with self.assertRaisesRegex(RuntimeError, "fff::forward.out has no derivatives"):
                self.layer.forward_out(x, out=out)

    def test_parts(self):
        for self.layer in made_of_parts():
            with self.assertRaisesRegex(RuntimeError, "fff::forest.out has no derivatives"):
                self.layer.forward_out(self.x, out=filled(10, 24))
            self.refuses(ValueError, r"out has shape \[9, 24\], not \[10, 24\]", torch.zeros(9, 24))
            self.refuses(TypeError, "out has dtype torch.float16", torch.zeros(10, 24, dtype=torch.float16))
            self.refuses(ValueError, "out has strides", torch.zeros(24, 10).t())
            memory = torch.zeros(640)
            self.refuses(ValueError, "out shares memory with x", memory[200:440].view(10, 24), memory[:400].view(10, 40))
            with self.assertRaises(NotImplementedError), torch.no_grad():
                self.layer.forward_out(self.x, out=torch.zeros(10, 24).to_sparse())
            self.layer.requires_grad_(False)
            self.layer.forward_out(self.x, out=filled(10, 24))
            with self.assertRaisesRegex(RuntimeError, "fff::forest.out has no derivatives"):
                self.layer.forward_out(self.x, out=filled(10, 24).requires_grad_())

    def test_weights_that_are_wrapped(self):
        self.layer.linear_in = nn.Sequential(self.layer.linear_in)
        self.refuses(ValueError, "the weights are not plain parameters", torch.zeros(10, 24))


class Compiled(unittest.TestCase):
    @torch.no_grad()
    def test_meta(self):
        for layer in (made(), *made_of_parts()):
            self.meta(layer.to("meta"), torch.zeros(7, 40, device="meta"))

    def meta(self, layer, x):
        self.assertEqual(layer.forward_out(x, out=torch.zeros(7, 24, device="meta")).shape, (7, 24))
        with self.assertRaisesRegex(ValueError, "out has shape"):
            layer.forward_out(x, out=torch.zeros(8, 24, device="meta"))
        with self.assertRaisesRegex(TypeError, "out has dtype"):
            layer.forward_out(x, out=torch.zeros(7, 24, device="meta", dtype=torch.float16))

    @unittest.skipUnless(MODERN, "torch.compile of a PyTorch as old")
    @torch.no_grad()
    def test_compile(self):
        for layer in (made(), *made_of_parts()):
            self.compiled(layer, torch.randn(10, 40))

    def compiled(self, layer, x):
        @torch.compile(backend="aot_eager", fullgraph=True)
        def step(x, out):
            layer.forward_out(x * 2, out=out)
            return out + 1

        out = filled(10, 24)
        y = step(x, out)
        self.assertEqual(bits(out), bits(layer(x * 2)))
        self.assertEqual(bits(y), bits(layer(x * 2) + 1))

    @unittest.skipUnless(MODERN, "opcheck")
    @torch.no_grad()
    def test_opcheck(self):
        layer, x = made(), torch.randn(10, 40)
        weights = [weight.detach() for weight in layer._weights()]
        torch.library.opcheck(torch.ops.fff.forward.out, (x, *weights, *layer._plan), {"out": torch.zeros(10, 24)})
        for layer in made_of_parts():
            weights, plan = layer.requires_grad_(False)._given()
            torch.library.opcheck(torch.ops.fff.forest.out, (x, weights, plan, layer._bias()), {"out": torch.zeros(10, 24)})


if __name__ == "__main__":
    unittest.main()
