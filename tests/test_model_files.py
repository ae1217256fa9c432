"""The fff command on files as they are found: models under other names, in shards, with poolings; and what is no model.

usage: test_model_files.py FFF DATA_FOLDER [options of unittest]      (FFF_EXE_WRAPPER in the environment: an emulator to run it with)
"""

import gzip
import io
import json
import os
import pathlib
import pickle
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import zipfile

from test_tool import DATA, FFF, GOLDEN, MEASURES_MEMORY, WITH_MODELS, read_safetensors, run, write_safetensors

MASKED_LM = DATA / "bert_mlm_tiny"
TEXT = "the cat sat on the mat ."
POOLING = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True,
           "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False}
MODULES = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
           {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
           {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]


def read_tensors(path):
    header, data = read_safetensors(path)
    return {name: (entry["dtype"], entry["shape"], bytes(data[slice(*entry["data_offsets"])]))
            for name, entry in header.items() if name != "__metadata__"}


def write_tensors(path, tensors):
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    write_safetensors(path, header, data)


def write_sparse(path, tensors, metadata=None):
    """Tensors of zeros, of any size: a hole in the file. A depth is I64, all others are F32."""
    header, end = {"__metadata__": metadata or {}}, 0
    for name, shape in tensors.items():
        dtype, size = ("I64", 8) if name.endswith("depth") else ("F32", 4)
        for n in shape:
            size *= n
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def run_limited(megabytes, *arguments, seconds=60):
    """With so much address space and time: whoever wants more fails."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    environment = dict(os.environ, FFF_ISA="", OPENBLAS_NUM_THREADS="1")
    return subprocess.run([FFF, *arguments], env=environment, capture_output=True, text=True, timeout=seconds,
                          check=False, preexec_fn=limit)


class Files(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def refused(self, answer, *parts):
        self.assertEqual((answer.returncode, answer.stdout, answer.stderr.count("\n")), (2, "", 1), answer.stderr)
        for part in parts:
            self.assertIn(str(part), answer.stderr)

    def copy(self, model=MASKED_LM, name="copy"):
        copy = self.folder / name
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(model, copy)
        return copy

    def embedding(self, model, text=TEXT):
        answer = run("bert", str(model), "--text", text)
        self.assertEqual(answer.returncode, 0, answer.stderr)
        return [float(value) for value in answer.stdout.split()]


def torch_zip(name):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, b"\x80\x02}q\x00.")
    return content.getvalue()


KINDS = {
    "a GGUF model": b"GGUF\3\0\0\0" + bytes(64),
    "a PyTorch file (a zip archive": torch_zip("archive/data.pkl"),
    "a NumPy archive (.npz)": torch_zip("weight.npy"),
    "a zip archive": torch_zip("other.txt"),
    "a Python pickle": pickle.dumps({"weight": [1.0, 2.0]}, protocol=2),
    "pickle, as PyTorch's older files": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03." + bytes(50),
    "Python pickle": pickle.dumps({"weight": [1.0, 2.0]}, protocol=4),
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "an HTML page": b"\n<!doctype HTML>\n<html><head><title>Not found</title></head></html>\n",
    "an HTML pag": b"<html lang=en>" + b" " * 100,
    "an XML text": b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>',
    "a NumPy array (.npy)": b"\x93NUMPY\1\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }" + bytes(64),
    "an ONNX model": b"\x08\x07\x12\x07pytorch\x1a\x051.13.:" + bytes(64),
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "compressed with gzip": gzip.compress(b"something"),
    "empty": b"",
    "a text": "Größe: 12 Wörter\n".encode() * 5,
    "a JSON text": b'{"hidden_size": 32, "model_type": "bert"}',
    "a TensorFlow Lite model": b"\x1c\0\0\0TFL3" + bytes(64),
}


class WrongFiles(Files):
    def test_kinds_as_vocabularies(self):
        model = self.copy()
        for kind, content in KINDS.items():
            if kind in ("a text", "a JSON text", "empty"):  # read as a vocabulary
                continue
            (model / "tokenizer.json").unlink(missing_ok=True)
            (model / "vocab.txt").write_bytes(content)
            self.refused(run("bert", str(model), "--text", TEXT), "vocab.txt: no vocabulary, but ", kind)

    def test_kinds_as_layers(self):
        for kind, content in KINDS.items():
            path = self.folder / "file.safetensors"
            path.write_bytes(content)
            self.refused(run("verify", str(path)), path, "no safetensors file, but ", kind)

    @unittest.skipUnless(WITH_MODELS, "built without models")
    def test_kinds_as_models(self):
        copy = self.copy()
        for kind, content in KINDS.items():
            (copy / "model.safetensors").write_bytes(content)
            self.refused(run("bert", str(copy), "--text", TEXT), copy / "model.safetensors", kind)
        shutil.copy(MASKED_LM / "model.safetensors", copy)
        for kind, content in KINDS.items():
            if kind != "a JSON text":
                (copy / "config.json").write_bytes(content)
                self.refused(run("bert", str(copy), "--text", TEXT), copy / "config.json", "no JSON, but ", kind)

    @unittest.skipUnless(WITH_MODELS, "built without models")
    def test_one_for_the_other(self):
        self.refused(run("verify", str(MASKED_LM / "model.safetensors")), "holds a model", "folder")
        self.refused(run("bert", GOLDEN[0], "--text", TEXT), GOLDEN[0], "a layer, not a model")
        self.refused(run("bert", str(MASKED_LM / "model.safetensors"), "--text", TEXT), "a model is a folder")
        self.refused(run("bert", str(MASKED_LM / "nothing"), "--text", TEXT), "nothing: No such file")
        self.refused(run("bert", str(self.folder), "--text", TEXT), "neither config.json nor")
        self.refused(run("bert", "/dev/null", "--text", TEXT), "no folder")
        copy = self.copy()
        shutil.copy(GOLDEN[0], copy / "model.safetensors")
        self.refused(run("bert", str(copy), "--text", TEXT), "holds one layer", "embeddings.word_embeddings.weight")
        (copy / "model.safetensors").unlink()
        self.refused(run("bert", str(copy), "--text", TEXT), "model.safetensors: No such file")
        (copy / "pytorch_model.bin").write_bytes(b"x")
        self.refused(run("bert", str(copy), "--text", TEXT), "model.safetensors: No such file", "pytorch_model.bin")
        (copy / "model.safetensors").mkdir()
        self.refused(run("bert", str(copy), "--text", TEXT), "model.safetensors: a folder, not a regular file")
        (copy / "model.safetensors").rmdir()
        (copy / "model.safetensors").symlink_to("nowhere")
        self.refused(run("bert", str(copy), "--text", TEXT), "model.safetensors: No such file")

    @unittest.skipUnless(WITH_MODELS, "built without models")
    def test_environment_is_blamed(self):
        answer = run("bert", str(MASKED_LM), "--text", TEXT, isa="avx2")
        self.refused(answer, "FFF_ISA is 'avx2': no instruction set has that name", "generic")
        self.assertNotIn("safetensors", answer.stderr)
        self.assertNotIn("bert_mlm_tiny", answer.stderr)


class Waiting(Files):
    """A FIFO without a writer, a socket, a device: refused at once, wherever they stand."""
    def odd_files(self, path):
        def bind():
            server = socket.socket(socket.AF_UNIX)
            self.addCleanup(server.close)
            before = os.getcwd()
            os.chdir(path.parent)  # names of sockets are short
            server.bind(path.name)
            os.chdir(before)

        for make, word in [(lambda: os.mkfifo(path), "a FIFO"), (bind, "a socket"),
                           (lambda: path.symlink_to("/dev/zero"), "a device"),
                           (lambda: path.symlink_to("/dev/tty"), ""), (path.mkdir, "a folder")]:
            if path.is_symlink() or path.exists():
                path.rmdir() if path.is_dir() else path.unlink()
            make()
            yield word

    def test_layers(self):
        for word in self.odd_files(self.folder / "layer"):
            if word != "a folder":
                self.refused(run("verify", str(self.folder / "layer")), word)
        self.refused(run("verify", "/proc/self/status"), "/proc/self/status: ", "empty")

    @unittest.skipUnless(WITH_MODELS, "built without models")
    def test_files_of_models(self):
        for name in ["config.json", "model.safetensors", "vocab.txt", "modules.json", "1_Pooling/config.json",
                     "model.safetensors.index.json", "sentence_bert_config.json"]:
            copy = self.copy()
            (copy / "1_Pooling").mkdir()
            (copy / name).unlink(missing_ok=True)
            if "index" in name:
                (copy / "model.safetensors").unlink()
            for word in self.odd_files(copy / name):
                self.refused(run("bert", str(copy), "--text", TEXT), name, word)

    @unittest.skipUnless(WITH_MODELS, "built without models")
    def test_inputs(self):
        for option in ["--text", "--ids", "--expected"]:
            for word in self.odd_files(self.folder / "input"):
                self.refused(run("verify", str(MASKED_LM), option, str(self.folder / "input")), word)
        self.refused(run("verify", str(MASKED_LM), "--text", "/proc/self/status"), "more than the 0 bytes")


@unittest.skipUnless(MEASURES_MEMORY, "an emulator's or a sanitizer's memory")
class Cost(Files):
    """Little files that claim much, and large headers, in little memory and time."""
    LIMIT = 1000  # MB of address space: the program and OpenBLAS alone have some 200

    @unittest.skipUnless(WITH_MODELS, "built without models")
    def test_wide_models(self):
        wide = 1 << 20
        crammed = {"num_transformer_layers": wide, "hidden_size": wide, "norm_eps": 1e-12, "intermed_type": "ff",
                   "intermed_size": 8, "embedding": {"vocab_size": 1, "max_seq_length": 1024, "embedding_dim": wide},
                   "attention": {"num_attention_heads": 1}}
        bert = {"model_type": "bert", "num_hidden_layers": wide, "hidden_size": wide, "num_attention_heads": 1,
                "intermediate_size": 8, "vocab_size": 1, "max_position_embeddings": 65536, "type_vocab_size": 1}
        for config, tensors, missing in [
                (crammed, {"encoder.embedding.word_embedding.weight": [1, wide],
                           "encoder.embedding.pos_embedding.scale_factor": [1]}, "encoder.embedding.norm.weight"),
                (crammed, {"encoder.embedding.word_embedding.weight": [1, wide],
                           "encoder.embedding.pos_embedding.scale_factor": [1],
                           "encoder.embedding.norm.weight": [wide], "encoder.embedding.norm.bias": [wide],
                           "encoder.final_norm.weight": [wide], "encoder.final_norm.bias": [wide]},
                 "encoder.layers.0.norm1.weight"),
                (bert, {"embeddings.word_embeddings.weight": [1, wide]}, "embeddings.position_embeddings.weight")]:
            model = self.folder / "model"
            model.mkdir(exist_ok=True)
            (model / "config.json").write_text(json.dumps(config))
            write_sparse(model / "model.safetensors", tensors)
            for command in [["verify", str(model)], ["bert", str(model), "--text", TEXT]]:
                self.refused(run_limited(self.LIMIT, *command), f"tensor '{missing}' is missing")

    def test_wide_layers(self):
        """Nothing is copied before the last tensor is looked at."""
        path = self.folder / "layer"
        metadata = {"depth": "0", "trees": "1024", "activation": "GELU"}
        good = {"linear_in.weight": [1024, 1 << 18], "linear_out.weight": [3, 1024], "input": [2, 1 << 18]}
        for name, shape in [("linear_out.weight", [3, 1023]), ("input", [2, 5]), ("output", [2, 4]),
                            ("linear_in.bias", [7]), ("path", [2, 1024, 1])]:
            write_sparse(path, good | {name: shape}, metadata)
            before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            self.refused(run_limited(1600, "verify", str(path)), f"tensor '{name}'")
            self.assertLess(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, max(before, 300 << 10))

    def test_wide_leaves(self):
        path = self.folder / "layer"
        metadata = {"parts": "2", "trees": "1024", "depth": "0", "activation": "ReLU"}
        wide = 1 << 18
        good = {"parts.0.linear_in.weight": [1024, wide], "parts.0.linear_out.weight": [3, 1024], "parts.1.depth": [],
                "parts.1.w1s": [1024, wide, 1], "parts.1.w2s": [1024, 1, 3], "input": [2, wide]}
        for name, shape in [("parts.1.w2s", [1024, 2, 3]), ("parts.1.b1s", [1024]), ("input", [2, 5]), ("output", [2, 4]),
                            ("parts.1.thresholds", [1]), ("output_bias", [4])]:
            write_sparse(path, good | {name: shape}, metadata)
            before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            self.refused(run_limited(2700, "verify", str(path)), f"tensor '{name}'")
            self.assertLess(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, max(before, 300 << 10))

    def header(self, text):
        path = self.folder / "header"
        path.write_bytes(struct.pack("<Q", len(text)) + text)
        return path

    def test_largest_header(self):
        """As many bytes as the reference reader takes; what is in them is wrong here."""
        path = self.folder / "header"
        for length, expected in [(100_000_000, "header: "), (100_000_001, "header length 100000001 exceeds the file's "
                                                                          "100000009 bytes or the limit of 100000000")]:
            with open(path, "wb") as file:
                file.write(struct.pack("<Q", length) + b"{x")
                file.truncate(8 + length)
            answer = run("verify", str(path))
            self.refused(answer, expected)
            self.assertEqual("exceeds" in answer.stderr, length > 100_000_000)

    def test_large_headers(self):
        count = 1_000_000
        keys = ",".join(f'"k{i:07}":0' for i in range(count))
        strings = ",".join(f'"k{i:07}":""' for i in range(count))
        tensors = ",".join(f'"k{i:07}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for i in range(count // 4))
        numbers = ",".join(["0"] * (5 * count))
        cases = {
            "lacks a dtype": "{" + keys + "}",
            "tensor 'linear_in.weight' is missing": '{"__metadata__":{' + strings + "}}",
            "'linear_in.weight' is missing": "{" + tensors + "}",
            "metadata 'k0000000' is no string": '{"__metadata__":{' + keys + "}}",
            "a is longer than 65536 bytes": '{"a":{"dtype":"U8","shape":[' + numbers + '],"data_offsets":[0,0]}}',
            "tensor 'a' lacks": '{"a":[' + numbers + "]}",
            "metadata 'a' is no string": '{"__metadata__":{"a":[' + numbers + "]}}",
            "a name is longer than 65536 bytes": '{"' + "n" * 5_000_000 + '":0}',
        }
        for expected, text in cases.items():
            path = self.header(text.encode())
            begin = time.monotonic()
            answer = run_limited(self.LIMIT // 4 + 8 * len(text) // 1_000_000, "verify", str(path))
            self.refused(answer, expected)
            # Half a second for a million strings; the rest for a machine that has other work.
            self.assertLess(time.monotonic() - begin, 10, expected)


@unittest.skipUnless(WITH_MODELS, "built without models")
class Names(Files):
    def renamed(self, change):
        copy = self.copy()
        tensors = read_tensors(copy / "model.safetensors")
        write_tensors(copy / "model.safetensors", dict(filter(None, (change(*item) for item in tensors.items()))))
        return copy

    def test_prefixes(self):
        """The same bits under all names."""
        def plain(name, value):
            name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
            return (name.removeprefix("bert."), value)

        expected = self.embedding(MASKED_LM)
        self.assertEqual(self.embedding(self.renamed(plain)), expected)
        for prefix in ["bert.", "model.", "0.auto_model.", "module.", "model.bert.", "_orig_mod.module.encoder.bert."]:
            copy = self.renamed(lambda name, value: (prefix + plain(name, value)[0], value))
            self.assertEqual(self.embedding(copy), expected, prefix)

    def test_only_what_is_used_matters(self):
        def odd(name, value):
            if "pooler" in name:
                return name, ("F8_E3M4", [7], b"123")  # of a version to come
            if "seq_relationship" in name:
                return name, ("U8", [3], b"123")
            return name, value

        self.assertEqual(self.embedding(self.renamed(odd)), self.embedding(MASKED_LM))
        copy = self.renamed(lambda name, value: (name, ("F8_E3M4", [7], b"123") if "query.bias" in name else value))
        self.refused(run("bert", str(copy), "--text", TEXT), "query.bias", "dimension 0 is 7")
        copy = self.renamed(lambda name, value: (name, ("F8_E3M4", [32], b"123") if "query.bias" in name else value))
        self.refused(run("bert", str(copy), "--text", TEXT), "query.bias", "has dtype F8_E3M4")

    def test_two_models(self):
        tensors = read_tensors(MASKED_LM / "model.safetensors")
        copy = self.copy()
        word = tensors["bert.embeddings.word_embeddings.weight"]
        write_tensors(copy / "model.safetensors", tensors | {"teacher.embeddings.word_embeddings.weight": word})
        self.refused(run("bert", str(copy), "--text", TEXT), "belong to two models", "teacher.")
        copy = self.renamed(lambda name, value: (name.replace("bert.", "roberta."), value))
        self.refused(run("bert", str(copy), "--text", TEXT), "roberta.", "another kind of model")

    def test_masked_words(self):
        """On Hugging Face's head as on the crammed one; without a [MASK], or a head, it is an embedding."""
        answer = run("bert", str(MASKED_LM), "--text", "paris is the [MASK] of france .")
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertTrue(answer.stdout.startswith("token 4:\n"), answer.stdout)
        self.assertEqual(len(answer.stdout.splitlines()), 6)
        self.assertEqual(len(self.embedding(MASKED_LM)), 32)
        bare = self.renamed(lambda name, value: None if name.startswith("cls.") else (name, value))
        self.assertEqual(self.embedding(bare), self.embedding(MASKED_LM))
        self.assertEqual(len(self.embedding(bare, "the [MASK]")), 32)

    def test_mask_that_is_cut_off(self):
        copy = self.copy()
        for setting, most in [({}, 24), ({"model_max_length": 7}, 7)]:
            (copy / "tokenizer_config.json").write_text(json.dumps(setting))
            for text in ["the " * most + "[MASK]", "the [MASK] sat " + "the " * most + "<mask>",
                         "the " * (most - 2) + "[MASK]"]:
                self.refused(run("bert", str(copy), "--text", text),
                             f"a mask lies behind the {most} tokens that the model takes")
            for text in ["the " * (most - 3) + "[MASK]", "the " * (most - 3) + "[MASK] cat"]:
                answer = run("bert", str(copy), "--text", text)
                self.assertEqual(answer.returncode, 0, answer.stderr)
                self.assertTrue(answer.stdout.startswith(f"token {most - 2}:\n"), answer.stdout)
        bare = self.renamed(lambda name, value: None if name.startswith("cls.") else (name, value))
        self.assertEqual(self.embedding(bare, "the " * 24 + "[MASK]"), self.embedding(bare, "the " * 24))

    def test_head(self):
        """Its decoder may be the embedding, its bias has two names; anything else that lacks is an error."""
        def logits(model):
            return run("bert", str(model), "--text", "the [MASK]").stdout

        expected = logits(MASKED_LM)
        for twin in ["cls.predictions.bias", "cls.predictions.decoder.bias"]:
            self.assertEqual(logits(self.renamed(lambda n, v: None if n == twin else (n, v))), expected)
        tensors = read_tensors(MASKED_LM / "model.safetensors")
        word = tensors["bert.embeddings.word_embeddings.weight"]
        own = self.copy(name="own")
        write_tensors(own / "model.safetensors", tensors | {"cls.predictions.decoder.weight": word})
        tied = self.renamed(lambda n, v: None if n == "cls.predictions.decoder.weight" else (n, v))
        self.refused(run("bert", str(tied), "--text", "the [MASK]"), "'cls.predictions.decoder.weight' is missing")
        config = json.loads((tied / "config.json").read_text())
        (tied / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
        self.assertEqual(logits(tied), logits(own))
        self.assertNotEqual(logits(tied), expected)
        for lacking in ["transform.dense.weight", "transform.dense.bias", "transform.LayerNorm.gamma",
                        "transform.LayerNorm.beta"]:
            copy = self.renamed(lambda n, v: None if n.endswith("predictions." + lacking) else (n, v))
            self.refused(run("bert", str(copy), "--text", "the [MASK]"), "is missing")
        copy = self.renamed(lambda n, v: (n, ("F32", [4, 256], v[2])) if n.endswith("transform.dense.weight") else (n, v))
        self.refused(run("bert", str(copy), "--text", TEXT), "transform.dense.weight", "is 4 where 32")

    def test_head_of_no_numbers(self):
        """A NaN or an infinity in the head: the hidden states are right, and the logits are not."""
        for name, value in [("cls.predictions.decoder.weight", "nan"), ("cls.predictions.bias", "nan"),
                            ("cls.predictions.bias", "-inf"), ("cls.predictions.transform.dense.bias", "inf")]:
            def spoil(n, v):
                return n, (v[0], v[1], struct.pack("<f", float(value)) + v[2][4:]) if n == name else v

            copy = self.renamed(spoil)
            (copy / "expected.safetensors").unlink()
            answer = run("verify", str(copy), "--json")
            self.assertEqual(answer.returncode, 1, answer.stdout)
            found = json.loads(answer.stdout)["files"][0]
            for way in found["end_to_end"]:
                self.assertEqual((way["ok"], way["logits_error_unparted"]), (False, None))
                self.assertLess(way["hidden_error_unparted"], 2e-5)
            self.assertEqual(found["why"], ["the logits hold a NaN or an infinity, here or in float64"])
            self.assertTrue(run("verify", str(copy)).stdout.endswith("  FAILED\n"))
            self.refused(run("bert", str(copy), "--text", "the [MASK]"), "the logits hold a NaN or an infinity")
            self.assertEqual(len(self.embedding(copy)), 32)

    def test_embedding_of_no_numbers(self):
        copy = self.renamed(lambda n, v: (n, (v[0], v[1], struct.pack("<f", float("nan")) + v[2][4:]))
                            if n == "bert.encoder.layer.1.output.dense.bias" else (n, v))
        self.refused(run("bert", str(copy), "--text", TEXT), "the embedding holds a NaN or an infinity")

    def test_expected(self):
        """What the file does not have is not compared, and told so; what it has must be known and obeyed."""
        copy = self.copy()
        path = copy / "expected.safetensors"
        whole = read_tensors(path)
        count = whole["input_ids"][1][0] * whole["input_ids"][1][1]
        types = ("I32", whole["input_ids"][1], bytes(4 * count))
        write_tensors(path, whole | {"token_type_ids": types})
        answers = [run("verify", str(model), "--json") for model in [copy, MASKED_LM]]
        self.assertEqual(answers[0].stdout.replace(str(copy), str(MASKED_LM)), answers[1].stdout)
        results = {"hidden", "logits"}
        for kept in [{"hidden"}, {"logits"}, set()]:
            write_tensors(path, {name: value for name, value in whole.items() if name not in results - kept})
            answer = run("verify", str(copy), "--json")
            self.assertEqual(answer.returncode, 0, answer.stderr)
            for way in json.loads(answer.stdout)["files"][0]["end_to_end"]:
                self.assertEqual("file" in way, bool(kept))
                for name in results if kept else []:
                    self.assertEqual(way["file"][name] is not None, name in kept)
                    self.assertEqual(way["file"][name + "_difference"] is not None, name in kept)
                if kept:
                    self.assertEqual([way["file"]["embedding"], way["file"]["embedding_sequence"]], [None, None])
            figures = {"hidden": r"\| [\d.e-]+, -, -\n", "logits": r"\| -, [\d.e-]+, -\n"}
            for name in kept:
                self.assertRegex(run("verify", str(copy)).stdout, figures[name])
        mask = whole["attention_mask"]
        for change, expected in [
                ({"last_hidden_state": whole["hidden"]}, "tensor 'last_hidden_state' is none of input_ids, "),
                ({"token_type_ids": ("I32", types[1], types[2][:-4] + struct.pack("<i", 1))},
                 f"tensor 'token_type_ids': element {count - 1} is 1; only 0 is supported"),
                ({"token_type_ids": ("F32", types[1], types[2])}, f"'token_type_ids' has {count} elements of F32"),
                ({"token_type_ids": ("I32", [count - 1], types[2][4:])}, f"'token_type_ids' has {count - 1} elements"),
                ({"attention_mask": (*mask[:2], struct.pack("<f", 0.5) + mask[2][4:])},
                 "tensor 'attention_mask': element 0 is 0.5; only 0 and 1 are supported"),
                ({"attention_mask": (*mask[:2], mask[2][:4] + struct.pack("<f", -1) + mask[2][8:])}, "element 1 is -1"),
                ({"attention_mask": (*mask[:2], mask[2][:4] + struct.pack("<f", float("nan")) + mask[2][8:])},
                 "element 1 is nan")]:
            write_tensors(path, whole | change)
            self.refused(run("verify", str(copy)), "expected.safetensors: ", expected)
        bare = self.renamed(lambda name, value: None if name.startswith("cls.") else (name, value))
        self.refused(run("verify", str(bare)), "tensor 'logits' is there, and the model has no head that gives any")
        write_tensors(bare / "expected.safetensors", {n: v for n, v in whole.items() if n != "logits"})
        answer = run("verify", str(bare), "--json")
        self.assertIsNone(json.loads(answer.stdout)["files"][0]["end_to_end"][0]["logits_error"])

    def test_narrow_weights(self):
        def halves(name, value):
            dtype, shape, content = value
            count = len(content) // 4
            return name, (("F16", shape, struct.pack(f"<{count}e", *struct.unpack(f"<{count}f", content)))
                          if dtype == "F32" else value)

        near = zip(self.embedding(self.renamed(halves)), self.embedding(MASKED_LM))
        self.assertLess(max(abs(a - b) for a, b in near), 0.02)

    def test_activations(self):
        found = {}
        copy = self.copy()
        (copy / "expected.safetensors").unlink()
        config = json.loads((MASKED_LM / "config.json").read_text())
        for name in ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "relu2", "linear"]:
            (copy / "config.json").write_text(json.dumps(config | {"hidden_act": name}))
            answer = run("verify", str(copy))
            self.assertEqual(answer.returncode, 0, name + answer.stdout + answer.stderr)
            found[name] = tuple(self.embedding(copy))
        self.assertEqual(found["gelu_new"], found["gelu_pytorch_tanh"])
        self.assertEqual(len(set(found.values())), 6)


@unittest.skipUnless(WITH_MODELS, "built without models")
class Shards(Files):
    NAMES = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]

    def sharded(self):
        copy = self.copy()
        tensors = list(read_tensors(copy / "model.safetensors").items())
        (copy / "model.safetensors").unlink()
        parts = [dict(tensors[:20]), dict(tensors[20:])]
        for name, part in zip(self.NAMES, parts):
            write_tensors(copy / name, part)
        self.map = {tensor: name for name, part in zip(self.NAMES, parts) for tensor in part}
        self.index(copy, self.map)
        return copy, parts

    def index(self, copy, weight_map, **more):
        (copy / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map} | more))

    def test_loads(self):
        copy, _ = self.sharded()
        self.assertEqual(self.embedding(copy), self.embedding(MASKED_LM))
        answer = run("verify", str(copy))
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)
        # The single file goes first, whatever the index says.
        shutil.copy(MASKED_LM / "model.safetensors", copy)
        (copy / "model.safetensors.index.json").write_text("{")
        self.assertEqual(self.embedding(copy), self.embedding(MASKED_LM))

    def test_links_are_followed(self):
        copy, _ = self.sharded()
        store = self.folder / "blobs"
        store.mkdir()
        for name in self.NAMES:
            (copy / name).rename(store / name)
            (copy / name).symlink_to("../blobs/" + name)
        self.assertEqual(self.embedding(copy), self.embedding(MASKED_LM))

    def test_wrong(self):
        copy, parts = self.sharded()
        first = next(iter(parts[0]))
        for place, expected in [("../" + self.NAMES[0], "inside the model's folder"), ("/etc/passwd", "inside"),
                                ("x/../../y", "inside"), ("", "inside"), (7, "no file's name"), (None, "no file's name"),
                                (self.NAMES[1], f"tensor '{first}' is not in '{self.NAMES[1]}'"),
                                ("none.safetensors", "none.safetensors: No such file")]:
            self.index(copy, self.map | {first: place})
            self.refused(run("bert", str(copy), "--text", TEXT), expected)
        self.index(copy, self.map | {"ghost": self.NAMES[0]})
        self.refused(run("bert", str(copy), "--text", TEXT), "tensor 'ghost' is not in")
        for text, expected in [("{}", "weight_map is missing or empty"), ("[]", "object"), ("", "empty"),
                               ('{"weight_map":{}}', "weight_map is missing or empty"), ('{"weight_map":7}', "object"),
                               ('{"weight_map":{"a":"b"}', "expected"), ("<html>", "HTML")]:
            (copy / "model.safetensors.index.json").write_text(text)
            self.refused(run("bert", str(copy), "--text", TEXT), "index.json: ", expected)
        self.index(copy, self.map)
        write_tensors(copy / self.NAMES[1], parts[1] | {first: parts[0][first]})
        self.refused(run("bert", str(copy), "--text", TEXT), f"tensor '{first}' is both in", *self.NAMES)
        write_tensors(copy / self.NAMES[1], {**parts[1], list(parts[1])[0]: ("U8", [1], b"1")})
        self.refused(run("bert", str(copy), "--text", TEXT), self.NAMES[1], "dimension 0 is 1 where 32")
        (copy / self.NAMES[1]).write_bytes(KINDS["a Git LFS pointer"])
        self.refused(run("bert", str(copy), "--text", TEXT), self.NAMES[1], "Git LFS pointer")


