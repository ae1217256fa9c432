#!/usr/bin/env python3
"""Whether docs/equivalence.md says what its commands print.

usage: scripts/check_equivalence.py FFF [--layers | --long] [--update]

--layers  single layers alone: their figures hang on no BLAS, and are the same on any machine
--long    the trained BERT (build-minilm/, which scripts/fetch_minilm.sh makes) and the published shape (755 MB in a temporary
          folder), too: the better part of an hour
--update  write the figures into the page in place of complaining

The last digits of whole runs depend on OpenBLAS, its version and its kernels. The page names both; the kernels are chosen by
the command itself. Ends with 77, which is to skip, where they are not to be had.
"""

import argparse
import ctypes
import json
import os
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "equivalence.md"
CORE = "Haswell"
NUMBER = r"([0-9.]+(?:e-?[0-9]+)?)"


def short(value):
    """2.1e-7, as the page writes it."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def percent(fraction):
    return f"{100 * fraction:.1f}"


def share(part, whole):
    return f"{100 * part / whole:g}"


class Page:
    """The text, and what in it is not as it should be."""

    def __init__(self):
        self.text, self.wrong = PAGE.read_text(encoding="utf-8"), []

    def expect(self, template, *figures):
        """A piece of the page, with {} for each figure; line breaks count as blanks."""
        pieces = [re.sub(r"(\\ |\\\n|\s)+", r"\\s+", re.escape(piece)) for piece in template.split("{}")]
        found = list(re.finditer(NUMBER.join(pieces), self.text))
        if len(found) != 1:
            sys.exit(f"{PAGE.name}: '{template}' stands there {len(found)} times")
        match, text, end = found[0], "", found[0].start()
        for group, figure in enumerate(figures, 1):
            text += self.text[end : match.start(group)] + str(figure)
            end = match.end(group)
            if match.group(group) != str(figure):
                self.wrong.append(f"'{template}': {match.group(group)} where {figure} was measured")
        self.text = self.text[: match.start()] + text + self.text[end:]

    def command(self, text):
        if f"    {text}\n" not in self.text and f"    {text}  " not in self.text:
            sys.exit(f"{PAGE.name} lacks the command '{text}'")


def verify(fff, *arguments):
    environment = dict(os.environ, OPENBLAS_CORETYPE=CORE, FFF_ISA="")
    answer = subprocess.run([fff, "verify", "--json", *map(str, arguments)], env=environment, stdout=subprocess.PIPE,
                            text=True, check=False)
    found = json.loads(answer.stdout)["files"]
    bad = [file["path"] for file in found if not file["ok"]]
    if answer.returncode != 0 or bad:
        sys.exit(f"fff verify failed: {bad}")
    return found


def differing(model):
    """The page claims that no bit differs; a model of which one does is not ok and does not get here."""
    assert all(way["bit_identical"] for way in model["isas"] + model["end_to_end"])
    return 0


def check_authors_models(page, fff):
    page.command(f"OPENBLAS_CORETYPE={CORE} fff verify tests/data/bert_*")
    models = {pathlib.Path(model["path"]).name: model
              for model in verify(fff, *sorted((ROOT / "tests" / "data").glob("bert_*")))}
    rows = {"bert_fff_tiny": "1x5", "bert_fff_3x4_cls": "3x4, a classifier", "bert_ff_tiny": "its dense twin as 96x0"}
    page.expect("the largest value; {}, {} and {} tokens.", *[models[name]["tokens"] for name in rows])
    for name, shape in rows.items():
        model, way = models[name], models[name]["end_to_end"][0]
        page.expect(f"| {name}, {shape} | {{}} % | {{}} | {{}} | {{}} | {{}} |",
                    percent(max(isa["bound_used"] for isa in model["isas"])), way["sequences_apart"],
                    short(way["file"]["hidden"]), short(way["file"]["logits"]), differing(model))
        for every in model["end_to_end"]:
            assert every["top1"] == every["top5"] == every["predictions"]


def expect_layer(page, row, layer):
    """A row of a layer file: figures of all instruction sets, whose bits are the same."""
    isas = layer["isas"]
    assert layer["file"]["agrees"] and all(isa["bit_identical"] for isa in isas)
    page.expect(row + " {} | {} | {} % | {} | agree |", 0, short(max(isa["max_abs_error"] for isa in isas)),
                percent(max(isa["bound_used"] for isa in isas)), max(isa["ties"] for isa in isas))


def check_leaves_and_forests(page, fff):
    data = ROOT / "tests" / "data"
    page.command("fff verify tests/data/leaf_*.safetensors")
    page.command("fff verify tests/data/forest_3_parts.safetensors")
    rows = {("leaf_d3_w8", "left out"): "leaf_d3_w8: depth 3, leaves of 8, ReLU", ("leaf_d3_w8", "added"): "leaf_d3_w8",
            ("leaf_d5_w1_gelu", "left out"): "leaf_d5_w1_gelu: depth 5, leaves of 1, GELU",
            ("leaf_d5_w1_gelu", "added"): "leaf_d5_w1_gelu"}
    layers = verify(fff, *sorted(data.glob("leaf_*.safetensors")))
    assert len(layers) == len(rows)
    for layer in layers:
        expect_layer(page, f"| {rows[pathlib.Path(layer['path']).stem, layer['b2s']]} | {layer['b2s']} |", layer)
    (forest,) = verify(fff, data / "forest_3_parts.safetensors")
    expect_layer(page, f"| {forest['layer']} |", forest)


def short_fraction(value):
    """0.0024, as printf's %.2g has it."""
    return f"{value:.2g}"


