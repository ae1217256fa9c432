"""bench/report.py and bench/compare.py against a fff_bench whose every figure is known.

usage: test_report.py BENCH_FOLDER
"""

import json
import math
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import unittest
import unittest.mock

BENCH = pathlib.Path(sys.argv[1]).resolve()
sys.path.insert(0, str(BENCH))
sys.dont_write_bytecode = True
import compare  # noqa: E402  pylint: disable=wrong-import-position
from reporting import cases as by_name  # noqa: E402  pylint: disable=wrong-import-position
from reporting import conditions, page, python_peers, selection, spread, tables, trials as trying  # noqa: E402  pylint: disable=wrong-import-position

# Stands in for fff_bench: `times` holds seconds a token by repetition, by name. Like Google Benchmark with random
# interleaving, it reports repetitions in no order.
FAKE = """\
    #!{python}
    import json, re, sys
    scenario = json.load(open({scenario!r}))
    flags = dict(a[2:].split("=", 1) if "=" in a else (a[2:], "") for a in sys.argv[1:])
    names = [name + "/real_time" for name in scenario["times"]]
    listing = "benchmark_list_tests" in flags
    if not listing:
        open({scenario!r} + ".ran", "a").write(flags["benchmark_filter"] + "\\n")
    chosen = [name for name in names if re.search(flags.get("benchmark_filter", "^"), name)]
    if not chosen:
        print("no benchmark is named so", file=sys.stderr)
        sys.exit(2)
    if listing:
        print("\\n".join(chosen))
        sys.exit(0)
    runs = []
    for name in chosen:
        times = scenario["times"][name[:-len("/real_time")]]
        for repetition in reversed(range(int(flags["benchmark_repetitions"]))):
            time = times[repetition % len(times)]
            run = dict(name=name, run_type="iteration", repetition_index=repetition, real_time=time * 1e9, iterations=1,
                       time_unit="ns", s_per_token=time)
            run.update(scenario.get("counters", {{}}).get(name[:-len("/real_time")], {{}}))
            if name[:-len("/real_time")] in scenario.get("wrong", []):
                run.update(error_occurred=True, error_message="differs from float64")
            runs.append(run)
    context = dict(date="2026-01-01T00:00:00", cpu="a CPU", instruction_sets="some", compiler="cc", libfff="0", sleef="3",
                   dense_peers=scenario.get("peers", "OpenBLAS 1; MKL 2; oneDNN 3"))
    json.dump(dict(context=context, benchmarks=runs), open(flags["benchmark_out"], "w"))
    sys.exit(1 if scenario.get("wrong") else 0)
"""
REST = "/h768/b64/warm/uniform"
FFF = "layer/path_1x11/{}" + REST
HOT = "layer/path_1x11/x86_avx2/h768/b{}/hot/one_path"