@unittest.skipUnless(WITH_MODELS, "built without models")
class Poolings(Files):
    """Those that are obeyed are held against the hidden states in test_bert.c."""
    def model(self, modules=None, pooling=None, **more):
        copy = self.copy()
        if modules is not None:
            (copy / "modules.json").write_text(json.dumps(modules))
        if pooling is not None:
            (copy / "1_Pooling").mkdir()
            (copy / "1_Pooling/config.json").write_text(json.dumps(pooling))
        for name, content in more.items():
            (copy / (name + ".json")).write_text(json.dumps(content))
        return copy

    def test_obeyed(self):
        mean = self.embedding(MASKED_LM)
        self.assertEqual(self.embedding(self.model(MODULES[:2], POOLING)), mean)
        first = POOLING | {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
        cls = self.embedding(self.model(MODULES[:2], first))
        self.assertNotEqual(cls, mean)
        self.assertEqual(self.embedding(self.model(None, first)), cls)
        unit = self.embedding(self.model(MODULES, first))
        length = sum(value * value for value in cls) ** 0.5
        self.assertLess(max(abs(a / length - b) for a, b in zip(cls, unit)), 1e-6)
        newer = [{"idx": i, "name": str(i), "path": path, "type": "sentence_transformers.base.modules." + name}
                 for i, (path, name) in enumerate([("", "transformer.Transformer"), ("1_Pooling", "pooling.Pooling"),
                                                   ("2_Normalize", "normalize.Normalize")])]
        self.assertEqual(self.embedding(self.model(newer, {"embedding_dimension": 32, "pooling_mode": "cls"})), unit)

    def test_text_length(self):
        copy = self.model(MODULES[:2], POOLING, sentence_bert_config={"max_seq_length": 5, "do_lower_case": False})
        self.assertEqual(self.embedding(copy), self.embedding(copy, "the cat sat and more"))
        self.assertNotEqual(self.embedding(copy), self.embedding(MASKED_LM))
        for key in ["model_max_length", "max_len"]:  # the tokenizer's own, which max_seq_length replaces, also upwards
            for most, whole in [(None, "the cat sat"), (4, "the cat"), (9, TEXT)]:
                copy = self.model(MODULES[:2], POOLING, sentence_bert_config={"max_seq_length": most},
                                  tokenizer_config={key: 5})
                self.assertEqual(self.embedding(copy), self.embedding(MASKED_LM, whole))
        positions = json.loads((MASKED_LM / "config.json").read_text())["max_position_embeddings"]
        copy = self.model(MODULES[:2], POOLING, sentence_bert_config={"max_seq_length": 2 * positions},
                          tokenizer_config={"model_max_length": 5})  # but never beyond the model's positions
        self.assertEqual(self.embedding(copy, "the " * positions), self.embedding(copy, "the " * (positions + 9)))

    def test_lower_case(self):
        """Of texts, before the tokenizer, which is told here to leave case as it is."""
        cased = {"tokenizer_config": {"do_lower_case": False}}
        vectors = [self.embedding(self.model(MODULES[:2], POOLING, sentence_bert_config=setting, **cased), TEXT.upper())
                   for setting in [{"do_lower_case": True}, {"do_lower_case": False}, {"do_lower_case": None}, {}]]
        self.assertEqual(vectors[0], self.embedding(MASKED_LM))
        self.assertNotEqual(vectors[1], vectors[0])
        self.assertEqual(vectors[1:], vectors[1:2] * 3)
        lower = self.model(MODULES[:2], POOLING, sentence_bert_config={"do_lower_case": True}, **cased)
        answer = run("bert", str(lower), "--text", "the [MASK] sat")
        self.assertEqual(len(answer.stdout.split()), 32, answer.stderr)  # an embedding: nothing is masked
        results = []
        for text in [TEXT, TEXT.upper()]:
            (self.folder / "text").write_text(text + "\n")
            answer = run("verify", str(lower), "--text", str(self.folder / "text"), "--json")
            self.assertEqual(answer.returncode, 0, answer.stderr)
            results.append(json.loads(answer.stdout)["files"][0]["end_to_end"])
        self.assertEqual(*results)
        for wrong, shown in [("true", '"true"'), (1, "1"), ([], "[]")]:
            self.refused(run("bert", str(self.model(sentence_bert_config={"do_lower_case": wrong})), "--text", TEXT),
                         "sentence_bert_config.json: ", f"'do_lower_case' is {shown} where true or false is expected")
        self.refused(run("bert", str(self.model(sentence_bert_config=[])), "--text", TEXT), "no JSON object")

    def test_refused(self):
        dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
        own = {"idx": 1, "name": "1", "path": "1_Pooling", "type": "mine.Pooling"}
        out = MODULES[1] | {"path": "../../1_Pooling"}
        within = MODULES[0] | {"path": "0_Transformer"}
        off = {key: False if value is True else value for key, value in POOLING.items()}
        for modules, pooling, expected in [
                (MODULES[:2] + [dense], POOLING, "module 2 has the type \"sentence_transformers.models.Dense\""),
                ([MODULES[0], own], POOLING, "module 1 has the type \"mine.Pooling\""),
                ([MODULES[0], out], POOLING, "module 1 has the path \"../../1_Pooling\""),
                ([MODULES[0], MODULES[1] | {"path": "/etc"}], POOLING, "inside"),
                ([MODULES[0], MODULES[1] | {"path": 3}], POOLING, "path 3"),
                ([within, MODULES[1]], POOLING, "0_Transformer"),
                ([MODULES[0]], POOLING, "list that begins"), ({}, POOLING, "list that begins"),
                ([MODULES[0], MODULES[2], MODULES[1]], POOLING, "module 1"),
                (MODULES, None, "1_Pooling/config.json: modules.json names it"),
                (MODULES, off | {"pooling_mode_mean_sqrt_len_tokens": True}, "pooling_mode_mean_sqrt_len_tokens"),
                (MODULES, off | {"pooling_mode_weightedmean_tokens": True}, "pooling_mode_weightedmean_tokens"),
                (MODULES, off | {"pooling_mode_lasttoken": True}, "pooling_mode_lasttoken"),
                (MODULES, POOLING | {"pooling_mode_cls_token": True}, "both true"),
                (MODULES, {"pooling_mode_cls_token": True}, "(by default)"),
                (MODULES, off, "no pooling mode"), (MODULES, POOLING | {"pooling_mode_cls_token": 1}, "is 1 where true"),
                (MODULES, POOLING | {"word_embedding_dimension": 33}, "33 where the model's hidden_size is 32"),
                (MODULES, {"pooling_mode": "lasttoken"}, "\"lasttoken\""), (MODULES, [], "no JSON object"),
                (MODULES, {"pooling_mode": ["cls", "mean"]}, "[\"cls\",\"mean\"]")]:
            self.refused(run("bert", str(self.model(modules, pooling)), "--text", TEXT), expected)
        prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
        self.refused(run("bert", str(self.model(config_sentence_transformers=prompts)), "--text", TEXT), "'query: '")
        self.refused(run("bert", str(self.model(sentence_bert_config={"max_seq_length": 0})), "--text", TEXT),
                     "max_seq_length")


def bf16(content):
    """The upper halves of float32 numbers, which is rounding towards zero."""
    return b"".join(content[i + 2:i + 4] for i in range(0, len(content), 4))


def widened(content):
    return b"".join(b"\0\0" + content[i:i + 2] for i in range(0, len(content), 2))


@unittest.skipUnless(WITH_MODELS, "built without models")
class Types(Files):
    """Feedforward weights in other types than float32; test_model_types.c compares the bits."""
    IN, OUT = "bert.encoder.layer.0.intermediate.dense.weight", "bert.encoder.layer.0.output.dense.weight"
    WORDS = "bert.embeddings.word_embeddings.weight"

    def model(self, changes):
        copy = self.copy()
        write_tensors(copy / "model.safetensors", read_tensors(MASKED_LM / "model.safetensors") | changes)
        return copy

    def test_the_same_answers(self):
        tensors = read_tensors(MASKED_LM / "model.safetensors")
        names = [name for name in tensors if "intermediate.dense.weight" in name
                 or ("output.dense.weight" in name and "attention" not in name)]
        self.assertEqual(len(names) % 2, 0)
        halves = {name: ("BF16", tensors[name][1], bf16(tensors[name][2])) for name in names}
        wide = {name: ("F32", tensors[name][1], widened(halves[name][2])) for name in names}
        for arguments in [["--text", TEXT], ["--text", "the [MASK] sat on the mat ."],
                          ["--text", TEXT, "--store", "i8", "--exact-routes"]]:
            answers = [run("bert", str(self.model(changes)), *arguments, "--feedforward", "trees")
                       for changes in [halves, wide]]
            self.assertEqual([answer.returncode for answer in answers], [0, 0], answers[0].stderr)
            self.assertEqual(answers[0].stdout, answers[1].stdout)
        self.assertNotEqual(self.embedding(self.model(halves)), self.embedding(MASKED_LM))
        answer = run("verify", str(self.model(halves)), "--text", str(MASKED_LM / "vocab.txt"), "--layer-tokens", "20")
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)
        self.assertIn("stored: bf16; differing from the float32 layer of the rounded weights: 0 nodes and logits, 0 ou",
                      answer.stdout)
        self.assertIn("within the proven bound, routes apart at ties only", answer.stdout)  # end to end is judged
        # One layer only.
        some = {name: halves[name] for name in names if ".layer.0." in name}
        model = self.model(some)
        answer = run("verify", str(model), "--json")
        file = json.loads(answer.stdout)["files"][0]
        self.assertEqual(file["store"]["input"], "bf16")
        self.assertEqual([layer["store"] is None for layer in file["layers"]][:2], [False, True])
        answer = run("verify", str(model), "--store", "f32", "--json")
        self.assertIsNone(json.loads(answer.stdout)["files"][0]["store"])

    def test_refused(self):
        tensors = read_tensors(MASKED_LM / "model.safetensors")
        _, (neurons, width), content = tensors[self.IN]
        count = neurons * width
        integers, scales = ("I8", [neurons, width], bytes(count)), ("F32", [neurons], struct.pack("<f", 1) * neurons)
        for changes, *expected in [
                ({self.IN: integers}, f"tensor '{self.IN}_scales' is missing"),
                ({self.OUT: ("I8", [width, neurons], bytes(count))}, f"tensor '{self.OUT}_scales' is missing"),
                ({self.IN: integers, self.IN + "_scales": ("F32", [width], scales[2][:4 * width])},
                 f"{self.IN}_scales': dimension 0 is {width} where {neurons}"),
                ({self.IN: integers, self.IN + "_scales": ("F32", [neurons, 1], scales[2])}, "_scales' has 2 dimen"),
                ({self.IN: integers, self.IN + "_scales": ("BF16", [neurons], bytes(2 * neurons))},
                 "_scales' has dtype BF16 where F32 is expected"),
                ({self.IN: integers, self.IN + "_scales": ("F32", [neurons], scales[2][4:] + struct.pack("<f", 0))},
                 f"_scales', element {neurons - 1} is 0 where a positive number"),
                ({self.IN: integers, self.IN + "_scales": ("F32", [neurons], b"\0\0\x80\x7f" * neurons)},
                 "_scales', element 0 is inf where a positive number"),
                ({self.IN: ("I8", [neurons, width], bytes(count - 2) + b"\x80\0"), self.IN + "_scales": scales},
                 f"'{self.IN}', row {neurons - 1}, column {width - 2} is -128"),
                ({self.IN + "_scales": scales}, f"'{self.IN}' has dtype F32, and scales", "which only I8 has"),
                ({self.IN: ("U8", [neurons, width], bytes(count))},
                 f"'{self.IN}' has dtype U8 where F32, BF16, F16, F64 or I8 is expected"),
                ({self.IN: ("F8_E4M3", [neurons, width], bytes(count))}, "has dtype F8_E4M3 where"),
                ({self.IN: ("BF16", [width, neurons], bytes(2 * count))}, f"dimension 0 is {width} where {neurons}"),
                ({self.WORDS: ("I8", tensors[self.WORDS][1], bytes(len(tensors[self.WORDS][2]) // 4))},
                 f"'{self.WORDS}' has dtype I8 where floating point (F32, F16, BF16, F64) is expected")]:
            model = self.model(changes)
            for way in ["trees", "masked"]:
                self.refused(run("bert", str(model), "--text", TEXT, "--feedforward", way), "model.safetensors: ",
                             *expected)
            self.refused(run("verify", str(model)), *expected)
        nan = self.model({self.IN: ("BF16", [neurons, width], bytes(2 * count - 2) + b"\xc0\x7f")})
        self.refused(run("bert", str(nan), "--text", TEXT, "--feedforward", "trees", "--store", "i8"),
                     f"layer 0, input weights, row {neurons - 1}, column {width - 1}")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
