"""The package around the mathematics: names, copies, instruction sets, SLEEF, errors.

    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 python/tests/test_fff_package.py
"""

import concurrent.futures
import contextlib
import copy
import os
import pathlib
import pickle
import subprocess
import sys
import types
import unittest
from unittest import mock

import numpy as np

import fff
from fff import _c, _command

W = np.ones((7, 5), np.float32)


def layer(**options):
    return fff.Layer(W, W, depth=2, **options)


class Names(unittest.TestCase):
    def test_nothing_else(self):
        """dir(fff) holds what __all__ names, and the package's own files."""
        files = {path.stem for path in pathlib.Path(fff.__file__).parent.iterdir()}
        for name in dir(fff):
            value = getattr(fff, name)
            with self.subTest(name):
                self.assertTrue(name in fff.__all__ or name.startswith("_") or name in files)
                if isinstance(value, types.ModuleType):
                    self.assertIn(name, files)
        everything = {}
        exec("from fff import *", everything)  # pylint: disable=exec-used
        self.assertEqual(set(everything) - {"__builtins__"}, set(fff.__all__))

    def test_of_the_package(self):
        self.assertEqual(fff.__version__, fff.version())
        for name in fff.__all__:
            self.assertEqual(getattr(getattr(fff, name), "__module__", "fff"), "fff")

    def test_all_files_are_installed(self):
        folder = pathlib.Path(fff.__file__).parent
        build = folder.parent / "meson.build"
        if build.is_file():
            listed = build.read_text(encoding="utf-8")
            for path in [*folder.glob("*.py"), folder / "py.typed"]:
                self.assertIn(f"'fff/{path.name}'", listed)


class Copies(unittest.TestCase):
    def test_are_the_layer_itself(self):
        class Own(fff.Layer):
            pass

        for one in (layer(), Own(W, W, depth=2)):
            expected = one(W).tobytes()
            copies = [copy.copy(one), copy.deepcopy(one), copy.deepcopy({"ffn": [one]})["ffn"][0]]
            self.assertTrue(all(other is one for other in copies))
            del one
            self.assertEqual(copies.pop()(W).tobytes(), expected)
        with fff.Threads(2) as threads:
            self.assertIs(copy.copy(threads), threads)
            self.assertIs(copy.deepcopy([threads])[0], threads)

    def test_by_other_means(self):
        """However a copy came about, the layer is freed once, when nobody has it."""
        one = layer()
        other = object.__new__(fff.Layer)
        other.__dict__.update(one.__dict__)
        expected = one(W).tobytes()
        del one
        self.assertEqual(other(W).tobytes(), expected)

    def test_pickling_says_what_to_do(self):
        with fff.Threads(2) as threads:
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                self.assertRaisesRegex(TypeError, "pickle its weights", pickle.dumps, layer(), protocol)
                self.assertRaisesRegex(TypeError, "make them in the process", pickle.dumps, threads, protocol)

        self.assertEqual(pickle.loads(pickle.dumps(Rebuilt(3))).trees, 3)

    def test_immutable(self):
        one = layer()
        for name in ("input_width", "output_width", "depth", "trees", "path_length", "isa", "memory", "input_type",
                     "output_type"):
            with self.assertRaises(AttributeError):
                setattr(one, name, 100)
        with self.assertRaisesRegex(TypeError, "immutable"):
            one.__init__(W, W, depth=2)

    def test_repr(self):
        """Parts, widths, the instruction set: what tells layers apart."""
        self.assertEqual(repr(layer(isa="generic")), "fff.Layer(1x2, 5 -> 5, generic)")
        leaves = fff.Leaves(W[:3], None, np.ones((4, 5, 2), np.float32), None, np.ones((4, 2, 5), np.float32), None, depth=2)
        forest = fff.Layer.forest([fff.Trees(W[:6], W[:6], depth=1, trees=2), leaves], isa="generic")
        self.assertEqual(repr(forest), "fff.Layer(2x1 + 1x2 leaves of 2, 5 -> 5, generic)")
        self.assertEqual((forest.trees, forest.parts), (3, ((1, 2, 0), (2, 1, 2))))
        self.assertRaisesRegex(AttributeError, "see parts", getattr, forest, "depth")
        self.assertEqual(repr(Rebuilt(3)), f"fff.Rebuilt(3x2, 5 -> 5, {fff.cpu().chosen})")
        with fff.Threads(2) as threads:
            self.assertEqual(repr(threads), "fff.Threads(2)")
        self.assertEqual(repr(threads), "fff.Threads(2, closed)")

    def test_unfinished(self):
        """A layer that could not be made, or was never told how, does no harm."""
        with contextlib.suppress(ValueError):
            layer(trees=3)
        empty = object.__new__(fff.Layer)
        self.assertIn("not made", repr(empty))
        self.assertRaises(AttributeError, empty, W)
        del empty


