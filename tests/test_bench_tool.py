"""What the fff command times, and the CBLAS that it loads for that, from outside.

usage: test_bench_tool.py FFF DATA_FOLDER FAKE_BLAS BLAS_WITH_A_FUNCTION_WANTING [options of unittest]
(FFF_EXE_WRAPPER in the environment: an emulator to run it with)
"""

import json
import os
import pathlib
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

FFF, DATA = sys.argv[1], pathlib.Path(sys.argv[2])
FAKE_BLAS, PARTIAL_BLAS = (str(pathlib.Path(name).resolve()) for name in sys.argv[3:5])
WRAPPER = shlex.split(os.environ.get("FFF_EXE_WRAPPER", ""))
WRONG = os.environ.get("FFF_WRONG", "")  # a library whose fff_forward() is wrong by a bit for some batches
MODEL = str(DATA / "bert_fff_tiny")
WITH_MODELS = "built without models" not in subprocess.run(
    [*WRAPPER, FFF, "bert"], capture_output=True, text=True, check=False).stderr


def run(*arguments, **variables):
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("FFF_ISA", "FFF_BLAS", "OPENBLAS", "MKL"))}
    return subprocess.run([*WRAPPER, FFF, *arguments], env=environment | variables, capture_output=True, text=True,
                          timeout=600, check=False)


# An emulator's or a sanitizer's addresses are not to be limited.
LIMITS_MEMORY = not WRAPPER and os.environ.get("FFF_MEASURES_MEMORY") == "1"
SMALL = ["--width", "24", "--depth", "3", "--trees", "2", "--rounds", "3"]
BUSY = r"the machine is busy: .+; these figures are not to be believed"


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


def spin(seconds):
    """Programs that keep two of each CPU's shares busy; to be killed."""
    code = f"import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
    count = 2 * len(os.sched_getaffinity(0))
    return [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]


def share_of_cpu():
    """How much of a CPU this program gets if it wants it."""
    wall, own = time.monotonic(), time.process_time()
    while time.monotonic() < wall + 0.1:
        pass
    return (time.process_time() - own) / (time.monotonic() - wall)


