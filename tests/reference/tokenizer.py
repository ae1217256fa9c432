"""Makes tests/data/tokenizer.json: small tokenizers, texts, and their ids by Hugging Face's programs.

  tokenizer.py > tests/data/tokenizer.json

`tokenizers` alone gives the ids of a tokenizer.json; `transformers` those of a folder with a tokenizer_config.json.
Characters that are newer than Unicode 8 are left out: the tables of `tokenizers` do not have them all.
"""

import itertools
import json
import pathlib
import sys
import tempfile

import tokenizers
import transformers

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PIECES = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", *LETTERS, *("##" + letter for letter in LETTERS)]
PIECES += ["i\u0307", "##\u0307", "\u0307", "\u0130", "##\u0130", "\u03c3", "##\u03c3", "\u03c2", "##\u03c2", "\u03b1",
           "##\u03b1", "\u00e9", "##\u00e9", "e\u0301", "##e\u0301", "\u00df", "\u00e5", "\u212b", "fi", "\ufb01", "\u4e16",
           "\u754c", "\u4e16\u754c", "\uac00", "\u1100\u1161", ".", ",", "-", "_", "the", "tokyo", "##tower", "##s", "saw",
           "and", "T", "##T", "H", "##H", "1", "##1", "\u0939\u093f", "\u0939"]
VOCABULARY = {piece: id for id, piece in enumerate(dict.fromkeys(PIECES))}
TEXTS = ["\u0130stanbul \u0130", "I\u0307 i\u0307", "\u03a3\u0391\u03a3 \u03b1\u03a3", "Caf\u00c9 cafe\u0301 CAFE\u0301", "\u00df \u1e9e",
         "\u212b \u00c5 A\u030a", "\ufb01n \ufdfa", "\u4e16\u754c a\u4e16b", "\uac00 \u1100\u1161", "a\u0301\u0316 a\u0316\u0301",
         "a\u200bb\u00adc\ufffd\x01d\x9be\ue000f", "a\tb\nc\r\u0085d\u00a0e\u2028f\u3000g", "\u0939\u093f a\u20ddb", "T.h-e_ T,",
         "  the  ", "\u3000the\u00a0", "", " "]


def bert(clean=True, chinese=True, strip=None, lower=True):
    return {"type": "BertNormalizer", "clean_text": clean, "handle_chinese_chars": chinese, "strip_accents": strip,
            "lowercase": lower}


def sequence(*parts):
    return {"type": "Sequence", "normalizers": [{"type": part} if isinstance(part, str) else part for part in parts]}


def replace(old, new):
    return {"type": "Replace", "pattern": {"String": old}, "content": new}


def token(content, **flags):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": False, **flags}


def make(normalizer=None, added=(), pre="BertPreTokenizer", post=None, vocabulary=None, prefix="##", longest=100):
    vocabulary = dict(vocabulary or VOCABULARY)
    ids, following = dict(vocabulary), itertools.count(len(vocabulary))
    tokens = []
    for entry in added:
        if entry["content"] not in ids:
            ids[entry["content"]] = next(following)
        tokens.append({"id": ids[entry["content"]], **entry})
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens, "normalizer": normalizer,
            "pre_tokenizer": {"type": pre} if pre else None, "post_processor": post, "decoder": None,
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": prefix,
                      "max_input_chars_per_word": longest, "vocab": vocabulary}}