class Rebuilt(fff.Layer):
    """A subclass that knows how to be pickled."""

    def __init__(self, trees):
        weights = np.ones((7 * trees, 5), np.float32)
        super().__init__(weights, weights, depth=2, trees=trees)

    def __reduce__(self):
        return Rebuilt, (self.trees,)


def of_another_process():
    layer(isa="mmx")


class Errors(unittest.TestCase):
    def test_statuses(self):
        """Status is the header's fff_status."""
        header = pathlib.Path(__file__).parents[2] / "include" / "fff" / "fff.h"
        if header.is_file():
            names = [line.split(",")[0].strip() for line in header.read_text(encoding="utf-8").splitlines()
                     if line.startswith("    FFF_ERROR_")]
            self.assertEqual([f"FFF_ERROR_{status.name}" for status in list(fff.Status)[1:]], names)
        texts = {_c.library.fff_status_text(status) for status in fff.Status}
        self.assertEqual(len(texts), len(fff.Status))
        self.assertEqual(_c.library.fff_status_text(len(fff.Status)), b"unknown status")

    def test_compatible(self):
        self.assertTrue(issubclass(fff.Error, RuntimeError))
        self.assertEqual(fff.Error(8, "x").status, 8)
        self.assertEqual(fff.Error(8, "x").status, fff.Status.OVERLAP)
        self.assertEqual(fff.Error(99, "x").status, 99)

    def test_out_of_memory(self):
        with mock.patch.object(_c.library, "fff_layer_create", lambda *_: fff.Status.OUT_OF_MEMORY):
            self.assertRaises(MemoryError, layer)

    def test_across_processes(self):
        error = fff.Error(fff.Status.SLEEF, "Layer", " more")
        for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            self.assertEqual((str(other), other.status), (str(error), error.status))
        with concurrent.futures.ProcessPoolExecutor(1) as pool:
            self.assertRaisesRegex(fff.Error, "usable here", pool.submit(of_another_process).result, 20)

    def test_instruction_sets(self):
        """A wrong name is told the right ones."""
        for name in ("avx2", "AUTO", "", "generic\0", None):
            for call in (lambda: layer(isa=name), lambda: fff.activate(W, isa=name)):
                with self.assertRaises(fff.Error) as caught:
                    call()
                self.assertEqual(caught.exception.status, fff.Status.ISA_UNKNOWN)
                for usable in ["auto", *fff.isas()]:
                    self.assertIn(usable, str(caught.exception))
        foreign = "x86_avx2" if "arm_neon" in fff.isas() else "arm_neon"
        with self.assertRaises(fff.Error) as caught:
            layer(isa=foreign)
        self.assertEqual(caught.exception.status, fff.Status.ISA_NOT_BUILT)
        with mock.patch.dict(os.environ, FFF_ISA="avx2"):
            for call in (layer, lambda: fff.activate(W)):
                self.assertRaisesRegex(fff.Error, "FFF_ISA=avx2.*generic", call)
            self.assertEqual((fff.cpu().chosen, fff.cpu().usable), (None, fff.isas()))
            self.assertEqual(layer(isa="generic").isa, "generic")

    def test_library_that_is_not_there(self):
        for file, text in (("/nonexistent/libfff.so", "FFF_LIBRARY"), ("libc.so.6", "lacks fff_version")):
            ended = subprocess.run([sys.executable, "-c", "import fff"], env={**os.environ, "FFF_LIBRARY": file},
                                   capture_output=True, text=True, timeout=60, check=False)
            self.assertIn("ImportError", ended.stderr)
            self.assertIn(text, ended.stderr)