class Bench(unittest.TestCase):
    def bench(self, *arguments, **variables):
        answer = run("bench", *arguments, **({"FFF_BLAS": FAKE_BLAS} | variables))
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)
        self.assertEqual(answer.stderr, "")  # no terminal: no progress
        return answer.stdout

    def test_text(self):
        for _ in range(3):  # of a busy machine no ratio is told
            if self.ratios_told():
                return
        self.skipTest("the machine is busy: no ratio was told")

    def ratios_told(self):
        text, ratios = self.bench(*SMALL, "--output-width", "10", "--batch", "1,8,5"), 0
        self.assertIn("2 trees of depth 3, from 24 to 10 wide: 30 neurons, 8 used by each token", text)
        self.assertIn("Every timed output was checked", text)
        self.assertEqual(re.findall(r"^batch (\d+)$", text, re.M), ["1", "8", "5"])
        for part in text.split("\nbatch ")[1:]:
            self.assertRegex(part, r"  dense, sgem[mv].* +[\d.]+ us a token\n")
            lines = re.findall(r"  fff, (\w+) +[\d.]+ us a token(.*)", part)
            self.assertEqual(lines[0][0], "generic")
            if re.search(BUSY, part):
                self.assertEqual({rest for _, rest in lines}, {""})
            else:
                for _, rest in lines:
                    self.assertRegex(rest, r"^ +[\d.]+ times (faster|as fast) \([\d.]+ to [\d.]+\)$")
                ratios += len(lines)
        return ratios

    def test_json(self):
        found = json.loads(self.bench(*SMALL, "--batch", "1,8", "--threads", "2", "--json", "--seed", "7",
                                      "--activation", "relu"))
        self.assertEqual(found["shape"], {"input_width": 24, "output_width": 24, "depth": 3, "trees": 2, "neurons": 30,
                                          "path_length": 8, "activation": "ReLU"})
        self.assertEqual((found["ok"], found["seed"], found["rounds"]), (True, 7, 3))
        self.assertEqual(found["verified"], {"tokens": 64, "ok": True})
        self.assertEqual((found["blas"]["file"], found["blas"]["version"]), (FAKE_BLAS, "OpenBLAS 0.0.0 FAKE"))
        self.assertEqual(found["busy"], any(batch["busy"] for batch in found["batches"]))
        self.assertEqual([batch["batch"] for batch in found["batches"]], [1, 8])
        for batch in found["batches"]:
            self.assertEqual(sum(side["best_dense"] for side in batch["sides"]), 1)
            self.assertEqual(sum(side["threads"] == 2 for side in batch["sides"]), 1)
            self.assertEqual(batch["busy"], batch["why_busy"] is not None)
            self.assertTrue(3 <= batch["rounds"] <= 6)
            (best,) = (side["us_per_token"] for side in batch["sides"] if side["best_dense"])
            self.assertEqual(best["median"], min(side["us_per_token"]["median"] for side in batch["sides"]
                                                 if side["kind"] == "dense" and side["us_per_token"]))
            for side in batch["sides"]:
                if side["left_out"] is None:  # threads, where there is no pthreadpool
                    times = side["us_per_token"]
                    self.assertTrue(0 < times["p10"] <= times["median"] <= times["p90"])
                if batch["busy"]:
                    self.assertIsNone(side["times_faster"])
                    self.assertIsNone(side["times_one_thread"])
                    self.assertIs(side["believed"], False)
                elif side["kind"] == "fff" and side["threads"] == 1:
                    # Ten rounds and more leave out a tenth; here the least and the most are there.
                    faster, least, most = side["times_faster"], best["p10"] / times["p90"], best["p90"] / times["p10"]
                    self.assertTrue(0.999 * least <= faster["p10"] <= faster["median"] <= faster["p90"] <= 1.001 * most)

    def wrong(self, expected, *arguments, **variables):
        answer = run("bench", *arguments, **({"FFF_BLAS": FAKE_BLAS} | variables))
        self.assertEqual((answer.returncode, answer.stderr.count("\n")), (1, 1), answer.stdout + answer.stderr)
        self.assertRegex(answer.stderr, "^fff bench: a timed result is wrong: " + expected)

    def test_wrong_dense_results(self):
        """Of the first round, which float64 checks, and of later ones, which must have the first one's bits."""
        for batch in ["1", "8"]:
            for wrong in ["far", "noise"]:
                self.wrong(f"dense, .+, batch {batch}, 1 threads$", *SMALL, "--rounds", "20", "--batch", batch, "--isa",
                           "generic", FAKE_BLAS_WRONG=wrong)

    @unittest.skipUnless(WRONG, "without a wrong library")
    def test_wrong_kernels(self):
        """Of a batch size that verifying does not try."""
        self.wrong("generic, batch 6, 1 threads$", *SMALL, "--batch", "6", "--no-dense", "--isa", "generic",
                   LD_PRELOAD=WRONG, FFF_WRONG_BATCH="6")

    @unittest.skipUnless(WRONG, "without a wrong library")
    def test_kernels_that_verifying_finds_wrong(self):
        answer = run("bench", *SMALL, "--batch", "6", "--no-dense", LD_PRELOAD=WRONG, FFF_WRONG_BATCH="7")
        self.assertEqual(answer.returncode, 1, answer.stdout + answer.stderr)
        self.assertIn("\nFAILED\n", answer.stdout)
        self.assertNotIn("us a token", answer.stdout)
        layer = str(DATA / "path_1x3_h32.safetensors")
        for paths in [[layer], [MODEL]] if WITH_MODELS else [[layer]]:
            answer = run("verify", *paths, LD_PRELOAD=WRONG, FFF_WRONG_BATCH="7")
            self.assertEqual(answer.returncode, 1, answer.stdout + answer.stderr)
            self.assertIn("  FAILED\n", answer.stdout)
            found = json.loads(run("verify", "--json", *paths, LD_PRELOAD=WRONG, FFF_WRONG_BATCH="7").stdout)
            self.assertIs(found["ok"], False)
            self.assertEqual({isa["bit_identical"] for isa in found["files"][0]["isas"]}, {False})

    def test_json_of_any_name(self):
        """A library's name may be no UTF-8, and a note that is cut ends with a whole character."""
        with tempfile.TemporaryDirectory() as folder:
            library = os.fsencode(folder) + b"/\xff.so"
            shutil.copy(FAKE_BLAS, library)
            found = json.loads(self.bench(*SMALL, "--batch", "1", "--isa", "auto", "--json", FFF_BLAS=library))
            self.assertEqual(found["blas"]["file"], folder + "/\\xff.so")
        for name in [b"/\xff/b.so", *[b"/" + b"x" * shift + "\u4e16".encode() * 90 for shift in range(3)]]:
            found = json.loads(self.bench(*SMALL, "--batch", "1", "--isa", "auto", "--json", FFF_BLAS=name))
            (note,) = found["notes"]
            self.assertIn("The dense side is left out: FFF_BLAS names no CBLAS", note)
            self.assertTrue(note.isascii() or note.endswith("\u4e16"), note)

    @unittest.skipIf(WRAPPER, "an emulator's threads")
    def test_threads_that_share_a_cpu(self):
        """What one of them waits for another is not lost."""
        allowed = os.sched_getaffinity(0)
        lost = []
        for attempt in range(16):
            cpu = sorted(allowed)[attempt % len(allowed)]
            os.sched_setaffinity(0, [cpu])
            try:
                if share_of_cpu() < 0.95:
                    continue
                answer = subprocess.run([FFF, "bench", "--width", "256", "--depth", "6", "--threads", "2", "--batch",
                                         "64", "--rounds", "3", "--seconds", "1", "--no-dense", "--isa", "auto",
                                         "--json"], capture_output=True, text=True, timeout=600, check=True)
                alone = share_of_cpu() > 0.95  # nobody else was there
            finally:
                os.sched_setaffinity(0, allowed)
            side = json.loads(answer.stdout)["batches"][0]["sides"][1]
            if side["left_out"] is not None:
                self.skipTest(side["left_out"])
            if alone:
                lost.append(side["lost"])
                if lost[-1] < 0.3:
                    break
        if len(lost) < 4 and min(lost, default=1) >= 0.3:
            self.skipTest("the machine is busy")
        self.assertLess(min(lost), 0.3)

    def test_store(self):
        text = self.bench(*SMALL, "--batch", "4", "--isa", "auto", "--store", "bf16+i8", "--exact-routes")
        self.assertIn("8 used by each token; stored: bf16+i8, exact routes.\n", text)
        self.assertRegex(text, r"exact routes: \d+ of 384 logits that decide")
        found = json.loads(self.bench(*SMALL, "--batch", "4", "--isa", "auto", "--store", "i8", "--json"))
        self.assertEqual((found["store"]["input"], found["store"]["output"], found["verified"]["ok"]), ("i8", "i8", True))
        self.assertIsNone(json.loads(self.bench(*SMALL, "--batch", "4", "--isa", "auto", "--json"))["store"])

    def test_one_instruction_set_and_nothing_dense(self):
        found = json.loads(self.bench(*SMALL, "--batch", "3", "--isa", "generic", "--no-dense", "--json",
                                      FFF_BLAS="/nonexistent"))
        self.assertIsNone(found["blas"])
        self.assertEqual([(side["kind"], side["name"]) for side in found["batches"][0]["sides"]], [("fff", "generic")])

    def test_no_blas(self):
        text = self.bench(*SMALL, "--batch", "1", FFF_BLAS="/nonexistent")
        self.assertIn("The dense side is left out: FFF_BLAS names no CBLAS", text)
        self.assertNotIn("  dense, ", text)

    def test_wrong_usage(self):
        for arguments in [["--depth", "31"], ["--width", "0"], ["--trees", "0"], ["--batch", ""], ["--batch", "1,,2"],
                          ["--batch", "0"], ["--batch", "1,x"], ["--batch", "0" * 30 + "1junk"],
                          ["--batch", "0" * 40 + "1"],
                          ["--batch", ",".join(["1"] * 33)], ["--threads", "0"], ["--isa", "mmx"],
                          ["--activation", "sine"], ["--rounds", "2"], ["--rounds", "50"], ["--seconds", "0"], ["x"],
                          ["--json=1"]]:
            answer = run("bench", *arguments)
            self.assertEqual((answer.returncode, answer.stdout, answer.stderr.count("\n")), (2, "", 1), arguments)

    def test_too_large(self):
        """Said before anything is taken."""
        for arguments in [["--depth", "30", "--trees", "9"], ["--width", str(2**62), "--depth", "0"],
                          ["--width", str(2**64 - 1)], ["--batch", str(2**64 - 1)], ["--batch", str(2**40)],
                          ["--depth", "28"], ["--trees", str(2**64 - 1), "--depth", "30"]]:
            answer = run("bench", *arguments)
            self.assertEqual((answer.returncode, answer.stdout, answer.stderr.count("\n")), (2, "", 1), arguments)
            self.assertRegex(answer.stderr, "GB of memory, and .* GB are free|more neurons than a layer may have")
        answer = json.loads(run("bench", "--depth", "30", "--json").stdout)
        self.assertIs(answer["ok"], False)
        self.assertIn("GB of memory", answer["error"])

    @unittest.skipUnless(LIMITS_MEMORY, "an emulator's or a sanitizer's memory")
    def test_little_memory(self):
        """What does not fit is left out, the dense side first."""
        def limited(megabytes, *arguments):
            limit = megabytes << 20
            return subprocess.run([FFF, "bench", "--rounds", "3", "--seconds", "1", *arguments],
                                  env=os.environ | {"FFF_BLAS": FAKE_BLAS, "FFF_ISA": ""}, capture_output=True,
                                  text=True, timeout=600, check=False,
                                  preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))

        dense = ["--depth", "12", "--batch", "2048", "--isa", "auto"]
        answer = limited(100, *dense)
        self.assertEqual((answer.returncode, answer.stdout, answer.stderr.count("\n")), (2, "", 1))
        self.assertIn("GB of memory", answer.stderr)
        seen = set()
        for megabytes in range(210, 390, 40):  # weights take 50 MB, two layers 100, one and the dense side 167
            answer = limited(megabytes, *dense)
            self.assertIn(answer.returncode, (0, 2), answer.stderr)
            self.assertNotIn("out of memory", answer.stderr)
            seen.add("refused" if answer.returncode == 2 else
                     "left out" if "The dense side is left out: it needs" in answer.stdout else "all")
        self.assertEqual(seen, {"refused", "left out", "all"})
        # Weights take 200 MB, and so does each layer: generic's, to verify with, is one of them, timed or not.
        for megabytes, status in [(520, 2), (560, 2), (760, 0)]:
            answer = limited(megabytes, "--depth", "14", "--batch", "1", "--isa", "auto", "--no-dense")
            self.assertEqual(answer.returncode, status, answer.stderr)
            self.assertNotIn("out of memory", answer.stderr)

    @unittest.skipIf(WRAPPER, "an emulator's mounts")
    @unittest.skipUnless(shutil.which("unshare"), "no unshare")
    def test_memory_of_a_container(self):
        """Files that were read fill a control group's memory; what nobody has asked for lately is free."""
        group = """
            mount -t tmpfs tmpfs /sys/fs/cgroup && grep -q ^0:: /proc/self/cgroup || exit 77
            echo 2147483648 >/sys/fs/cgroup/memory.max
            echo 2147479552 >/sys/fs/cgroup/memory.current
            printf 'anon 9\\nactive_file 100000000\\ninactive_file %s\\n' "$1" >/sys/fs/cgroup/memory.stat
            shift
            exec "$@"
        """
        if subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True, check=False).returncode != 0:
            self.skipTest("no namespaces of one's own here")
        for inactive, expected in [(2_000_000_000, 0), (20_000_000, 2), (3_000_000_000, 0)]:
            answer = subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c", group, "sh", str(inactive),
                                     FFF, "bench", *SMALL, "--batch", "1", "--no-dense", "--isa", "generic"],
                                    capture_output=True, text=True, timeout=600, check=False)
            if answer.returncode == 77:
                self.skipTest("no control groups, or mounts are not permitted here")
            self.assertEqual(answer.returncode, expected, answer.stderr)

    @unittest.skipIf(WRAPPER, "an emulator has no such kernels")
    def test_openblas_kernels(self):
        features = run("cpu").stdout
        if " avx512f" not in features or re.search(r" no-avx512(f|dq|bw|vl)\b", features):
            self.skipTest("this CPU has no AVX-512")
        for core, expected in [("Prescott", True), ("Haswell", True), ("Zen", True), ("SkylakeX", False),
                               ("Cooperlake", False), ("SapphireRapids", False), ("Zen9", False)]:
            text = self.bench(*SMALL, "--batch", "1", FAKE_BLAS_CORE=core)
            self.assertEqual(f"OpenBLAS chose its kernels for {core}, though this CPU has AVX-512" in text, expected)
            self.assertEqual("try OPENBLAS_CORETYPE=SkylakeX" in text, expected)
        text = self.bench(*SMALL, "--batch", "1", FAKE_BLAS_CORE="Nehalem", OPENBLAS_CORETYPE="NEHALEM")
        self.assertIn("OPENBLAS_CORETYPE=NEHALEM asks for them", text)

    @unittest.skipIf(WRAPPER, "an emulator's times")
    def test_busy_machine(self):
        """Others take the CPUs: said, and no ratio."""
        shape = ["--width", "256", "--depth", "8", "--batch", "64", "--rounds", "5", "--isa", "auto"]
        others = spin(300)
        try:
            found = json.loads(self.bench(*shape, "--json"))
            text = self.bench(*shape)
            model = run("bert", MODEL, "--bench", "--sequences", "64", "--rounds", "5")
        finally:
            for other in others:
                other.kill()
                other.wait()
        self.assertIs(found["busy"], True)
        self.assertIsNotNone(found["batches"][0]["why_busy"])
        self.assertEqual([side["times_faster"] for side in found["batches"][0]["sides"] if side["times_faster"]], [])
        self.assertRegex(text, BUSY)
        self.assertNotRegex(text, r"times (faster|as fast)")
        if WITH_MODELS:
            self.assertRegex(model.stdout, BUSY)

    @unittest.skipIf(WRAPPER, "an emulator's terminal")
    def test_progress(self):
        """On a terminal: one line, which is gone at the end."""
        controller, terminal = os.openpty()
        process = subprocess.Popen([FFF, "bench", *SMALL, "--batch", "1", "--json"], stdout=subprocess.PIPE,
                                   stderr=terminal, env=os.environ | {"FFF_BLAS": FAKE_BLAS, "TERM": "xterm"})
        json.loads(process.stdout.read())
        self.assertEqual(process.wait(), 0)
        process.stdout.close()
        os.close(terminal)
        shown = b""
        try:
            while piece := os.read(controller, 4096):
                shown += piece
        except OSError:  # Linux: the terminal is gone, and all is read
            pass
        os.close(controller)
        self.assertTrue(shown.startswith(b"\r\x1b[K"), shown)
        self.assertTrue(shown.endswith(b"\r\x1b[K"), shown)
        self.assertNotIn(b"\n", shown)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[5:]], verbosity=2)
