"""What the fff command times, and the CBLAS that it loads for that, from outside.

usage: test_bench_tool.py FFF DATA_FOLDER FAKE_BLAS BLAS_WITH_A_FUNCTION_WANTING
(FFF_EXE_WRAPPER in the environment: an emulator to run it with)
"""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

FFF, DATA = sys.argv[1], pathlib.Path(sys.argv[2])
FAKE_BLAS, PARTIAL_BLAS = (str(pathlib.Path(name).resolve()) for name in sys.argv[3:5])
WRAPPER = shlex.split(os.environ.get("FFF_EXE_WRAPPER", ""))
MODEL = str(DATA / "bert_fff_tiny")
WITH_MODELS = "built without models" not in subprocess.run(
    [*WRAPPER, FFF, "bert"], capture_output=True, text=True, check=False).stderr


def run(*arguments, **variables):
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("FFF_ISA", "FFF_BLAS", "OPENBLAS", "MKL"))}
    return subprocess.run([*WRAPPER, FFF, *arguments], env=environment | variables, capture_output=True, text=True,
                          timeout=600, check=False)


class Blas(unittest.TestCase):
    """It is loaded when wanted, and only then."""

    @unittest.skipUnless(shutil.which("readelf"), "no readelf")
    def test_is_not_linked(self):
        needed = [line for line in subprocess.run(["readelf", "-d", FFF], capture_output=True, text=True, check=True)
                  .stdout.splitlines() if "NEEDED" in line]
        self.assertTrue(needed)
        self.assertFalse([line for line in needed if "blas" in line.lower()])

    def test_what_computes_nothing_needs_none(self):
        for arguments in [["cpu"], ["--version"], ["verify", *sorted(map(str, DATA.glob("path_*.safetensors")))]]:
            answer = run(*arguments, FFF_BLAS="/nonexistent/libblas.so")
            self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)

    @unittest.skipUnless(WITH_MODELS, "built without models")
    def test_what_is_wrong_with_a_library(self):
        with tempfile.TemporaryDirectory() as folder:
            fifo, text = os.path.join(folder, "fifo"), os.path.join(folder, "text")
            os.mkfifo(fifo)
            pathlib.Path(text).write_text("no library\n", encoding="ascii")
            for library, expected in [("/nonexistent/libblas.so", "/nonexistent/libblas.so: "), (fifo, "not a file"),
                                      (folder, "not a file"), (text, "text: "), ("libnosuch.so", "libnosuch.so: "),
                                      ("libm.so.6", "libm.so.6 has no function cblas_sgemm"),
                                      (PARTIAL_BLAS, f"{PARTIAL_BLAS} has no function cblas_sgemv")]:
                for command in [["verify", MODEL], ["bert", MODEL, "--bench"]]:
                    answer = run(*command, FFF_BLAS=library)
                    self.assertEqual((answer.returncode, answer.stderr.count("\n")), (2, 1), answer.stderr)
                    self.assertIn("FFF_BLAS names no CBLAS that can be used: ", answer.stderr)
                    self.assertIn(expected, answer.stderr)
        answer = run("verify", MODEL, FFF_BLAS=FAKE_BLAS, FAKE_BLAS_CONFIG="OpenBLAS 0.0.0 USE64BITINT")
        self.assertEqual(answer.returncode, 2)
        self.assertIn("64-bit integers", answer.stderr)

    @unittest.skipUnless(WITH_MODELS, "built without models")
    def test_another_library(self):
        answer = run("verify", MODEL, FFF_BLAS=FAKE_BLAS)
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)
        self.assertEqual(run("verify", MODEL, FFF_BLAS="").returncode, 0)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