def check_narrow_layers(page, fff):
    page.command("fff bench --store bf16 --exact-routes --no-dense --batch 1 --json")
    for stored in ["bf16", "f16", "i8", "bf16+i8"]:
        found = []
        for exact in [[], ["--exact-routes"]]:
            answer = subprocess.run([fff, "bench", "--store", stored, *exact, "--no-dense", "--batch", "1", "--isa", "auto",
                                     "--rounds", "3", "--seconds", "1", "--json"],
                                    stdout=subprocess.PIPE, text=True, check=True, env=dict(os.environ, FFF_ISA=""))
            found.append(json.loads(answer.stdout)["store"])
        plain, exact = found
        assert plain["ok"] and exact["ok"] and exact["nodes_apart"] == 0
        page.expect(f"| {stored} |" + " {} |" * 7, plain["tokens_apart"], plain["nodes_apart"],
                    short_fraction(plain["difference_rms"]), short_fraction(plain["difference_worst"]),
                    short_fraction(exact["difference_rms"]), short_fraction(exact["difference_worst"]), exact["float32_rows"])
    page.expect("seeded weights, {} tokens:", plain["tokens"])
    page.expect("float32 rows read, of {} |", exact["deciding"])


STORES = ["bf16", "f16", "i8", "bf16+i8"]


def whole_run(model):
    """Cells of a table: hidden states from float64's, best predictions that are float64's, sequences apart."""
    way = model["end_to_end"][0]
    assert model["ok"] and differing(model) == 0
    return [short(way["hidden_error"]), way["top1"], way["predictions"], way["sequences_apart"], model["sequences"]]


WHOLE_RUN = " {} | {} of {} | {} of {} |"


def check_narrow_models(page, fff):
    page.command(f"OPENBLAS_CORETYPE={CORE} fff verify --store bf16 tests/data/bert_*")
    rows = {"bert_fff_tiny": "1x5", "bert_fff_3x4_cls": "3x4, a classifier", "bert_ff_tiny": "96x0", "bert_mlm_tiny": "48x0"}
    paths = [ROOT / "tests" / "data" / name for name in rows]
    for store in STORES:
        found = zip(rows.items(), verify(fff, "--store", store, *paths),
                    verify(fff, "--store", store, "--exact-routes", *paths))
        for (name, shape), plain, exact in found:
            cells = whole_run(plain)
            if shape.endswith("x0"):  # no routes, and nothing to make exact
                assert whole_run(exact) == cells
                page.expect(f"| {name}, {shape} | {store} | – | {{}} | {{}} of {{}} | – | – | – | – |", *cells[:3])
                continue
            assert exact["store"]["nodes_apart"] == 0
            page.expect(f"| {name}, {shape} | {store} | {{}} of {{}} |" + 2 * WHOLE_RUN, plain["store"]["tokens_apart"],
                        plain["store"]["tokens"], *cells, *whole_run(exact))