class Command(unittest.TestCase):
    def test_arguments(self):
        with mock.patch.object(sys, "argv", ["fff", "bench", "--json"]), mock.patch.object(os, "execv") as run:
            with mock.patch.object(pathlib.Path, "is_file", lambda path: path.name == "_fff"):
                _command.main()
            program = pathlib.Path(fff.__file__).parent / "_fff"
            run.assert_called_once_with(program, ["fff", "bench", "--json"])
            with mock.patch.object(pathlib.Path, "is_file", lambda path: False):
                self.assertRaisesRegex(SystemExit, "jansson", _command.main)


class Optional(unittest.TestCase):
    def test_ml_dtypes_is_not_imported(self):
        script = "import sys, numpy as np, fff; fff.Layer(np.ones((7, 5), np.float16), np.ones((7, 5), np.float32), depth=2); " \
                 "assert 'ml_dtypes' not in sys.modules"
        ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))

    def test_store_names(self):
        self.assertEqual([_c.library.fff_weight_type_name(i).decode() for i in range(4)], list(fff.STORES))
        self.assertIsNone(_c.library.fff_weight_type_name(4))


class Sleef(unittest.TestCase):
    def test_what_is_loaded(self):
        found = fff.sleef()
        self.assertEqual(list(found.recorded), fff.isas())
        self.assertTrue(all(isinstance(same, bool) for same in found.recorded.values()))
        self.assertRegex(found.built_with, r"^\d+\.\d+")
        if found.path is not None:
            self.assertTrue(os.path.exists(found.path))

    def test_another_sleef(self):
        """With one that is off by a bit in the last place, which the C library's tests have built."""
        fake = pathlib.Path(os.environ.get("FFF_LIBRARY", "")).parent / "tests" / "libfake_sleef.so"
        if not fake.is_file():
            self.skipTest(f"no {fake}")
        script = """
import numpy as np, fff
assert not any(fff.sleef().recorded.values()) and "fake" in fff.sleef().path, fff.sleef()
W = np.ones((7, 5), np.float32)
for make in lambda **options: fff.Layer(W, W, depth=2, **options), lambda **options: fff.activate(W, **options):
    refused = []
    for name in fff.ACTIVATIONS:
        make(activation=name, sleef="any")
        try:
            make(activation=name)
        except fff.Error as error:
            assert error.status == fff.Status.SLEEF and "fake" in str(error), error
            refused.append(name)
    print(*refused)
"""
        ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False,
                               env={**os.environ, "LD_PRELOAD": f"{fake} libsleef.so.3"})
        self.assertEqual((ended.stdout, ended.stderr), ("gelu_tanh silu\n" * 2, ""))

    def test_choice(self):
        for activation in fff.ACTIVATIONS:
            expected = fff.activate(W, activation, sleef="any")
            self.assertEqual(layer(activation=activation, sleef="any")(W).shape, (7, 5))
            if all(fff.sleef().recorded.values()):
                self.assertEqual(fff.activate(W, activation, sleef="recorded").tobytes(), expected.tobytes())
                self.assertEqual(layer(activation=activation, sleef="recorded")(W).shape, (7, 5))
        for wrong in ("other", None):
            self.assertRaisesRegex(ValueError, "recorded, any", layer, sleef=wrong)
            self.assertRaisesRegex(ValueError, "recorded, any", fff.activate, W, sleef=wrong)

    def test_other_bits(self):
        """The choice reaches the library, and what it then says tells the way out."""
        def create(desc, _made):
            return fff.Status.SLEEF if desc._obj.sleef == 0 else fff.Status.NODE

        def activate(_isa, _activation, sleef, *_):
            return fff.Status.SLEEF if sleef == 0 else fff.Status.NODE

        with mock.patch.object(_c.library, "fff_layer_create", create), \
                mock.patch.object(_c.library, "fff_activate", activate), \
                mock.patch.object(_c.library, "fff_sleef_check", lambda isa: fff.Status.SLEEF):
            for call in (layer, lambda **options: fff.activate(W, **options)):
                with self.assertRaisesRegex(fff.Error, "sleef='any' accepts it") as caught:
                    call(sleef="recorded")
                self.assertEqual(caught.exception.status, fff.Status.SLEEF)
                with self.assertRaises(fff.Error) as caught:
                    call(sleef="any")
                self.assertEqual(caught.exception.status, fff.Status.NODE)
            self.assertEqual(set(fff.sleef().recorded.values()), {False})


if __name__ == "__main__":
    unittest.main()