class Report(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.out = os.path.join(self.folder.name, "out")

    def report(self, *arguments, python=sys.executable, **scenario):
        bench, file = (os.path.join(self.folder.name, name) for name in ("fff_bench", "scenario.json"))
        with open(file, "w", encoding="utf-8") as stream:
            json.dump(scenario, stream)
        with open(bench, "w", encoding="utf-8") as stream:
            stream.write(textwrap.dedent(FAKE).format(python=sys.executable, scenario=file))
        os.chmod(bench, 0o755)
        self.ran = file + ".ran"  # the pattern of each run, a line each
        if os.path.exists(self.ran):
            os.remove(self.ran)
        return subprocess.run([python, str(BENCH / "report.py"), "--bench", bench, "--out", self.out,
                               *arguments], capture_output=True, text=True, timeout=300, check=False)

    def patterns(self):
        with open(self.ran, encoding="utf-8") as stream:
            return stream.read().splitlines()

    def result(self, name="summary.json"):
        with open(os.path.join(self.out, name), encoding="utf-8") as stream:
            return json.load(stream) if name.endswith("json") else stream.read()

    def summary_of(self, **scenario):
        answer = self.report("--filter", "layer/", "--processes", "2", **scenario)
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)
        return self.result()

    def test_ratios_are_of_the_same_repetition(self):
        # Both drift by a factor of four: only pairs show that the ratio is always 10, or 20.
        rows = self.summary_of(times={FFF.format("x86_avx2"): [1e-6, 2e-6, 4e-6],
                                      FFF.format("generic"): [0.5e-6, 1e-6, 2e-6],
                                      "dense_4095/mkl_sgemm/h768/b64/warm": [10e-6, 20e-6, 40e-6]})
        by_isa = {row["isa"]: row for row in rows}
        self.assertEqual(set(by_isa), {"x86_avx2", "generic"})
        for isa, ratio in (("x86_avx2", 10), ("generic", 20)):
            row = by_isa[isa]
            self.assertAlmostEqual(row["speedup"], ratio)
            self.assertAlmostEqual(row["speedup_spread"][0], ratio)
            self.assertAlmostEqual(row["speedup_spread"][1], ratio)
            self.assertFalse(row["noisy"])
        self.assertAlmostEqual(by_isa["x86_avx2"]["fff_us_per_token"], 2)
        self.assertAlmostEqual(by_isa["x86_avx2"]["dense_best_us_per_token"], 20)
        for key, value in {"model": "1x11", "batch": 64, "threads": 1, "weights": "warm", "routes": "uniform",
                           "dense_best_peer": "mkl_sgemm", "width": 768, "neurons": 4095}.items():
            self.assertEqual(by_isa["x86_avx2"][key], value)

    def test_spread_and_noise(self):
        (row,) = self.summary_of(times={FFF.format("x86_avx2"): [1e-6, 1e-6, 1e-6],
                                        "dense_4095/mkl_sgemm/h768/b64/warm": [30e-6, 50e-6, 40e-6]})
        self.assertAlmostEqual(row["speedup"], 40)
        self.assertAlmostEqual(row["speedup_spread"][0], 30)
        self.assertAlmostEqual(row["speedup_spread"][1], 50)
        self.assertTrue(row["noisy"])
        self.assertIn("(noisy)", self.result("report.md"))

    def test_dense_best_is_the_fastest_of_as_many_neurons(self):
        (row,) = self.summary_of(times={FFF.format("x86_avx2"): [1e-6],
                                        "dense_4095/openblas_sgemm/h768/b64/warm": [80e-6],
                                        "dense_4095/mkl_sgemm/h768/b64/warm": [70e-6],
                                        "dense_4095/onednn_3/h768/b64/warm": [90e-6],
                                        "dense_4095/mkl_sgemm/h768/b32/warm": [1e-6],
                                        "dense_4095/mkl_sgemm/h768/b64/cold": [1e-6],
                                        "dense_3072/mkl_sgemm/h768/b64/warm": [60e-6],
                                        "dense_12/mkl_sgemm/h768/b64/warm": [0.5e-6]})
        self.assertEqual(row["dense_best_peer"], "mkl_sgemm")
        self.assertAlmostEqual(row["speedup"], 70)
        self.assertAlmostEqual(row["dense_3072_us_per_token"], 60)
        self.assertAlmostEqual(row["dense_12_us_per_token"], 0.5)

    def test_limit_is_the_larger_of_memory_and_multiply_adds(self):
        limits = {f"limit/path_1x11/{reader}" + REST: {"multiply_adds_per_token": 1e5} for reader in ("plain", "avx2")}
        for peak, limit in ((1e12, 0.6), (1e11, 1.0)):
            row, _, _ = self.summary_of(
                times={FFF.format("x86_avx2"): [2e-6], HOT.format(32): [0.7e-6], HOT.format(128): [0.1e-6], "peak_fma/x86_avx2": [1],
                       "limit/path_1x11/plain" + REST: [0.9e-6], "limit/path_1x11/avx2" + REST: [0.6e-6]},
                counters={**limits, "peak_fma/x86_avx2": {"multiply_adds/s": peak}})
            self.assertAlmostEqual(row["limit_us_per_token"], limit)
            self.assertAlmostEqual(row["percent_of_limit"], 50 * limit)
            self.assertAlmostEqual(row["reading_us_per_token"], 0.6)
            self.assertAlmostEqual(row["multiply_adds_us_per_token"], 1e5 / peak * 1e6)
            self.assertIn(f"| 64 | 2.00 | 0.60 | {1e11 / peak:.2f} | {50 * limit:.0f} | {30 + 5e12 / peak:.0f} | 0.70 | 65 |",
                          self.result("report.md"))

    def test_threads_are_compared_with_one(self):
        name = "layer_threads/path_1x11/x86_avx2" + REST + "/t{}"
        answer = self.report("--filter", "layer_threads/", times={name.format(1): [8e-6, 4e-6], name.format(2): [4e-6, 2e-6],
                                                                  name.format(4): [2e-6, 2e-6]})
        self.assertEqual(answer.returncode, 0, answer.stderr)
        rows = {row["threads"]: row for row in self.result()}
        self.assertEqual(set(rows), {2, 4})
        self.assertAlmostEqual(rows[2]["times_one_thread"], 2)
        self.assertAlmostEqual(rows[2]["times_one_thread_spread"][1], 2)
        self.assertAlmostEqual(rows[4]["times_one_thread_spread"][0], 2)
        self.assertAlmostEqual(rows[4]["times_one_thread_spread"][1], 4)
        self.assertIsNone(rows[2]["speedup"])
        self.assertIn("## Threads", self.result("report.md"))

    def test_the_authors_leaf_layer(self):
        """It is asked for in the shapes and batches that are timed, and left out with a note where it is not installed."""
        asked = []

        def answer(_bench, *options):
            asked.append(options)
            return {"torch": "1.13", "isa": "x86_avx2", "rows": [
                {"depth": 8, "leaf_width": 2, "batch": 64, "peer_us_per_token": 200.0, "fff_us_per_token": 4.0,
                 "speedup": 50.0, "speedup_spread": [49.0, 51.0]}]}

        self.addCleanup(setattr, python_peers, "run_python_peer", python_peers.run_python_peer)
        python_peers.run_python_peer = answer
        forests = {("leaf_1x8_w2", "x86_avx2"): ["forest/leaf_1x8_w2/layer/x86_avx2/h768/b64"],
                   ("leaf_1x1_w32", "x86_avx2"): ["forest/leaf_1x1_w32/layer/x86_avx2/h768/b8"]}
        peer = python_peers.run_leaf_peer(None, forests)
        self.assertEqual(asked, [("fastfeedforward_peer.py", "8,64", "8x2", "1x32")])
        self.assertIn("| leaf_1x8_w2 | 64 | 200 | 4.00 | 50.0 | 49.0 to 51.0 |", page.leaf_peer_section(peer))
        self.assertIsNone(python_peers.run_leaf_peer(None, {("32x0+4x8", "x86_avx2"): []}))
        name = "forest/leaf_1x8_w8/{}/x86_avx2/h768/b8"
        told = self.report("--filter", "^forest/", times={name.format(way): [1e-6] for way in ("layer", "path_2x7")})
        self.assertEqual(told.returncode, 0, told.stderr)
        self.assertIn("fastfeedforward, or PyTorch, was not found", told.stdout)

    def test_leaf_layers_are_compared_with_what_stands_beside(self):
        name = "forest/{}/{}/x86_avx2/h768/b{}"
        times = {name.format("leaf_1x8_w8", "layer", 8): [1e-6, 2e-6, 4e-6],
                 name.format("leaf_1x8_w8", "path_2x7", 8): [1.5e-6, 3e-6, 6e-6],
                 name.format("32x0+4x8", "apart", 64): [3e-6], name.format("32x0+4x8", "layer", 64): [2e-6],
                 name.format("32x0+4x8", "apart", 512): [2e-6]}
        answer = self.report("--filter", "^forest/", "--processes", "3", times=times)
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)
        rows = self.result()
        self.assertEqual([(row["model"], row["beside"], row["batch"]) for row in rows],
                         [("leaf_1x8_w8", "path_2x7", 8), ("32x0+4x8", "apart", 64)])
        for row in rows:
            self.assertAlmostEqual(row["times_beside"], 1.5)
            self.assertEqual(len(row["times_beside_by_process"]), 3)
            self.assertIsNone(row["speedup"])
            self.assertIs(row["noisy"], False)
        self.assertIn("| 32x0+4x8 | 64 | x86_avx2 | 2.00 | apart | 3.00 | 1.50 | 1.50 to 1.50 |", self.result("report.md"))
        answer = self.report("--filter", "^forest/", times=times, wrong=[name.format("32x0+4x8", "apart", 64)])
        self.assertEqual(answer.returncode, 1)
        names = list(times) + [name.replace("x86_avx2", "generic") for name in times]
        _, _, _, _, forests = selection.select(names, selection.default_selection(["generic", "x86_avx2"]).fullmatch, None)
        self.assertEqual(set(forests), {("leaf_1x8_w8", "x86_avx2"), ("32x0+4x8", "x86_avx2")})

    def test_stored_types_are_compared_with_float32_and_their_own(self):
        name = "layer_stored/path_1x11/{}/x86_avx2" + REST
        limit = "limit_stored/path_1x11/i8/avx2" + REST
        errors = {name.format("i8"): {"rms": 0.125, "other_routes": 0.03}, name.format("bf16+i8-exact"): {"rms": 0.01, "other_routes": 0},
                  name.format("f16"): {"rms": 0.001, "other_routes": 0}}
        answer = self.report(
            "--filter", "^layer", "--processes", "2", counters=errors,
            times={FFF.format("x86_avx2"): [2e-6, 8e-6], name.format("i8"): [1e-6, 4e-6], name.format("bf16+i8-exact"): [2e-6, 8e-6],
                   name.format("f16"): [2e-6, 8e-6], limit: [5e-7], "dense_4095/mkl_sgemm/h768/b64/warm": [60e-6, 240e-6],
                   "dense_i8_4095/onednn_3/h768/b64/warm": [20e-6, 80e-6], "dense_i8_4095/onednn_2/h768/b64/warm": [40e-6, 160e-6],
                   "dense_bf16_4095/onednn_3/h768/b64/warm": [30e-6, 120e-6]})
        self.assertEqual(answer.returncode, 0, answer.stderr)
        rows = {row.get("stored", "f32"): row for row in self.result()}
        self.assertEqual(set(rows), {"f32", "i8", "bf16+i8-exact", "f16"})
        self.assertEqual(rows["f32"]["dense_best_peer"], "mkl_sgemm")
        for kind, times_f32, speedup, own in (("i8", 2, 60, 20), ("bf16+i8-exact", 1, 30, 10), ("f16", 1, 30, None)):
            self.assertAlmostEqual(rows[kind]["times_f32"], times_f32)
            self.assertAlmostEqual(rows[kind]["speedup"], speedup)
            if own:
                self.assertAlmostEqual(rows[kind]["times_dense_own"], own)
        self.assertEqual(rows["i8"]["dense_own_peer"], "onednn_3, i8")
        self.assertIsNone(rows["f16"]["times_dense_own"])
        self.assertAlmostEqual(rows["i8"]["reading_us_per_token"], 0.5)
        self.assertIn("| i8 | 1.00 | 2.00 | 60.0 | 20.0 | onednn_3, i8 | 0.50 | 0.12 | 3 % |", self.result("report.md"))
        self.assertRegex(self.result("report.md"), r"\| f16 \| .* \| none here \|")

    def test_no_peers(self):
        answer = self.report("--filter", "layer/", times={FFF.format("x86_avx2"): [1e-6]},
                             peers="no OpenBLAS; no MKL; no oneDNN")
        self.assertEqual(answer.returncode, 0, answer.stderr)
        (row,) = self.result()
        for key in ("dense_best_us_per_token", "dense_best_peer", "speedup", "speedup_spread"):
            self.assertIsNone(row[key])
        self.assertAlmostEqual(row["fff_us_per_token"], 1)
        for said in (answer.stdout, self.result("report.md")):
            for library, package in (("OpenBLAS", "libopenblas0"), ("MKL", "mkl"), ("oneDNN", "onednn")):
                self.assertRegex(said, f"{library} was not found.* install {package}")
            self.assertIn("none found", said)

    def test_wrong_output_fails(self):
        dense = "dense_4095/mkl_sgemm/h768/b64/warm"
        answer = self.report("--filter", "layer/", times={FFF.format("x86_avx2"): [1e-6], dense: [1e-6]}, wrong=[dense])
        self.assertEqual(answer.returncode, 1)
        self.assertIn(dense, answer.stderr)
        self.assertIn("differs from float64", answer.stderr)
        self.assertEqual(os.listdir(self.out), [])

    def test_unknown_names(self):
        times = {FFF.format("x86_avx2"): [1e-6], FFF.format("generic"): [1e-6]}
        answer = self.report("--isa", "altivec", times=times)
        self.assertEqual(answer.returncode, 2)
        self.assertIn("'altivec' is not usable here; these are: generic, x86_avx2", answer.stderr)
        answer = self.report("--filter", "no_such", times=times)
        self.assertEqual(answer.returncode, 2)
        self.assertIn("no benchmark is named so", answer.stderr)
        self.assertIn("no benchmark's name has 'no_such' in it", answer.stderr)
        # For re a digit's class, for POSIX the letter d: nothing may run while it is explained.
        for arguments in (["--filter", "layer/\\d"], ["--filter", "generic", "--isa", "x86_avx2"]):
            answer = self.report(*arguments, times=times)
            self.assertEqual(answer.returncode, 2)
            self.assertFalse(os.path.exists(self.ran))
        answer = self.report("--filter", "*", times=times)
        self.assertEqual(answer.returncode, 2)
        self.assertIn("'*' is no regular expression", answer.stderr)
        answer = self.report("--filter", "layer/", "--isa", "generic", times=times)
        self.assertEqual([row["isa"] for row in self.result()], ["generic"])

    def test_arguments_that_make_no_sense(self):
        times = {FFF.format("x86_avx2"): [1e-6]}
        file = os.path.join(self.folder.name, "file")
        with open(file, "w", encoding="utf-8"):
            pass
        for arguments, said in ((["--processes", "0"], "must be positive"), (["--repetitions", "-1"], "must be positive"),
                                (["--min-time", "nan"], "must be positive"), (["--bench", "/nonexistent"], "there is no program"),
                                (["--out", file], "cannot be written to"), (["--out", file + "/out"], "cannot be written to")):
            answer = self.report(*arguments, times=times)
            self.assertEqual(answer.returncode, 2, arguments)
            self.assertRegex(answer.stderr, "^report.py: .*" + said)
            self.assertFalse(os.path.exists(self.ran))

    def test_more_names_than_an_argument_holds(self):
        names = [f"limit/path_1x11/avx2_{'x' * 60}/h768/b{batch}/warm/uniform" for batch in range(1, 2501)]
        answer = self.report("--filter", "^limit/", times={name: [1e-6] for name in names})
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertEqual([name for name in names if f"| {name} | 1000.0 |" not in self.result("report.md")], [])
        self.assertLess(max(map(len, self.patterns())), 100_000)

    def test_a_former_run_leaves_nothing(self):
        os.makedirs(self.out)
        for name in ("speedup.svg", "pytorch.json", "notes.txt"):
            with open(os.path.join(self.out, name), "w", encoding="utf-8"):
                pass
        self.summary_of(times={FFF.format("x86_avx2"): [1e-6]})
        self.assertEqual(sorted(os.listdir(self.out)), ["benchmark.json", "notes.txt", "report.md", "summary.json"])

    def test_rounds(self):
        # Each round over all before the next, so that the processes of a row are apart.
        leaves = "forest/leaf_1x{}_w8/{}/x86_avx2/h768/b8"
        answer = self.report("--filter", "^forest/", times={leaves.format(depth, way): [1e-6] for depth in (1, 8)
                                                            for way in ("layer", "path_2x7")})
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertEqual(["leaf_1x8" in pattern for pattern in self.patterns()], 3 * [False, True])

    def test_one_process_has_no_spread(self):
        times = {FFF.format("x86_avx2"): [1e-6], "dense_4095/mkl_sgemm/h768/b64/warm": [1e-4]}
        for processes, one in (("1", True), ("3", False)):
            answer = self.report("--filter", "layer/", "--processes", processes, times=times)
            self.assertEqual(answer.returncode, 0, answer.stderr)
            self.assertEqual("there is no spread" in self.result("report.md"), one)
            self.assertEqual("99 %" in self.result("report.md"), not one)

    def test_the_fastest_twin(self):
        name = "train/step_1x11/{}/x86_avx2/h768/b{}"
        answer = self.report("--filter", "^train/", times={
            name.format("layer", 128): [1e-6], name.format("dense_4095_mkl", 128): [9e-6], name.format("memory", 128): [5e-7],
            name.format("dense_4095_openblas", 128): [8e-6],
            name.format("layer", 1024): [1e-6], name.format("dense_4095_mkl", 1024): [6e-6],
            name.format("dense_4095_openblas", 1024): [7e-6]})
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertEqual([(row["batch"], row["beside"], round(row["times_beside"], 3)) for row in self.result()],
                         [(128, "dense_4095_openblas", 8), (128, "memory", 0.5), (1024, "dense_4095_mkl", 6)])

    def test_each_ratio_is_judged_by_its_own(self):
        stored = "layer_stored/path_1x11/i8/x86_avx2" + REST
        answer = self.report("--filter", "^layer", "--processes", "2", counters={stored: {"rms": 0.125, "other_routes": 0.03}},
                             times={FFF.format("x86_avx2"): [2e-6, 3e-6, 4e-6], stored: [1e-6],
                                    "dense_4095/mkl_sgemm/h768/b64/warm": [60e-6], "dense_i8_4095/onednn_3/h768/b64/warm": [20e-6]})
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertIn("| f32 | 3.00 | 1 | 20.0 (noisy) | 20.0 (noisy) |", self.result("report.md"))
        self.assertIn("| i8 | 1.00 | 3.00 (noisy) | 60.0 | 20.0 | onednn_3, i8 |", self.result("report.md"))

    def test_kernels(self):
        answer = self.report("--filter", "node_dot", times={"node_dot/f32/x86_avx2/h768/t1/L1": [4e-8, 5e-8, 6e-8]},
                             counters={"node_dot/f32/x86_avx2/h768/t1/L1": {"bytes/s": 3e9, "FLOP/s": 7e9}})
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertIn("| node_dot/f32/x86_avx2/h768/t1/L1 | 50.0 | 40.0 to 60.0 | 3.0 | 7.0 |", self.result("report.md"))
        self.assertEqual(self.result(), [])

    def python_that_draws(self):
        """One that has matplotlib: this one, or the system's."""
        for python in (sys.executable, "/usr/bin/python3"):
            if shutil.which(python) and subprocess.run([python, "-c", "import matplotlib"], capture_output=True,
                                                       check=False).returncode == 0:
                return python
        return self.skipTest("matplotlib is not installed")

    def test_pictures(self):
        python, times = self.python_that_draws(), {}
        for isa, time in (("x86_avx2", 1e-6), ("generic", 9e-6)):
            for batch in (1, 8, 64):
                times[f"layer/path_1x11/{isa}/h768/b{batch}/warm/uniform"] = [time]
                times[f"dense_4095/mkl_sgemm/h768/b{batch}/warm"] = [1e-4]
            for depth in (1, 3):
                times[f"layer/path_1x{depth}/{isa}/h768/b1/warm/uniform"] = [time]
            for model in ("3072x0", "8x8"):
                times[f"layer/path_{model}/{isa}/h768/b1/warm/uniform"] = [time]
        counters = {}
        for name in list(times):
            if name.startswith("layer/"):
                limit = name.replace("layer/", "limit/")
                times[limit], counters[limit] = [5e-7], {"multiply_adds_per_token": 1}
        for batch in (1, 8, 64):
            stored = f"layer_stored/path_1x11/i8/x86_avx2/h768/b{batch}/warm/uniform"
            times[stored], counters[stored] = [5e-7], {"rms": 0.125, "other_routes": 0.03}
        answer = self.report("--filter", "^layer", "--processes", "1", times=times, counters=counters, python=python)
        self.assertEqual(answer.returncode, 0, answer.stderr)
        for file in ("speedup.svg", "depth.svg", "trees.svg", "isas.svg", "stored.svg"):
            self.assertIn("</svg>", self.result(file))
            self.assertIn(f"({file})", self.result("report.md"))

    def test_pictures_of_an_uneven_selection(self):
        python = self.python_that_draws()
        names = [f"layer/path_{model}/x86_avx2/h768/b{batch}/warm/uniform" for model in ("1x11", "8x8", "32x6") for batch in (1, 8)]
        names += ["layer/path_1x11/generic/h768/b1/warm/uniform", "layer/path_8x8/generic/h768/b64/warm/uniform"]
        answer = self.report("--filter", "^layer", "--processes", "1", times={name: [1e-6] for name in names}, python=python)
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)
        self.assertIn("(isas.svg)", self.result("report.md"))

    def test_a_picture_that_fails(self):
        import report  # pylint: disable=import-outside-toplevel
        from reporting.results import Results  # pylint: disable=import-outside-toplevel
        plots = unittest.mock.Mock()
        plots.draw.return_value = ([("A picture", "a.svg")], ["trees: IndexError('list index out of range')"])
        with unittest.mock.patch.dict(sys.modules, plots=plots):
            pictures, notes, failed = report.draw(Results(), self.folder.name)
        self.assertEqual((pictures, failed), ([("A picture", "a.svg")], True))
        self.assertIn("trees: IndexError", notes[0])