def check_minilm(page, fff):
    page.command(f"OPENBLAS_CORETYPE={CORE} fff verify build-minilm --expected tests/data/minilm/sentences.safetensors")
    (model,) = verify(fff, ROOT / "build-minilm", "--expected", ROOT / "tests/data/minilm/sentences.safetensors")
    kernels, dense = model["end_to_end"][0], model["end_to_end"][-1]
    page.expect("{} sentences of the tests' lines, {} tokens,", model["sequences"], model["tokens"])
    page.expect("| kernels, each instruction set | {} | {} | {} |", differing(model), short(kernels["hidden_error"]),
                short(kernels["file"]["embedding"]))
    page.expect("| dense | – | {} | {} |", short(dense["hidden_error"]), short(dense["file"]["embedding"]))
    page.expect("Layer by layer ({} tokens), the worst error is {} % of its bound.", model["layer_tokens"],
                f"{100 * max(isa['bound_used'] for isa in model['isas']):.0f}")


def write_first_sentences(path, count):
    """The first sequences of the recorded sentences and their embeddings, padded to the longest of them."""
    content = (ROOT / "tests/data/minilm/sentences.safetensors").read_bytes()
    begin = 8 + struct.unpack_from("<Q", content)[0]
    tensors = json.loads(content[8:begin])

    def rows(name):
        (_, columns), (first, end) = tensors[name]["shape"], tensors[name]["data_offsets"]
        data = content[begin + first : begin + end]
        return [data[i * 4 * columns : (i + 1) * 4 * columns] for i in range(count)]

    length = max(len(row.rstrip(b"\0")) + 3 for row in rows("attention_mask")) // 4
    header, data = {}, b""
    for name, columns in [("input_ids", length), ("attention_mask", length), ("embedding", tensors["embedding"]["shape"][1])]:
        cut = b"".join(row[: 4 * columns] for row in rows(name))
        header[name] = {"dtype": tensors[name]["dtype"], "shape": [count, columns],
                        "data_offsets": [len(data), len(data) + len(cut)]}
        data += cut
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def check_narrow_minilm(page, fff):
    page.command(f"OPENBLAS_CORETYPE={CORE} fff verify build-minilm --expected first32.safetensors --layer-tokens 64 --store bf16")
    with tempfile.TemporaryDirectory() as folder:
        first = pathlib.Path(folder, "first32.safetensors")
        write_first_sentences(first, 32)
        for store in STORES:
            (model,) = verify(fff, ROOT / "build-minilm", "--expected", first, "--layer-tokens", "64", "--store", store)
            way = model["end_to_end"][0]
            page.expect(f"| MiniLM, {store} | {{}} | {{}} | {{}} | {{}} |", differing(model),
                        short_fraction(model["store"]["difference_rms"]), short(way["hidden_error"]),
                        short(way["file"]["embedding"]))


def write_ids(path, sequences):
    random.seed(1)
    path.write_text("".join(" ".join(map(str, random.choices(range(32768), k=128))) + "\n" for _ in range(sequences)),
                    encoding="utf-8")


def check_narrow_shape(page, fff):
    page.command(f"OPENBLAS_CORETYPE={CORE} fff verify model-bf16 --ids ids4.txt --layer-tokens 64")
    with tempfile.TemporaryDirectory() as folder:
        ids, name = pathlib.Path(folder, "ids4.txt"), pathlib.Path(folder, "model-bf16")
        write_ids(ids, 4)
        subprocess.run([fff, "make-checkpoint", name, "--untied", "--bf16"], check=True)
        for store, exact in [([], False), (["--store", "bf16+i8"], False), (["--store", "i8"], False),
                             (["--store", "i8", "--exact-routes"], True)]:
            (model,) = verify(fff, name, "--ids", ids, "--layer-tokens", "64", *store)
            assert model["store"]["nodes_apart"] == 0 or not exact
            layers = model["end_to_end"][0]["layers"]
            page.expect(f"| {' '.join(store) or 'nothing, so bf16'} | {{}} of {{}} | {{}} of {{}} |" + WHOLE_RUN,
                        model["store"]["tokens_apart"], model["store"]["tokens"],
                        sum(layer["tokens_apart"] for layer in layers), model["tokens"] * len(layers), *whole_run(model))


