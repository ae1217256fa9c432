"""The fff command from outside: exit statuses, output, JSON, damaged files.

usage: test_tool.py FFF DATA_FOLDER      (FFF_EXE_WRAPPER in the environment: an emulator to run it with)
"""

import json
import os
import pathlib
import shlex
import struct
import subprocess
import sys
import tempfile
import unittest

FFF, DATA = sys.argv[1], pathlib.Path(sys.argv[2])
WRAPPER = shlex.split(os.environ.get("FFF_EXE_WRAPPER", ""))
GOLDEN = sorted(str(path) for path in DATA.glob("path_*.safetensors"))
ISAS = ["generic", "x86_avx2", "x86_avx512", "arm_neon"]


def run(*arguments, isa=""):
    environment = dict(os.environ, FFF_ISA=isa)
    return subprocess.run(
        [*WRAPPER, FFF, *arguments], env=environment, capture_output=True, text=True, timeout=600, check=False
    )


def read_safetensors(path):
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])


def write_safetensors(path, header, data):
    text = json.dumps(header).encode()
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


class Cpu(unittest.TestCase):
    def test_says_what_is_usable_and_chosen(self):
        answer = run("cpu")
        self.assertEqual(answer.returncode, 0, answer.stderr)
        for isa in ISAS:
            self.assertIn(isa, answer.stdout)
        self.assertRegex(answer.stdout, r"generic +built, usable")
        self.assertRegex(answer.stdout, r"chosen: (generic|x86_avx2|x86_avx512|arm_neon), the best usable one")
        self.assertIn("SLEEF", answer.stdout)

    def test_environment_chooses(self):
        self.assertIn("chosen: generic, because FFF_ISA names it", run("cpu", isa="generic").stdout)
        answer = run("cpu", isa="altivec")
        self.assertEqual(answer.returncode, 1)
        self.assertIn("no instruction set has that name", answer.stdout)


class Usage(unittest.TestCase):
    def test_wrong_usage(self):
        for arguments in [[], ["fly"], ["cpu", "x"], ["demo", "x"], ["verify"], ["verify", "--json"],
                          ["verify", "--isa"], ["verify", "--fast", GOLDEN[0]],
                          ["verify", "--isa", "mmx", GOLDEN[0]]]:
            answer = run(*arguments)
            self.assertEqual(answer.returncode, 2, arguments)
            self.assertTrue(answer.stderr, arguments)
            self.assertFalse(answer.stdout, arguments)

    def test_help_and_version(self):
        self.assertEqual(run("--help").returncode, 0)
        self.assertRegex(run("--version").stdout, r"^fff \d+\.\d+\.\d+ \(SLEEF ")