def normalizer_cases():
    for flags in itertools.product((True, False), (True, False), (None, True, False), (True, False)):
        yield f"BertNormalizer {flags}", make(bert(*flags)), TEXTS
    single = ["Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents"]
    for name in single:
        yield name, make({"type": name}, pre="WhitespaceSplit"), TEXTS
        yield f"{name}, then Lowercase", make(sequence(name, "Lowercase")), TEXTS
    yield "NFD, StripAccents, Lowercase", make(sequence("NFD", "StripAccents", "Lowercase"), pre=None), TEXTS
    for left, right in itertools.product((True, False), (True, False)):
        strip = {"type": "Strip", "strip_left": left, "strip_right": right}
        yield f"Strip {left} {right}", make(strip, pre=None, added=[token("a")]), ["  the a the ", "\u3000the\u2028", "   ", "a"]
    yield "Prepend", make({"type": "Prepend", "prepend": "s"}, added=[token("a")]), ["aw a saw", "", "a", "\u00e9"]
    for old, new in (("aw", "a"), ("aa", "a"), ("", "s"), ("a", ""), ("A", "aA"), ("\u0130", "i")):
        yield f"Replace {old!r}", make(sequence(replace(old, new), "Lowercase")), ["saw aaaaa A\u0130", "", "a", "Aw"]


def token_cases():
    near = [" ", "", "s", "\u0301", "_", "-", "1", "\u2167", "\u24b6", "\u200d", "\u4e16", "\u00a0", "\u20dd", "\u00b2"]
    texts = [f"I saw{before}Ab{after}cd" for before in near for after in (" ", "s")]
    texts += [f"I saw {after}Ab{after}cd" for after in near]
    texts += ["Ab", "AbAb", "ab AB", " Ab ", "xAb", "Abx", "Ab.", "ab  Ab  Ab", "Ab\n\u3000\tAb"]
    for flags in itertools.product((False, True), repeat=4):
        chosen = dict(zip(("normalized", "single_word", "lstrip", "rstrip"), flags))
        yield f"added token {chosen}", make(bert(), [token("Ab", **chosen)]), texts
    text = "I saw TokyoTower and tokyotower, tokyotowers"
    for flags in itertools.product((False, True), repeat=2):
        chosen = dict(zip(("normalized", "single_word"), flags))
        yield f"tokyotower {chosen}", make(bert(), [token("tokyotower", **chosen)]), [text, text.upper()]
    overlapping = [token("ab"), token("abc"), token("bc", normalized=True), token("cab", single_word=True), token("d d")]
    yield "overlapping", make(None, overlapping), ["abcab", "ababc", "xabcx cab cabs", "d d d d", "bcab bc", "abab cab,cab"]
    spaces = [token("a", rstrip=True), token("  "), token(" b", lstrip=True), token("c", lstrip=True, rstrip=True)]
    yield "white space taken twice", make(None, spaces), ["a   the", "a    the  b", "c   c  c", "  c  ", "a  x"]
    yield "also in the vocabulary", make(bert(), [token("the"), token("[MASK]", lstrip=True, special=True)]), [
        "the thea athe", "a [MASK] the[MASK]", "[mask] [MASK"]
    yield "never a word's piece", make(bert(), [token("##xyz"), token("qq", single_word=True)]), ["axyz xyz", "aqq qqa qq"]
    twice = make(bert(), [token("Ab"), token("Ab", lstrip=True, normalized=True)])
    yield "named twice", twice, ["saw Ab", "saw ab"]
    yield "normalised otherwise", make(sequence("NFD", "Lowercase"), [token("\u00c9", normalized=True)]), ["\u00e9 e\u0301 e", "x\u00c9x"]


