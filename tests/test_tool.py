"""The fff command from outside: exit statuses, output, JSON, damaged files.

usage: test_tool.py FFF DATA_FOLDER      (FFF_EXE_WRAPPER in the environment: an emulator to run it with)
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

FFF, DATA = sys.argv[1], pathlib.Path(sys.argv[2])
WRAPPER = shlex.split(os.environ.get("FFF_EXE_WRAPPER", ""))
MODELS = sorted(str(path) for path in DATA.glob("bert_*"))
MINILM = os.environ.get("FFF_MINILM", "")
WITH_MODELS = "built without models" not in subprocess.run(
    [*WRAPPER, FFF, "bert"], capture_output=True, text=True, check=False).stderr
# A run under an emulator or a sanitizer measures their memory.
MEASURES_MEMORY = not WRAPPER and os.environ.get("FFF_MEASURES_MEMORY") == "1"
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
                          ["verify", "--isa", "mmx", GOLDEN[0]], ["verify", "--text", "x", GOLDEN[0]],
                          ["verify", "--layer-tokens", "x", GOLDEN[0]], ["make-checkpoint"],
                          ["make-checkpoint", "--layers", "x", "y"], ["make-checkpoint", "--layers"],
                          ["bert"], ["bert", "--bench", "--text", "x", "y"], ["bert", "x"]]:
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

    def test_names_that_are_no_utf8(self):
        name = os.fsencode(pathlib.Path(self.copy).parent) + b"/\xff\xc2\x9b.safetensors"
        shutil.copy(os.fsencode(GOLDEN[0]), name)
        found = json.loads(run("verify", "--json", name, name + b"x").stdout)["files"]
        for file, end in zip(found, ["", "x"], strict=True):
            self.assertTrue(file["path"].endswith("/\\xff\\u009b.safetensors" + end), file["path"])
        self.assertIn("\\xff\\u009b", found[1]["error"])

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


@unittest.skipUnless(WITH_MODELS, "built without models")
class Models(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def make(self, *arguments):
        name = str(self.folder / "made")
        answer = run("make-checkpoint", name, *arguments)
        self.assertEqual(answer.returncode, 0, answer.stderr)
        return name

    def test_golden_models(self):
        self.assertEqual(len(MODELS), 3)
        answer = run("verify", *MODELS, GOLDEN[0])
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)
        self.assertEqual(answer.stdout.count("ok: the same bits everywhere, every layer within the proven bound"), 3)
        self.assertEqual(answer.stdout.count("ok: the same bits everywhere, all within"), 1)

    def test_json(self):
        found = json.loads(run("verify", "--json", *MODELS).stdout)
        self.assertIs(found["ok"], True)
        for path, model in zip(MODELS, found["files"]):
            self.assertEqual(model["path"], path)
            self.assertIs(model["ok"], True)
            self.assertEqual(len(model["layers"]), 2)
            names = [isa["name"] for isa in model["isas"]]
            self.assertEqual([run["name"] for run in model["end_to_end"]], names + ["masked"])
            for isas in [model["isas"]] + [layer["isas"] for layer in model["layers"]]:
                self.assertEqual([isa["name"] for isa in isas], names)
                for isa in isas:
                    self.assertIs(isa["bit_identical"], True)
                    self.assertTrue(0 < isa["max_abs_error"] < 1e-5)
                    self.assertTrue(0 < isa["bound_used"] < 1)
                    self.assertEqual((isa["route_mismatches"], isa["ties"]), (0, 0))
            for way in model["end_to_end"]:
                self.assertEqual((way["top1"], way["top5"]), (way["predictions"],) * 2)
                for error in [way["hidden_error"], way["logits_error"], way["file"]["hidden"], way["file"]["logits"]]:
                    self.assertTrue(0 < error < 2e-5)

    def copy(self, model=2):
        name = self.folder / "copy"
        shutil.copytree(MODELS[model], name)
        return name

    def test_wrong_results_in_the_file(self):
        for tensor in ["hidden", "logits"]:
            copy = self.copy()
            header, data = read_safetensors(copy / "expected.safetensors")
            begin, _ = header[tensor]["data_offsets"]
            (value,) = struct.unpack_from("<f", data, begin)
            struct.pack_into("<f", data, begin, value + 1e-3)
            write_safetensors(copy / "expected.safetensors", header, data)
            answer = run("verify", str(copy))
            self.assertEqual(answer.returncode, 1, answer.stdout)
            self.assertIn("FAILED", answer.stdout)
            shutil.rmtree(copy)

    def test_results_of_another_shape(self):
        copy = self.copy()
        shutil.copy(pathlib.Path(MODELS[0]) / "expected.safetensors", copy / "expected.safetensors")
        header, data = read_safetensors(copy / "expected.safetensors")
        header["hidden"]["shape"] = [int(header["hidden"]["data_offsets"][1] - header["hidden"]["data_offsets"][0]) // 4]
        header["input_ids"]["shape"].reverse()
        write_safetensors(copy / "expected.safetensors", header, data)
        answer = run("verify", str(copy))
        self.assertEqual((answer.returncode, answer.stderr.count("\n")), (2, 1), answer.stdout)

    def test_ids(self):
        ids = self.folder / "ids.txt"
        ids.write_text("1 2 3 4 5\n\n7\n" + " ".join(["9"] * 128) + "\n")
        answer = run("verify", MODELS[2], "--ids", str(ids), "--layer-tokens", "40")
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)
        self.assertIn("134 tokens in 3 sequences", answer.stdout)
        self.assertIn("(40 tokens)", answer.stdout)
        for text, expected in [("1 2 x\n", "line 1: 'x"), ("1\n-3\n", "line 2"), ("99999999999\n", "is no id"),
                               ("", "holds no sequence"), ("299 300\n", "id 300 is outside the vocabulary of 300"),
                               (" ".join(["9"] * 129), "line 1 has more than the model's 128 ids"),
                               ("1 2\n3 4\0 5\n", "line 2 holds a 0 byte"), ("\0\n", "line 1 holds a 0 byte"),
                               ("1\u009b31m\n", "'1\\u009b31m' is no id"),  # a terminal obeys U+009B
                               ("1" + "\u4e16" * 20, "'1" + "\u4e16" * 6 + "' is no id")]:  # characters stay whole
            ids.write_text(text)
            answer = run("verify", MODELS[2], "--ids", str(ids))
            self.assertEqual((answer.returncode, answer.stderr.count("\n")), (2, 1), text)
            self.assertIn(expected, answer.stderr)
        answer = run("verify", MODELS[2], "--text", str(ids))
        self.assertEqual(answer.returncode, 2)
        self.assertIn("neither tokenizer.json nor vocab.txt", answer.stderr)

    def test_texts_and_tokenizers(self):
        copy, text = self.copy(), self.folder / "text.txt"
        text.write_text("The Cat\nthe cat aaa\n")
        (copy / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nThe\nCat\nthe\ncat\n")
        (copy / "tokenizer_config.json").write_text('{"do_lower_case": false, "never_split": ["a"]}')
        replace = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 100}
        blown_up = {"model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {"[UNK]": 0}},
                    "normalizer": {"type": "Sequence", "normalizers": [replace] * 6}}
        for name, content, expected in [
            ("tokenizer_config.json", '{"never_split": ["a"]}', "'never_split' is [\"a\"]"),
            ("tokenizer_config.json", '{"do_lower_case": false}', None),
            ("tokenizer.json", json.dumps(blown_up), "line 1: tokenizer: a text of 7 characters becomes longer than"),
        ]:
            (copy / name).write_text(content)
            answer = run("verify", str(copy), "--text", str(text))
            self.assertEqual(answer.returncode, 2 if expected else 0, answer.stdout + answer.stderr)
            self.assertIn(expected or "", answer.stderr)
            self.assertEqual(answer.stderr.count("\n"), 1 if expected else 0)
        answer = run("bert", str(copy), "--text", "a")
        self.assertEqual((answer.returncode, answer.stderr.count("\n")), (2, 1))
        self.assertIn("a text of 1 characters becomes longer than the 1088 that it may have", answer.stderr)

    def test_damaged_models(self):
        copy = self.copy()
        whole = (copy / "model.safetensors").read_bytes()
        for data in [b"", whole[:100], whole[:-1], whole + b"x"]:
            (copy / "model.safetensors").write_bytes(data)
            answer = run("verify", str(copy))
            self.assertEqual((answer.returncode, answer.stdout, answer.stderr.count("\n")), (2, "", 1))
            found = json.loads(run("verify", "--json", str(copy), MODELS[0]).stdout)
            self.assertEqual([file["ok"] for file in found["files"]], [False, True])
        (copy / "model.safetensors").write_bytes(whole)
        (copy / "expected.safetensors").write_bytes(b"12345678")
        self.assertEqual(run("verify", str(copy)).returncode, 2)
        (copy / "expected.safetensors").unlink()
        self.assertIn("(seeded ids)", run("verify", str(copy)).stdout)

    def rewritten(self, change):
        """A copy of the model whose tensors, a dict from names to (dtype, shape, bytes), `change` has gone over."""
        copy = self.copy()
        header, data = read_safetensors(copy / "model.safetensors")
        tensors = {}
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                tensors[name] = (entry["dtype"], entry["shape"], bytes(data[begin:end]))
        tensors, header, data = change(tensors), {}, b""
        for name, (dtype, shape, content) in tensors.items():
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
            data += content
        write_safetensors(copy / "model.safetensors", header, data)
        return copy

    def test_prefixes_and_decoder(self):
        def prefixed(tensors):
            embedding = tensors["encoder.embedding.word_embedding.weight"]
            return {"_orig_mod.module." + name: value for name, value in tensors.items()} | {"decoder.weight": embedding}

        def without_decoder(tensors):
            tensors.pop("decoder.weight", None)
            return tensors

        for change in [prefixed, without_decoder]:
            copy = self.rewritten(change)
            answer = run("verify", str(copy))
            self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)
            shutil.rmtree(copy)

    def test_narrow_weights(self):
        """BF16: the same model with shorter weights; the kernels and the dense definition still agree."""
        def narrow(tensors):
            return {name: ("BF16", shape, b"".join(content[i + 2 : i + 4] for i in range(0, len(content), 4)))
                    for name, (_, shape, content) in tensors.items()}

        copy = self.rewritten(narrow)
        answer = run("verify", str(copy))
        self.assertEqual(answer.returncode, 1, answer.stdout + answer.stderr)  # far from the file's results
        (copy / "expected.safetensors").unlink()
        answer = run("verify", str(copy))
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)

    def test_not_a_number(self):
        def spoil(tensors):
            dtype, shape, content = tensors["encoder.layers.0.norm1.weight"]
            tensors["encoder.layers.0.norm1.weight"] = (dtype, shape, struct.pack("<f", float("nan")) + content[4:])
            return tensors

        answer = run("verify", str(self.rewritten(spoil)))
        self.assertEqual(answer.returncode, 1, answer.stdout + answer.stderr)
        self.assertIn("nothing can be proven", answer.stdout)

    def test_ties(self):
        """Logits that cancel but for rounding, in the three upper levels: float32 and float64 go apart. In each layer these are ties,
        and nothing is wrong; end to end, sequences part."""
        def cancel(tensors):
            for layer in ["encoder.layers.0.", "encoder.layers.1."]:
                _, (width,), content = tensors[layer + "norm2.bias"]
                x = struct.unpack(f"<{width}f", content)
                tensors[layer + "norm2.weight"] = ("F32", [width], bytes(len(content)))  # the layer's input is x
                dtype, (rows, _), content = tensors[layer + "ffn.linear_in.weight"]
                weights = struct.unpack(f"<{rows * width}f", content)
                biases = [-sum(a * b for a, b in zip(x, weights[row * width : (row + 1) * width])) if row < 7 else 0.0
                          for row in range(rows)]
                tensors[layer + "ffn.linear_in.bias"] = (dtype, [rows], struct.pack(f"<{rows}f", *biases))
            return tensors

        copy = self.rewritten(cancel)
        (copy / "expected.safetensors").unlink()
        answer = run("verify", "--json", str(copy))
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)
        model = json.loads(answer.stdout)["files"][0]
        isa, way = model["isas"][0], model["end_to_end"][0]
        self.assertGreater(isa["ties"], 0)
        self.assertTrue(0 < isa["largest_tie"] < 1e-6)
        self.assertEqual(isa["route_mismatches"], 0)
        self.assertEqual(way["sequences_apart"], model["sequences"])
        self.assertTrue(0 <= way["largest_flip"] < 1e-6)
        self.assertGreater(sum(layer["tokens_apart"] for layer in way["layers"]), 0)
        self.assertGreater(way["hidden_error"], 1e-4)

    def test_make_checkpoint(self):
        sizes = ["--layers", "2", "--hidden", "32", "--heads", "4", "--vocab", "50", "--max-length", "16"]
        name = self.make(*sizes, "--depth", "3", "--trees", "2", "--untied")
        answer = run("verify", name)
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)
        self.assertIn("2 layers, 32 wide, feedforward 2x3 (30 neurons); 60 tokens in 4 sequences", answer.stdout)
        before = (pathlib.Path(name) / "model.safetensors").read_bytes()
        answer = run("make-checkpoint", name, *sizes)
        self.assertEqual(answer.returncode, 2)
        self.assertIn("nothing is overwritten", answer.stderr)
        self.assertEqual((pathlib.Path(name) / "model.safetensors").read_bytes(), before)
        self.assertEqual(sorted(os.listdir(name)), ["config.json", "model.safetensors"])
        for more in [["--dense", "20"], ["--labels", "3"], ["--depth", "0", "--trees", "7"], ["--seed", "5"]]:
            shutil.rmtree(name)
            self.make(*sizes, "--depth", "3", *more)
            answer = run("verify", name)
            self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)
        shutil.rmtree(name)
        self.make(*sizes, "--depth", "3", "--trees", "2", "--untied")  # a seed makes the same file
        self.assertEqual((pathlib.Path(name) / "model.safetensors").read_bytes(), before)
        for wrong in [["--depth", "31"], ["--layers", "0"], ["--heads", "3"], ["--hidden", "99999999999"],
                      ["--trees", "4294967295"]]:
            answer = run("make-checkpoint", str(self.folder / "no"), "--hidden", "32", "--heads", "4", *wrong)
            self.assertEqual((answer.returncode, answer.stderr.count("\n")), (2, 1), wrong)
        self.assertFalse((self.folder / "no").exists())

    def test_bench(self):
        name = self.make("--layers", "2", "--hidden", "32", "--heads", "4", "--vocab", "50", "--max-length", "16",
                         "--depth", "8")
        answer = run("bert", name, "--bench", "--sequences", "3", "--rounds", "2")
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)
        self.assertIn("1 x 16 tokens, 2 rounds", answer.stdout)
        self.assertIn("3 x 16 tokens, 2 rounds", answer.stdout)
        self.assertEqual(len(re.findall(r"dense, 511 neurons: the encoder is \d", answer.stdout)), 2)
        self.assertEqual(len(re.findall(r"dense, 128 neurons: the encoder is \d", answer.stdout)), 2)
        self.assertIn("3 of 3 sequences agree", answer.stdout)
        for wrong in [["--length", "17"], ["--rounds", "0"], ["--sequences", "0"], ["--sequences", "999999999999"],
                      ["--isa", "mmx"]]:
            answer = run("bert", name, "--bench", *wrong)
            self.assertEqual((answer.returncode, answer.stderr.count("\n")), (2, 1), wrong)

    def test_masked_words(self):
        name = self.make("--layers", "2", "--hidden", "32", "--heads", "4", "--vocab", "8", "--max-length", "16",
                         "--depth", "3")
        (pathlib.Path(name) / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\nworld\n!\n")
        answers = [run("bert", name, "--text", text, "--feedforward", way)
                   for text in ["Hello [MASK]!", "Hello <mask>!"] for way in ["stored", "trees", "masked"]]
        for answer in answers:
            self.assertEqual(answer.returncode, 0, answer.stderr)
            self.assertTrue(answer.stdout.startswith("token 2:\n"))
            self.assertEqual(len(answer.stdout.splitlines()), 6)
            words = [line.split()[0] for line in answer.stdout.splitlines()[1:]]
            self.assertEqual(words, [line.split()[0] for line in answers[0].stdout.splitlines()[1:]])
        probabilities = [float(p) for p in re.findall(r"probability ([\d.]+)", answers[0].stdout)]
        self.assertEqual(sorted(probabilities, reverse=True), probabilities)
        self.assertTrue(0.5 < sum(probabilities) <= 1.0001)
        answer = run("bert", name, "--text", "hello")
        self.assertEqual(answer.returncode, 2)
        self.assertIn("nothing is masked", answer.stderr)

    @unittest.skipUnless(MEASURES_MEMORY, "an emulator's or a sanitizer's memory")
    def test_memory(self):
        """Opened and run by the kernels, a model needs at most 1.3 times its file: weights are mapped, and the pages
        of those that are packed are given back."""
        name = self.make("--layers", "8")
        answer = run("bert", name, "--bench", "--sequences", "1", "--rounds", "1")
        peak = float(re.search(r"the peak is \d+ MB, ([\d.]+) of the file", answer.stdout).group(1))
        self.assertLessEqual(peak, 1.3)

    @unittest.skipIf(WRAPPER, "takes too long in an emulator")
    @unittest.skipUnless(pathlib.Path(MINILM, "model.safetensors").is_file(), "scripts/fetch_minilm.sh fetches it")
    def test_minilm(self):
        text = self.folder / "text"
        text.write_text("The quick brown fox jumps over the lazy dog.\nÀ la carte!\n", encoding="utf-8")
        answer = run("verify", MINILM, "--text", str(text), "--layer-tokens", "12")
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)
        self.assertIn("feedforward 1536x0 (1536 neurons, dense)", answer.stdout)
        vectors = []
        for sentence in ["A man is eating food.", "A man eats something.", "The stock market fell on Monday."]:
            answer = run("bert", MINILM, "--text", sentence)
            self.assertEqual(answer.returncode, 0, answer.stderr)
            vectors.append([float(value) for value in answer.stdout.split()])
            self.assertEqual(len(vectors[-1]), 384)
        cosine = lambda a, b: sum(x * y for x, y in zip(a, b)) / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5
        self.assertGreater(cosine(vectors[0], vectors[1]), 0.6)
        self.assertLess(cosine(vectors[0], vectors[2]), 0.3)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
