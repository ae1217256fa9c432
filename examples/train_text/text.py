"""The text: verses of the King James Bible from Debian's packages, a WordPiece vocabulary, windows of tokens with masks."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import training_tools as tools  # noqa: E402

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SEPARATOR, MASK = 3, 4
MASKED = 4  # one token of four
HELD_OUT = 20  # one chapter of twenty
TOKENIZER = Path(__file__).resolve().parent / "tokenizer.json"
DATA = "/usr/lib"  # where Debian puts bible.data


def read_verses() -> list[tuple[str, str]]:
    """Of each verse its chapter and its text."""
    try:
        done = subprocess.run(["bible", "-f", "-p", DATA, "gen1:1-rev22:21"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise tools.NoData(f"no King James text: {error} (Debian: apt-get install bible-kjv bible-kjv-text)") from error
    lines = (line.partition(" ") for line in done.stdout.splitlines())
    verses = [(place.partition(":")[0], text) for place, _, text in lines if text]
    if len(verses) < 31000:
        raise tools.NoData(f"the program `bible` printed {len(verses)} verses, where there should be 31,102")
    return verses


def make_tokenizer(texts: list[str], vocabulary: int):
    """WordPiece as BERT's, lower case; a text ends with [SEP], as in the published configuration. The package breaks ties by chance:
    two calls give some of the pieces other ids. Hence the file."""
    import tokenizers
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.BertNormalizer()
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.decoder = tokenizers.decoders.WordPiece()
    trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=SPECIAL, show_progress=False)
    made.train_from_iterator(texts, trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A [SEP]", pair="$A [SEP] $B:1 [SEP]:1", special_tokens=[("[SEP]", SEPARATOR)])
    return made


@dataclass(frozen=True)
class Corpus:
    training: torch.Tensor  # ids, one after another; each verse ends with [SEP]
    held_out: torch.Tensor
    tokenizer: object

    def unigram_loss(self) -> float:
        """What a model that knows nothing but how frequent each token is would lose on the held-out text."""
        counts = torch.bincount(self.training, minlength=self.tokenizer.get_vocab_size()).double() + 1
        return float(-(counts / counts.sum()).log()[self.held_out].mean())


def read_corpus() -> Corpus:
    verses, tokenizer = read_verses(), tools.read_tokenizer(TOKENIZER)  # of the file, which `python3 text.py` makes: the same ids always
    chapters: dict[str, list[int]] = {}
    for (chapter, _), encoding in zip(verses, tokenizer.encode_batch([text for _, text in verses])):
        chapters.setdefault(chapter, []).extend(encoding.ids)
    parts: tuple[list[int], list[int]] = ([], [])
    for index, ids in enumerate(chapters.values()):
        parts[index % HELD_OUT == HELD_OUT // 2].extend(ids)
    return Corpus(torch.tensor(parts[0]), torch.tensor(parts[1]), tokenizer)


def write_tokenizer(tokenizer, folder: Path) -> None:
    text = json.loads(tokenizer.to_str())
    (folder / "tokenizer.json").write_text(json.dumps(text, ensure_ascii=False, separators=(",", ":")) + "\n")


# ---- Windows ----


@dataclass(frozen=True)
class Batch:
    ids: torch.Tensor  # (windows, length); some of them [MASK], unless the model is causal
    at: torch.Tensor  # what is to be predicted there, as flat indices: those; in a causal model what comes next, everywhere
    right: torch.Tensor  # it


def _masked(windows: torch.Tensor, chosen: torch.Tensor) -> Batch:
    at = chosen.flatten().nonzero().squeeze(1)
    return Batch(windows.masked_fill(chosen, MASK), at, windows.flatten()[at])


def _next(windows: torch.Tensor) -> Batch:
    """Of windows one token longer than the model's."""
    return Batch(windows[:, :-1], torch.arange(windows[:, 1:].numel()), windows[:, 1:].flatten())


def training_batch(ids: torch.Tensor, windows: int, length: int, causal: bool, seed: int, step: int) -> Batch:
    """Windows drawn from anywhere, each with the same number of masks. It depends on nothing but the arguments, so that a run that is
    resumed sees what it would have seen."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    first = torch.randint(0, len(ids) - length, (windows,), generator=generator)
    if causal:
        return _next(ids[first[:, None] + torch.arange(length + 1)])
    order = torch.rand(windows, length, generator=generator).argsort(1)
    return _masked(ids[first[:, None] + torch.arange(length)], order < length // MASKED)


def share(batch: Batch, rank: int, ranks: int) -> Batch:
    """A process's windows; all have as many, and as many masks."""
    windows, length = batch.ids.shape
    first, count = rank * windows // ranks * length, windows // ranks * length
    mine = (batch.at >= first) & (batch.at < first + count)
    return Batch(batch.ids.flatten()[first:first + count].view(-1, length), batch.at[mine] - first, batch.right[mine])


def evaluation_batches(ids: torch.Tensor, length: int, causal: bool, windows: int, most: int) -> list[Batch]:
    """The held-out text in windows, at most `most` of them, spread evenly; every token is masked once, one of four at a time."""
    length += causal
    whole = ids[:len(ids) // length * length].view(-1, length)
    if len(whole) > most:
        whole = whole[torch.linspace(0, len(whole) - 1, most).long()]
    if causal:
        return [_next(part) for part in whole.split(windows)]
    columns = torch.arange(length) % MASKED
    return [_masked(part, (columns == turn).expand_as(part)) for turn in range(MASKED) for part in whole.split(windows)]


if __name__ == "__main__":
    write_tokenizer(make_tokenizer([text for _, text in read_verses()], 2048), TOKENIZER.parent)
