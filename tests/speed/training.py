"""What Lightning and the harness add to training, and what bf16 and padding by need save."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch

from benchmark.corpus.corpus import Sentence, Split, load
from benchmark.corpus.module import NerModule
from benchmark.models import backbones, training
from benchmark.models.tagging import Recipe, TaggerModel, train_tagger
from benchmark.score.spans import to_tags
from benchmark.work import Work

SENTENCES = int(os.environ.get("CDNER_SPEED_SENTENCES", "2000"))
BATCH = 32


def measure() -> list[tuple[str, float, str]]:
    """Return rows (what, ratio, target): an epoch of `tagger` with MiniLM on CoNLL03, or on the demo source."""
    threads = torch.get_num_threads()
    name = "conll2003" if os.environ.get("CDNER_DATA") else "demo-news"
    split = load(name).train
    split = Split(split.corpus, split.name, split.sentences[:SENTENCES])
    types = sorted({span.type for s in split.sentences for span in s.spans or ()})
    case = Case(split, types)
    ours, bare, half, full, padded = (
        median_of(2, lambda: case.ours(threads)),
        median_of(2, lambda: case.bare("bf16")),
        *(median_of(1, lambda p=p: case.bare(p)) for p in ("bf16", "32")),  # type: ignore[misc]
        median_of(1, lambda: case.bare("32", pad_to=128)),
    )
    where = f"{len(split.sentences):,} sentences of {name}, batch {BATCH}"
    return [
        (f"an epoch of tagger against the bare loop, {where}", ours / bare, "at most 1.15"),
        ("  fp32 against bf16, equal batches", full / half, "at least 1.9"),
        ("  fp32 padded to 128 against ours", padded / half, "at least 4"),
    ]


def median_of(times: int, measured: "object") -> float:
    """Return the least of some measurements."""
    return min(measured() for _ in range(times))  # type: ignore[operator]


@dataclass(frozen=True)
class Case:
    """One epoch over one split."""

    split: Split
    types: list[str]

    def classes(self, sentence: Sentence) -> list[int]:
        tags = ["O", *(f"{p}-{t}" for t in self.types for p in "BI")]
        return [tags.index(tag) for tag in to_tags(len(sentence.words), sentence.spans or ())]

    def ours(self, threads: int) -> float:
        """Return the seconds of one epoch as a stage runs it, less loading weights and tokenizing, done before."""
        with tempfile.TemporaryDirectory() as folder:
            times = []
            for epochs in (1, 2):
                work = Work(Path(folder), Path(folder) / "cache", threads)
                start = perf_counter()
                train_tagger(
                    work, backbone=backbones.find("minilm"), init=None, train=[self.split], dev=None, types=self.types,
                    crf=False, recipe=Recipe(epochs, batch=BATCH, precision="bf16"), seed=1,
                )  # fmt: skip
                times.append(perf_counter() - start)
        return times[1] - times[0]

    def bare(self, precision: str, pad_to: int | None = None) -> float:
        """Return the seconds of one epoch of a plain PyTorch loop over the same batches."""
        torch.manual_seed(1)
        backbone = backbones.find("minilm")
        model = TaggerModel(backbones.encoder(backbone), self.types, crf=False).train()
        data = NerModule(backbones.features(backbone), train=self.split, classes=self.classes, batch=BATCH, seed=1)
        loader = data.train_dataloader()
        adam = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True)
        batches = list(loader)
        start = perf_counter()
        for batch in batches:
            if pad_to is not None:
                short = pad_to - batch["ids"].size(1)
                batch = {**batch, "ids": pad(batch["ids"], short), "mask": pad(batch["mask"], short)}
            with training.autocast(precision):
                loss = model.training_step(batch, 0)
            adam.zero_grad()
            loss.backward()
            adam.step()
        return perf_counter() - start


def pad(tensor: torch.Tensor, short: int) -> torch.Tensor:
    """Return (B, L) with `short` zeros behind."""
    return torch.nn.functional.pad(tensor, (0, max(0, short)))


if __name__ == "__main__":
    for what, ratio, target in measure():
        print(f"{what:80} {ratio:6.2f}   target: {target}")