class Verify(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.copy = str(pathlib.Path(folder.name) / "copy.safetensors")

    def test_golden_files(self):
        self.assertEqual(len(GOLDEN), 5)
        answer = run("verify", *GOLDEN)
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)
        self.assertEqual(answer.stdout.count("ok: the same bits everywhere"), 5)

    def test_json(self):
        answer = run("verify", "--json", *GOLDEN)
        self.assertEqual(answer.returncode, 0)
        found = json.loads(answer.stdout)
        self.assertEqual(set(found), {"files", "ok"})
        self.assertIs(found["ok"], True)
        self.assertEqual([file["path"] for file in found["files"]], GOLDEN)
        for file in found["files"]:
            self.assertIs(file["ok"], True)
            self.assertEqual(file["isas"][0]["name"], "generic")
            for isa in file["isas"]:
                self.assertIn(isa["name"], ISAS)
                self.assertIs(isa["bit_identical"], True)
                self.assertTrue(0 < isa["max_abs_error"] < 1e-5)
                self.assertTrue(0 < isa["bound_used"] < 1)
                self.assertEqual((isa["route_mismatches"], isa["ties"]), (0, 0))

    def test_one_instruction_set(self):
        found = json.loads(run("verify", "--isa", "generic", "--json", GOLDEN[0]).stdout)
        self.assertEqual([isa["name"] for isa in found["files"][0]["isas"]], ["generic"])
        self.assertEqual(run("verify", "--isa", "auto", GOLDEN[0]).returncode, 0)

    def test_wrong_output_in_the_file(self):
        header, data = read_safetensors(GOLDEN[0])
        begin, _ = header["output"]["data_offsets"]
        (value,) = struct.unpack_from("<f", data, begin)
        struct.pack_into("<f", data, begin, value + 1e-4)
        write_safetensors(self.copy, header, data)
        answer = run("verify", self.copy)
        self.assertEqual(answer.returncode, 1, answer.stdout)
        self.assertIn("FAILED", answer.stdout)
        self.assertIn("1 differ", answer.stdout)
        found = json.loads(run("verify", "--json", self.copy, GOLDEN[0]).stdout)
        self.assertEqual([file["ok"] for file in found["files"]], [False, True])
        self.assertIs(found["ok"], False)

    def test_wrong_path_in_the_file(self):
        header, data = read_safetensors(GOLDEN[0])
        begin, end = header["path"]["data_offsets"]
        leaf = struct.unpack_from("<i", data, end - 4)[0]
        sibling = leaf + 1 if leaf % 2 else leaf - 1
        for node in [sibling, -1, 2**31 - 1]:
            struct.pack_into("<i", data, end - 4, node)
            write_safetensors(self.copy, header, data)
            answer = run("verify", self.copy)
            self.assertEqual(answer.returncode, 1, answer.stdout)
            self.assertIn("differ", answer.stdout)

    def test_not_a_number(self):
        header, data = read_safetensors(GOLDEN[0])
        begin, _ = header["input"]["data_offsets"]
        struct.pack_into("<f", data, begin, float("nan"))
        write_safetensors(self.copy, header, data)
        answer = run("verify", self.copy)
        self.assertEqual(answer.returncode, 1)
        self.assertIn("1 tokens have a NaN", answer.stdout)
        found = json.loads(run("verify", "--json", self.copy).stdout)
        self.assertIs(found["files"][0]["isas"][0]["bit_identical"], True)

    def test_file_without_results(self):
        header, data = read_safetensors(GOLDEN[0])
        end = header["linear_out.weight"]["data_offsets"][1]
        kept = {name: value for name, value in header.items() if name.startswith(("linear", "__"))}
        write_safetensors(self.copy, kept, data[:end])
        answer = run("verify", self.copy)
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)
        self.assertIn("64 tokens\n", answer.stdout)

    def test_empty_batch(self):
        header, data = read_safetensors(GOLDEN[0])
        end = header["linear_out.weight"]["data_offsets"][1]
        kept = {name: value for name, value in header.items() if name.startswith(("linear", "__"))}
        kept["input"] = {"dtype": "F32", "shape": [0, 32], "data_offsets": [end, end]}
        write_safetensors(self.copy, kept, data[:end])
        self.assertEqual(run("verify", self.copy).returncode, 0)

    def test_damaged_files(self):
        original = pathlib.Path(GOLDEN[0]).read_bytes()
        damaged = {
            "empty": b"",
            "cut in the length": original[:7],
            "cut in the header": original[:200],
            "cut in the data": original[:-1],
            "text": b"hello, world: this is no safetensors file",
        }
        for name, data in damaged.items():
            pathlib.Path(self.copy).write_bytes(data)
            answer = run("verify", self.copy)
            self.assertEqual(answer.returncode, 2, name)
            self.assertEqual(answer.stderr.count("\n"), 1, name)
            self.assertIn(self.copy, answer.stderr)
            self.assertEqual(answer.stdout, "", name)
            answer = run("verify", "--json", self.copy, GOLDEN[1])
            self.assertEqual(answer.returncode, 2, name)
            found = json.loads(answer.stdout)
            self.assertIs(found["ok"], False)
            self.assertEqual([file["ok"] for file in found["files"]], [False, True])
            self.assertIn(self.copy, found["files"][0]["error"])
        answer = run("verify", "/nonexistent")
        self.assertEqual((answer.returncode, answer.stderr.count("\n")), (2, 1))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