class Selection(unittest.TestCase):
    def test_default_leaves_the_generic_set_out_of_the_long_runs(self):
        names = [f"layer/path_{model}/{isa}/h768/b1/warm/uniform" for model in ("1x11", "3072x0")
                 for isa in ("generic", "x86_avx2")] + ["node_dot/f32/generic/h768/t1/L1", "limit/path_1x11/x/y"]
        cases, _, others, _, _ = selection.select(names, selection.default_selection(["generic", "x86_avx2"]).fullmatch, None)
        self.assertEqual({by_name.model_of(case): isas for case, isas in cases.items()},
                         {"1x11": ["generic", "x86_avx2"], "3072x0": ["x86_avx2"]})
        self.assertEqual(others, ["node_dot/f32/generic/h768/t1/L1"])
        cases, _, _, _, _ = selection.select(names, selection.default_selection(["generic"]).fullmatch, None)
        self.assertEqual(len(cases), 2)

    def test_candidates_are_close_to_the_fastest(self):
        class Harness:
            runs_made = 0

            def run(self, names, _repetitions, **_labels):
                self.runs_made += 1
                return {name: [{"s_per_token": time}] for name, time in zip(names, (3.0, 1.0, 1.1, 1.05, 1.5))}

        names = [f"dense_7/way{i}/h768/b1/warm" for i in range(5)]
        harness, case = Harness(), by_name.Case(1, 2, 768, 1, "warm", "uniform")
        trials = trying.Trials(harness, names)
        self.assertEqual(trials.fastest(7, case, 3), [names[1], names[3], names[2]])
        self.assertEqual(trials.fastest(7, case, 1), [names[1]])
        self.assertEqual(harness.runs_made, 1)

    def test_large_batches_try_what_was_close_below(self):
        class Harness:
            def run(self, names, _repetitions, **_labels):
                return {name: [{"s_per_token": 1.0 + 0.2 * int(name[len("dense_7/way")])}] for name in names}

        names = [f"dense_7/way{i}/h768/b{batch}/warm" for batch in (1024, 4096) for i in range(4)]
        trials, case = trying.Trials(Harness(), names), by_name.Case(1, 2, 768, 4096, "warm", "uniform")
        trials.known[7, 768, 1, "warm"] = [(1.0, names[3].replace("1024", "1"))]  # another regime: says nothing
        self.assertEqual(trials.to_try(7, case), names[4:])
        trials.fastest(7, case._replace(batch=1024), 3)
        self.assertEqual(trials.to_try(7, case), names[4:6])
        trials.names = names + ["dense_7/way0_by1024/h768/b4096/warm", "dense_7/way3_by1024/h768/b4096/warm"]
        self.assertEqual(trials.to_try(7, case), names[4:6] + ["dense_7/way0_by1024/h768/b4096/warm"])

    def test_median_of_pairs(self):
        pairs = spread.ratios([[{"s_per_token": 4.0}, {"s_per_token": 9.0}]], [[{"s_per_token": 2.0}, {"s_per_token": 3.0}]])
        self.assertEqual([[round(pair, 9) for pair in process] for process in pairs], [[2, 3]])
        row = {}
        spread.summarize(row, "speedup", [[2.0, 4.0], [5.0]])
        self.assertEqual(row, {"speedup": 4, "speedup_spread": [2, 5], "speedup_by_process": [3, 5]})

    def test_spread_expects_another_run(self):
        def row(*medians):
            return {"speedup": 10, "speedup_spread": [9, 12], "speedup_by_process": list(medians)}

        alike = [row(10, 10, 10), row(10), {"speedup": None, "speedup_spread": None}]
        spread.allow_for_other_runs(alike, "speedup")
        self.assertEqual([r["speedup_spread"] for r in alike], [[9, 12], [9, 12], None])
        # Two equal rows: their variance, of logarithms, is 0.01; t of 2 + 4 degrees is 3.707.
        differing = [row(10 * math.exp(-0.1), 10, 10 * math.exp(0.1)) for _ in range(2)]
        spread.allow_for_other_runs(differing, "speedup")
        factor = 3.707 * math.sqrt((2 * 0.01 + 4 * 0.01 / 0.693) / 6) * math.sqrt(2 / 3)
        for r in differing:
            self.assertAlmostEqual(math.log(r["speedup_spread"][1] / 10), factor, places=6)
            self.assertAlmostEqual(math.log(10 / r["speedup_spread"][0]), factor, places=6)

    def test_what_else_runs(self):
        def seconds(text):
            with unittest.mock.patch.object(conditions, "read", lambda path: text):
                return conditions.processor_time()
        busy = 10 + 20 + 30 + 60 + 70 + 80  # all but idle, 40, and waiting for a disk, 50
        self.assertEqual(seconds("cpu  10 20 30 40 50 60 70 80 7 7\ncpu0 1 2 3 4 5 6 7 8 0 0"), busy / os.sysconf("SC_CLK_TCK"))
        for text in ("", "cpu", "cpu0 1 2 3 4 5 6 7 8 0 0"):
            self.assertIsNone(seconds(text))
        if conditions.processor_time() is not None:
            with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as process:
                try:
                    self.assertGreater(conditions.busy_processors(0.5), 0.2)
                finally:
                    process.kill()
        for share, told in ((0.0, False), (0.1, False), (1.5, True)):
            self.assertEqual(any("1.5 processors" in note for note in conditions.warnings({}, share)), told)

    def test_spread_covers_what_it_promises(self):
        # Runs of normal drift: 99 % of another run's medians lie within, give or take.
        source = random.Random(7)

        def run():
            rows = []
            for _ in range(300):
                processes = [math.exp(source.gauss(0, 0.03)) for _ in range(3)]
                rows.append({"speedup": statistics.median(processes), "speedup_by_process": processes,
                             "speedup_spread": [min(processes), max(processes)]})
            spread.allow_for_other_runs(rows, "speedup")
            return rows

        inside = sum(a["speedup_spread"][0] <= b["speedup"] <= a["speedup_spread"][1] for a, b in zip(run(), run()))
        self.assertGreater(inside, 290)
        self.assertLess(statistics.mean(r["speedup_spread"][1] for r in run()), 1.2)