def check_published_shape(page, fff):
    page.command(f"OPENBLAS_CORETYPE={CORE} fff verify model --ids ids.txt")
    with tempfile.TemporaryDirectory() as folder:
        ids, name = pathlib.Path(folder, "ids.txt"), pathlib.Path(folder, "model")
        write_ids(ids, 128)
        subprocess.run([fff, "make-checkpoint", name, "--untied"], check=True)
        (model,) = verify(fff, name, "--ids", ids)
    kernels, masked = model["end_to_end"][0], model["end_to_end"][-1]
    page.expect("{} sequences of 128 seeded ids: {} tokens", model["sequences"], model["tokens"])
    for template, way in [("| kernels, each of generic, AVX2, AVX-512 | 0 |", kernels), ("| masked dense | – |", masked)]:
        page.expect(template + " {} | {} | {} of {} | {} %, {} % |", short(way["hidden_error"]), short(way["logits_error"]),
                    way["sequences_apart"], model["sequences"], share(way["top1"], way["predictions"]),
                    share(way["top5"], way["predictions"]))
    differing(model)
    layers = [layer["masked"] for layer in model["layers"]]
    page.expect("Layer by layer ({} tokens): the worst error of the kernels {}, at most {} % of its bound in any layer; of the "
                "masked dense layer {} % of its own, wider one; between the two at most {}.", model["layer_tokens"],
                short(max(isa["max_abs_error"] for isa in model["isas"])),
                percent(max(isa["bound_used"] for isa in model["isas"])),
                percent(max(layer["bound_used"] for layer in layers)), short(max(layer["difference"] for layer in layers)))
    assert all(isa["ties"] == 0 for isa in model["isas"])


def cannot_compare(page, fff):
    """Why this machine's figures would be others, or None."""
    (version,) = set(re.findall(r"OpenBLAS (\d+\.\d+\.\d+)", page.text))
    cpu = subprocess.run([fff, "cpu"], stdout=subprocess.PIPE, text=True, check=False).stdout
    if not re.search(r"x86_avx2 +built, usable", cpu):
        return f"this machine cannot run OpenBLAS's {CORE} kernels"
    help_text = subprocess.run([fff, "bert", "x", "--text", "x"], stderr=subprocess.PIPE, text=True, check=False).stderr
    if "built without models" in help_text:
        return "built without models"
    try:
        blas = ctypes.CDLL("libopenblas.so.0")
    except OSError:
        return "no OpenBLAS"
    blas.openblas_get_config.restype = ctypes.c_char_p
    loaded = blas.openblas_get_config().decode()
    return None if f"OpenBLAS {version} " in loaded and "DYNAMIC_ARCH" in loaded else f"{loaded} is not {version}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fff")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--layers", action="store_true")
    which.add_argument("--long", action="store_true")
    parser.add_argument("--update", action="store_true")
    arguments = parser.parse_args()
    page, fff = Page(), str(pathlib.Path(arguments.fff).resolve())
    why = None if arguments.layers else cannot_compare(page, fff)
    if why is not None:
        print(why)
        return 77
    check_leaves_and_forests(page, fff)
    check_narrow_layers(page, fff)
    if not arguments.layers:
        check_authors_models(page, fff)
        check_narrow_models(page, fff)
    if arguments.long:
        check_minilm(page, fff)
        check_published_shape(page, fff)
        check_narrow_minilm(page, fff)
        check_narrow_shape(page, fff)
    if arguments.update:
        PAGE.write_text(page.text, encoding="utf-8")
        return 0
    for line in page.wrong:
        print(f"{PAGE.name}: {line}", file=sys.stderr)
    if page.wrong:
        print(f"scripts/check_equivalence.py {arguments.fff} --update writes what was measured", file=sys.stderr)
    return 1 if page.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