def other_cases():
    for longest in (0, 1, 3):
        yield f"words of {longest}", make(longest=longest), ["a ab abc abcd", "a\u0301b\u00e9"]
    yield "no prefix", make(prefix="", vocabulary={"[UNK]": 0, "a": 1, "ab": 2, "b": 3, "bc": 4}), ["abab abc cb", "aabb"]
    yield "holes", make(vocabulary={"[UNK]": 0, "a": 7, "##b": 4}, added=[token("zz")]), ["ab zz a"]
    yield "unknown as a whole", make(), ["the! abc? a!b \U0001f600a"]
    around = {"type": "TemplateProcessing", "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
              "single": [{"SpecialToken": {"id": "x", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                         {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
              "special_tokens": {"x": {"id": "x", "ids": [1, 3], "tokens": ["[CLS]", "[PAD]"]},
                                 "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]}}}
    yield "template", make(post=around), ["the", ""]
    yield "BertProcessing", make(post={"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]}), ["the", ""]


def encode(made, texts):
    """Their ids; without the few texts at which `tokenizers` itself panics."""
    for text in texts:
        try:
            yield [text, made.encode(text).ids]
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            print(f"left out: {text!r}: {error}", file=sys.stderr)


def with_tokenizers():
    for name, file, texts in itertools.chain(normalizer_cases(), token_cases(), other_cases()):
        made = tokenizers.Tokenizer.from_str(json.dumps(file))
        yield {"name": name, "files": {"tokenizer.json": file}, "texts": [*encode(made, texts)]}


def folders():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "The", "the", "Cat", "cat", "cafe", "caf\u00e9", "\u4e16", "\u754c",
              "\u4e16\u754c", "<s>", "</s>", "<m>", "a", "##b"]
    lines = "".join(piece + "\n" for piece in pieces)
    special = {"__type": "AddedToken", **token("<m>", lstrip=True)}
    configs = [{}, {"do_lower_case": False}, {"do_lower_case": False, "strip_accents": True}, {"strip_accents": False},
               {"tokenize_chinese_chars": False},
               '{"model_max_length": 1000000000000000019884624838656, "tokenizer_class": "BertTokenizer"}',
               {"cls_token": "<s>", "sep_token": "</s>", "mask_token": special},
               {"added_tokens_decoder": {"19": token("Tok", single_word=True, normalized=True), "20": token("tik")}}]
    for config in configs:
        yield {"vocab.txt": lines, "tokenizer_config.json": config}
    yield {"vocab.txt": lines}
    yield {"vocab.txt": lines.replace("\n", "\r\n") + "\r\n\r\n"}
    yield {"vocab.txt": lines.replace("the\n", "the \u3000\n")}
    yield {"vocab.txt": lines, "special_tokens_map.json": {"cls_token": "<s>", "sep_token": token("</s>")}}
    yield {"vocab.txt": lines, "tokenizer_config.json": {}, "added_tokens.json": {"Tok": 19, "tik": 20}}
    vocabulary = {piece: id for id, piece in enumerate(pieces)}
    post = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    for lower, said, name in itertools.product((True, False), (True, False), ("BertTokenizer", "PreTrainedTokenizerFast")):
        added = [token(piece, special=True) for piece in pieces[:5]]
        yield {"tokenizer.json": make(bert(lower=lower), added, post=post, vocabulary=vocabulary),
               "tokenizer_config.json": {"do_lower_case": said, "tokenizer_class": name}}


def with_transformers():
    texts = ["The Cat", "the caf\u00e9 cafe", "\u4e16\u754c a", "a [MASK] <m>ab", "Tok tok Toks tik Tiks", "<s> [CLS]"]
    for files in folders():
        with tempfile.TemporaryDirectory() as folder:
            for name, content in {"config.json": {"model_type": "bert"}, **files}.items():
                text = content if isinstance(content, str) else json.dumps(content)
                (pathlib.Path(folder) / name).write_bytes(text.encode())
            made = transformers.AutoTokenizer.from_pretrained(folder)
        name = "folder: " + json.dumps({key: value for key, value in files.items() if key.endswith("_config.json")})
        yield {"name": name, "files": files, "texts": [[text, made(text)["input_ids"]] for text in texts]}


cases = [*with_tokenizers(), *with_transformers()]
# The vocabulary of most of them stands once.
for case in cases:
    model = case["files"].get("tokenizer.json", {}).get("model", {})
    if model.get("vocab") == VOCABULARY:
        model["vocab"] = None
json.dump({"made_by": f"tokenizers {tokenizers.__version__}, transformers {transformers.__version__}",
           "vocab": VOCABULARY, "cases": cases}, sys.stdout, separators=(",", ":"))
print()