class Recorded(unittest.TestCase):
    """The reports that are kept with the documentation are what this tree makes of their figures."""

    def test_tables(self):
        for machine in ("emerald-rapids", "zen3"):
            folder = BENCH.parent / "docs" / "benchmarks" / machine
            rows = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
            report = (folder / "report.md").read_text(encoding="utf-8")
            layers, stored = ([row for row in rows if kind in row] for kind in ("fff_by_blas_us_per_token", "stored"))
            beside = [row for row in rows if "beside" in row]
            training = [row for row in beside if row["model"].startswith("step_")]
            for lines in (tables.layer_table(layers), tables.stored_table(stored, layers), page.training_section(training),
                          page.forests_section([row for row in beside if row not in training]),
                          tables.threads_table([row for row in rows if "times_one_thread" in row])):
                self.assertIn("\n".join(lines), report)


class Compare(unittest.TestCase):
    def rows(self, *speedups):
        file = tempfile.NamedTemporaryFile("w", suffix=".json", delete=False)
        self.addCleanup(os.unlink, file.name)
        with file:
            json.dump([{"model": "1x11", "width": 768, "isa": "generic", "batch": batch, "threads": 1, "weights": "warm",
                        "routes": "uniform", "speedup": speedup, "speedup_spread": speedup and [0.9 * speedup, 1.1 * speedup]}
                       for batch, speedup in enumerate(speedups)], file)
        return file.name

    def compare(self, *files):
        return subprocess.run([sys.executable, str(BENCH / "compare.py"), *files], capture_output=True, text=True, check=False)

    def test_compares(self):
        answer = self.compare(self.rows(10, 20, None), self.rows(10.9, 18.1, None))
        self.assertEqual((answer.returncode, answer.stdout), (0, "2 of 2 medians lie within the first run's spread\n"))
        answer = self.compare(self.rows(10, 20), self.rows(10.9, 17))
        self.assertEqual(answer.returncode, 1)
        self.assertIn("1x11 768 generic 1 1 warm uniform: 17, before 20 (18 to 22), -15.0 %", answer.stdout)
        self.assertIn("1 of 2", answer.stdout)
        self.assertEqual(len(compare.outside(*map(compare.read_rows, (self.rows(10), self.rows(12))))), 1)

    def test_stored_types_are_told_apart(self):
        file = self.rows(10)
        with open(file, encoding="utf-8") as stream:
            (row,) = json.load(stream)
        with open(file, "w", encoding="utf-8") as stream:
            json.dump([row, dict(row, stored="i8", speedup=20, speedup_spread=[18, 22])], stream)
        self.assertEqual(len(compare.read_rows(file)), 2)
        answer = self.compare(file, file)
        self.assertEqual((answer.returncode, answer.stdout), (0, "2 of 2 medians lie within the first run's spread\n"))

    def test_rows_without_such_a_ratio(self):
        file = self.rows(10, 20)
        with open(file, encoding="utf-8") as stream:
            rows = json.load(stream)
        del rows[1]["speedup"], rows[1]["speedup_spread"]
        with open(file, "w", encoding="utf-8") as stream:
            json.dump(rows, stream)
        self.assertEqual(self.compare(file, file).stdout, "1 of 1 medians lie within the first run's spread\n")

    def test_what_cannot_be_compared(self):
        for files in ([], [self.rows(1)], [self.rows(1), "/nonexistent"], [self.rows(None), self.rows(1)]):
            self.assertEqual(self.compare(*files).returncode, 2, files)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
