"""fff.torch: thresholds of FFF and LeafFFF, torch.jit.script of leaves and forests, and the counts of arXiv 2405.16836's
modules.

    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 python/tests/test_fff_torch_thresholds.py
"""

import copy
import io
import pickle
import unittest

import torch
from torch import nn

import fff
import fff.torch
from fff.torch import FFF, Forest, LeafFFF, MasterLeafFFF


def bits(tensor):
    return tensor.detach().contiguous().numpy().tobytes()


def path(thresholds=True, seed=1, **options):
    """Of 2 trees of depth 3: 30 nodes."""
    torch.manual_seed(seed)
    given = torch.randn(30) if thresholds is True else thresholds
    return FFF(12, 9, 3, 2, thresholds=given, **options).eval()


def numpy_layer(module):
    return fff.Layer(module.linear_in.weight.detach().numpy(), module.linear_out.weight.detach().numpy().T,
                     biases=module.linear_in.bias.detach().numpy(), depth=3, trees=2, routing=module.routing,
                     thresholds=None if module.thresholds is None else module.thresholds.detach().numpy())


class Thresholds(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(2)
        self.x = torch.randn(50, 12)

    def test_bits(self):
        """Those of the NumPy package, whichever way the layer is asked; and other ones than without."""
        for routing in (">", ">="):
            module = path(routing=routing)
            expected = numpy_layer(module)(self.x.numpy())
            with torch.no_grad():
                self.assertEqual(bits(module(self.x)), expected.tobytes())
                self.assertEqual(bits(Forest([module]).eval()(self.x)), expected.tobytes())
            self.assertEqual(bits(module(self.x)), expected.tobytes())  # with gradients
            with torch.no_grad():
                self.assertEqual(bits(module.forward_out(self.x, out=torch.empty(50, 9))), expected.tobytes())
                torch.testing.assert_close(module.dense(self.x), module(self.x))
                torch.testing.assert_close(module.train()(self.x), torch.from_numpy(expected))
            module.eval()
            nodes, logits = module.route(self.x.reshape(5, 10, 12))
            wanted = numpy_layer(module).route(self.x.numpy())
            self.assertEqual(nodes.shape, (5, 10, 2, 4))
            self.assertEqual(bits(nodes), wanted[0].tobytes())
            self.assertEqual(bits(logits), wanted[1].tobytes())
            self.assertNotEqual(expected.tobytes(), bits(path(None, routing=routing)(self.x)))

    def test_set_at_any_time(self):
        """The short way to the kernels sees them, too: a buffer, a parameter, and none."""
        module = path(None)
        with torch.no_grad():
            plain = bits(module(self.x))
            for given in (torch.linspace(-1, 1, 30), None, nn.Parameter(torch.linspace(1, -1, 30)), None):
                module.thresholds = given
                self.assertEqual(bits(module(self.x)), numpy_layer(module)(self.x.numpy()).tobytes())
                self.assertEqual(bits(Forest([module]).eval()(self.x)), bits(module(self.x)))
                self.assertEqual(bits(module(self.x)) == plain, given is None)
            module = path(torch.zeros(30))
            self.assertEqual(bits(module(self.x)), plain)
            module.thresholds.fill_(-0.5)
            self.assertEqual(bits(module(self.x)), numpy_layer(module)(self.x.numpy()).tobytes())

    def test_state_dict(self):
        """A buffer of that name, made by loading where there is none."""
        for module, empty in ((path(), path(None, 5)), (LeafFFF(12, 3, 9, 2, thresholds=torch.randn(3)), LeafFFF(12, 3, 9, 2))):
            module, empty = module.eval(), empty.eval()
            self.assertIn("thresholds", module.state_dict())
            self.assertNotIn("thresholds", empty.state_dict())
            empty.load_state_dict(module.state_dict())
            for other in (empty, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
                self.assertEqual(bits(other(self.x)), bits(module(self.x)))

    def test_gradients(self):
        """Of all but thresholds, along the routes that these make."""
        for module in (path(), path(nn.Parameter(torch.randn(30)))):
            x = self.x.clone().requires_grad_()
            module(x).square().sum().backward()
            found = [x.grad, module.linear_in.weight.grad, module.linear_in.bias.grad, module.linear_out.weight.grad]
            y = self.x.clone().requires_grad_()
            wanted = torch.autograd.grad(module.dense(y).square().sum(), [y, module.linear_in.weight, module.linear_in.bias,
                                                                          module.linear_out.weight])
            for one, other in zip(found, wanted):
                torch.testing.assert_close(one, other)
            self.assertIsNone(module.thresholds.grad)

    def test_leaves(self):
        given = torch.randn(7)
        module = LeafFFF(12, 3, 9, 3, thresholds=given).eval()
        later = LeafFFF(12, 3, 9, 3).eval()
        later.load_state_dict({name: value for name, value in module.state_dict().items() if name != "thresholds"})
        later.thresholds = given
        self.assertEqual(bits(module(self.x)), bits(later(self.x)))
        learnt = LeafFFF(12, 3, 9, 3, thresholds=nn.Parameter(given.clone()))
        learnt(self.x).square().sum().backward()
        self.assertEqual(learnt.thresholds.grad.shape, (7,))
        self.assertIn("thresholds", dict(learnt.named_parameters()))
        with torch.no_grad():
            learnt.eval()
            self.assertEqual(bits(learnt(self.x)), bits(learnt.eval_forward(self.x)))

    def test_refused(self):
        for make in (lambda: path(torch.zeros(29)), lambda: LeafFFF(12, 3, 9, 3, thresholds=torch.zeros(8))):
            with self.assertRaisesRegex(ValueError, "thresholds have shape"):
                make()
        module = path()
        module.thresholds = torch.zeros(29)
        with self.assertRaisesRegex(ValueError, "thresholds ha(s|ve) shape"):
            module(self.x)
        module.thresholds = torch.full((30,), float("nan"))
        with self.assertRaisesRegex(RuntimeError, "threshold"):
            module(self.x)


    def test_state_dict_of_another_number(self):
        for module in (FFF(12, 9, 3, 2), LeafFFF(12, 4, 9, 3)):
            state = {**module.state_dict(), "thresholds": torch.zeros(13)}
            with self.assertRaisesRegex(RuntimeError, "size mismatch for thresholds"):
                module.load_state_dict(state)


class Scripted(unittest.TestCase):
    def test_jit_script(self):
        """Every kind of layer in evaluation, alone and in a model: the module's bits and state_dict, saved and loaded."""
        torch.manual_seed(4)
        x = torch.randn(7, 12)
        made = [path(), LeafFFF(12, 4, 9, 3), LeafFFF(12, 4, 9, 3, eval_b2s=False, thresholds=torch.randn(7)), LeafFFF(12, 4, 9, 0),
                LeafFFF(12, 4, 9, 3, nn.GELU(), usage_mode="hard"), MasterLeafFFF(12, 4, 9, 3),
                MasterLeafFFF(12, 4, 9, 2, nn.SiLU(), eval_b2s=False, thresholds=torch.randn(3), usage_mode="soft")]
        forests = [Forest(made, output_bias=True), Forest([path(None), made[5]])]
        nn.init.normal_(forests[0].output_bias)
        quantized = fff.torch.quantize(Forest([LeafFFF(12, 4, 9, 3)]), "bf16+i8", exact_routes=True)
        for module in (*made, *forests, quantized):
            for model in (module.eval(), nn.Sequential(nn.Linear(12, 12), module).eval()):
                scripted = torch.jit.script(model)
                self.assertEqual(set(scripted.state_dict()), set(model.state_dict()))
                buffer = io.BytesIO()
                torch.jit.save(scripted, buffer)
                buffer.seek(0)
                for program in (scripted, torch.jit.load(buffer)):
                    with torch.no_grad():
                        self.assertEqual(bits(program(x)), bits(model(x)))
                    self.assertEqual(bits(program(x[:1])), bits(model(x[:1])))

    def test_weights_are_shared(self):
        module = MasterLeafFFF(12, 4, 9, 3).eval()
        scripted, x = torch.jit.script(module), torch.randn(5, 12)
        with torch.no_grad():
            module.k.fill_(-2)
            module.w1s.mul_(2)
            self.assertEqual(bits(scripted(x)), bits(module(x)))
        scripted(x).sum().backward()
        self.assertIsNotNone(module.k.grad)

    def test_refused(self):
        class Own(LeafFFF):
            pass

        with self.assertRaisesRegex(NotImplementedError, "call eval"):
            torch.jit.script(Forest([LeafFFF(12, 4, 9, 3)]))
        for module in (Own(12, 4, 9, 3).eval(), Forest([Own(12, 4, 9, 3)]).eval()):
            with self.assertRaisesRegex(NotImplementedError, "torch.jit.trace"):
                torch.jit.script(module)

    def test_hooks(self):
        """What a script would leave out is refused, and traced."""
        hooks = [lambda m: m.register_forward_hook(lambda _module, _args, y: 2 * y),
                 lambda m: m.register_forward_pre_hook(lambda _module, args: (2 * args[0],)),
                 lambda m: m.register_full_backward_hook(lambda *_: None)]
        x = torch.randn(5, 12)
        for make in (path, lambda: path(None), lambda: fff.torch.BenchmarkFFF(12, 3, 9).eval(), lambda: LeafFFF(12, 4, 9, 3).eval(),
                     lambda: MasterLeafFFF(12, 4, 9, 3).eval(), lambda: Forest([LeafFFF(12, 4, 9, 3)]).eval()):
            for index, put in enumerate(hooks):
                module = make()
                plain, hook = bits(module(x)), put(module)
                for model in (module, nn.Sequential(module)):
                    with self.assertRaisesRegex(NotImplementedError, "hooks.*torch.jit.trace"):
                        torch.jit.script(model)
                    if index < 2:
                        traced = torch.jit.trace(model, (x,))
                        self.assertEqual(bits(traced(x)), bits(model(x)))
                        self.assertNotEqual(bits(traced(x)), plain)
                hook.remove()
                self.assertEqual(bits(torch.jit.script(module)(x)), plain)
            module.forward = module.dense
            with self.assertRaisesRegex(NotImplementedError, "forward.*torch.jit.trace"):
                torch.jit.script(module)
        module = path(None)
        module.train()
        for within in (module.linear_in, module.linear_out, module.activation):  # which run in training
            for put in hooks[:2]:
                hook = put(within)
                self.assertRaisesRegex(NotImplementedError, "hooks.*torch.jit.trace", torch.jit.script, module)
                hook.remove()
        torch.jit.script(module)


class Counts(unittest.TestCase):
    """`f` of arXiv 2405.16836's modules: how many tokens of the last batch reached each leaf by hard decisions."""

    def test_counted_in_training(self):
        torch.manual_seed(6)
        for mode in ("hard", "soft"):
            module = MasterLeafFFF(12, 4, 9, 3, usage_mode=mode)
            for count in (40, 25):  # the last batch's alone
                x = torch.randn(count, 12)
                module.train()(x)
                right = (module.decisions(x) > 0.5).long()  # a half rounds to 0
                node = torch.zeros(count, dtype=torch.long)
                for _ in range(3):
                    node = 2 * node + 1 + right[torch.arange(count), node]
                expected = torch.bincount(node - 7, minlength=8)
                self.assertEqual(module.f.tolist(), expected.tolist())
            module.eval()(x)
            self.assertEqual(module.f.tolist(), expected.tolist())

    def test_state_dict(self):
        """Where theirs has it, a module of leaves gets it."""
        self.assertNotIn("f", MasterLeafFFF(12, 4, 9, 3).state_dict())
        state = MasterLeafFFF(12, 4, 9, 3, usage_mode="soft").state_dict()
        self.assertIn("f", state)
        MasterLeafFFF(12, 4, 9, 3, usage_mode="soft").load_state_dict(state)
        balanced = {name: value for name, value in state.items() if not name.startswith("magic") and name != "k"}
        balanced["f"] = torch.arange(8.0)
        module = LeafFFF(12, 4, 9, 3, usage_mode="soft")
        module.load_state_dict(balanced)
        self.assertEqual(module.f.tolist(), list(range(8)))
        module.train()(torch.randn(30, 12))
        self.assertEqual(module.f.sum().item(), 30)


if __name__ == "__main__":
    unittest.main()
