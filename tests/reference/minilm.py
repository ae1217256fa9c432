"""Makes the reference data in tests/data/minilm: what other programs compute from a trained BERT and real text.

  minilm.py lines      > lines.txt      verses of the King James Bible (the `bible` command of Debian's bible-kjv) and
                                        seeded mixtures of phrases, scripts, punctuation and odd characters
  minilm.py ids MODEL  < lines.txt > ids.txt
                                        their ids by the Python package `tokenizers`
  minilm.py embeddings MODEL sentences.safetensors < lines.txt
                                        the mean of the last hidden states of 256 of them, by `transformers` on PyTorch

MODEL is the folder of all-MiniLM-L6-v2 that scripts/fetch_minilm.sh makes.
"""

import json
import pathlib
import random
import re
import struct
import subprocess
import sys
import unicodedata

BOOKS = "gen exo psa pro isa mat luk act rom rev"
VERSES, MIXTURES, SENTENCES = 1600, 1400, 256

# Written for this test.
PHRASES = """The cat's pyjamas cost £12.50 -- or so they said!
E-mail me at first.last+tag@example.org (before 5 p.m.), please.
naïve café déjà vu, coöperate, façade, Zoë's résumé
Größenwahn, Straße, Äpfel und Öl, ÜBERMUT
El niño comió piñas; ¿qué más?
Crème brûlée à la carte, s'il vous plaît…
Zażółć gęślą jaźń
Příliš žluťoučký kůň úpěl ďábelské ódy
İstanbul'da ışık söndü, DİYARBAKIR
Съешь же ещё этих мягких французских булок
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία
שלום עולם, מה נשמע?
مرحبا بالعالم، كيف الحال؟
नमस्ते दुनिया
สวัสดีชาวโลก
日本語の文章です。東京は大きい。
中文分词测试，你好！
안녕하세요 세계
Tiếng Việt có dấu thanh
x = (a[i] += 3) ? *p++ : ~mask & 0xFF; // comment
https://example.com/path/to?query=1&other=%20two#fragment
#include <stdio.h>
3.14159265358979 1,234,567.89 -40°C 50% 1e-9 ½ ⅔ ² ³
pneumonoultramicroscopicsilicovolcanoconiosis antidisestablishmentarianism
don't can't won't it's we'll they've I'd
"double" 'single' “curly” ‘quotes’ «guillemets» „low“
state-of-the-art mother-in-law — em – en ‑ non-breaking
ﬁne ﬂower ﬃ ligatures, ﬀ
Ⅷ ① ㎏ ㈱ ™ © ® € ¥ ₹ §
A B​C zero‍width­soft﻿bom
the quick brown fox jumps over the lazy dog
HELLO World MiXeD CaSe
[MASK] [CLS] [SEP] [UNK] [PAD] [mask]
ᾳ ᾼ ŉ ǰ ẞ ß ſ K Å
é (composed) é (combining) ö̲ stacked à́̂
😀 👍🏽 🇫🇷 👨‍👩‍👧 emoji
𝒜𝓁𝓅𝒽𝒶 𝟘𝟙𝟚 𐍈
tab	between	words""".split("\n")
ODD = ["\u00a0", "\u2003", "\u3000", "\u200b", "\u00ad", "\ufeff", "\u0085", "\u2028", "\x1c", "\x7f", "\ufffd", "\t",
       "\u0301", "\u0327", "\u0e33", "\uff21", "\uff5e", "\u1e9e", "\u0130", "\u0131", "\u2160", "\U0001f600",
       "\u4e00", "\U00020000", "\uac00", "\u30c9", "\u212b", "…", "—", "’", "`", "^", "~", "|", "$", "+", "<", ">"]


def verses():
    text = subprocess.run(["bible", "-f", *[f"{book}1:1-999:999" for book in BOOKS.split()]],
                          capture_output=True, text=True, check=True).stdout
    return [re.sub(r"^\S+ ", "", line) for line in text.splitlines() if line.strip()]


def make_lines():
    choose = random.Random(2311)
    found = verses()
    step = max(1, len(found) // VERSES)
    lines = found[::step][:VERSES]
    words = sorted({word for line in found[:2000] for word in line.split()})
    for _ in range(MIXTURES):
        parts = []
        for _ in range(choose.randint(1, 6)):
            kind = choose.randint(0, 6)
            if kind <= 2:
                parts.append(choose.choice(PHRASES))
            elif kind == 3:
                parts.append(" ".join(choose.choices(words, k=5)))
            elif kind == 4:
                parts.append("".join(choose.choices(words, k=choose.randint(2, 20))))  # long words
            elif kind == 5:
                parts.append("".join(choose.choices(ODD + list("abcXYZ019 "), k=choose.randint(1, 12))))
            else:
                text = choose.choice(PHRASES)
                at = choose.randint(0, len(text))
                parts.append(text[:at] + choose.choice(ODD) + text[at:])
        lines.append(choose.choice([" ", "", "  "]).join(parts))
    # Lines end at \n alone; each must be some text.
    sys.stdout.write("".join(line + "\n" for line in lines if line.strip() and "\n" not in line))


def read_lines():
    return sys.stdin.buffer.read().decode().split("\n")[:-1]


def make_ids(model):
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    print(f"tokenizers {tokenizers.__version__}", file=sys.stderr)
    for line in read_lines():
        print(*tokenizer.encode(line).ids)


def write_safetensors(path, tensors, metadata):
    header, offset = {"__metadata__": metadata}, 0
    for name, array in tensors.items():
        dtype = {"int32": "I32", "float32": "F32"}[str(array.dtype)]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(array.tobytes() for array in tensors.values()))


def make_embeddings(model, path):
    import numpy
    import tokenizers
    import torch
    import transformers

    lines = [line for line in read_lines() if 20 <= len(line) <= 160]
    lines = lines[:: len(lines) // SENTENCES][:SENTENCES]
    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(lines)
    ids = torch.tensor([e.ids for e in encoded])
    mask = torch.tensor([e.attention_mask for e in encoded])
    bert = transformers.BertModel.from_pretrained(model, add_pooling_layer=False).eval()
    with torch.no_grad():
        hidden = bert(input_ids=ids, attention_mask=mask).last_hidden_state
    weight = mask.unsqueeze(-1).float()
    embedding = (hidden * weight).sum(1) / weight.sum(1)
    write_safetensors(path, {
        "input_ids": ids.numpy().astype(numpy.int32),
        "attention_mask": mask.numpy().astype(numpy.float32),
        "embedding": embedding.numpy(),
    }, {"made_by": f"PyTorch {torch.__version__}, transformers {transformers.__version__}"})


if __name__ == "__main__":
    assert unicodedata.unidata_version >= "14"
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command == "lines":
        make_lines()
    elif command == "ids":
        make_ids(pathlib.Path(sys.argv[2]))
    elif command == "embeddings":
        make_embeddings(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
    else:
        sys.exit(__doc__)
