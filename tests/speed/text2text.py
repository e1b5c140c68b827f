"""What text-to-text models save by dynamic padding and by batches, and what grounding costs.

The model has the shape of flan-t5-base and random weights; made-up text has the lengths of CoNLL03, and MiniLM's
sub-words. A prompt has options and the sentence; with the instruction it is three times as long. Generation writes the
gold, so that lengths are as they would be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import T5Config, T5ForConditionalGeneration

from benchmark.models import backbones, grammar, training
from benchmark.models.text2text import Hub, Prompting, Row, TextModel, TextPairs, Texts
from benchmark.score.spans import Span
from tests.speed.laner import TYPES, drawn_lengths, fastest, sentences

BATCH, WRITE_BATCH, TRAINED, WRITTEN = 8, 32, 48, 96
PROMPT, TARGET = 256, 128  # what everything is padded to
OPTIONS = {kind: kind for kind in TYPES[:4]}  # as many as CoNLL03 has


def measure() -> list[tuple[str, float, str]]:
    """Return rows (what, ratio, target)."""
    torch.manual_seed(1)
    texts, instructed = (Texts(backbones.find("minilm-seq2seq"), Prompting("typed", flag)) for flag in (False, True))
    model = TextModel(Gold(base()))
    precision = training.resolve_precision("auto")
    one_by_one, grounded = writing(model, texts, precision)
    return [
        (
            f"training flan-t5-base's shape padded to {PROMPT}/{TARGET} against ours, {precision}",
            padding(model, texts, precision),
            "at least 4",
        ),
        ("  with the instruction in every prompt", padding(model, instructed, precision), ""),
        ("generation sentence by sentence against ours, in buckets of 32", one_by_one, "at least 5"),
        ("grounded decoding against free", grounded, "at most 1.2"),
    ]


def base() -> T5ForConditionalGeneration:
    """Return a model of flan-t5-base's shape (its config.json), with random weights."""
    config = T5Config(
        d_model=768, d_kv=64, d_ff=2048, num_layers=12, num_heads=12, vocab_size=32128, dropout_rate=0.1,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=0,
    )  # fmt: skip
    return T5ForConditionalGeneration(config)


class Gold(Hub):
    """A model whose scores are thrown away for those of the gold."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.gold: dict[tuple[int, ...], list[int]] = {}  # a prompt -> what is to be written

    def step(self, last: Tensor, states: Tensor, mask: Tensor, ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
        at = cache.get_seq_length()
        scores, cache = super().step(last, states, mask, ids, cache)
        prompts = (row[:size] for row, size in zip(ids.tolist(), mask.sum(1).tolist(), strict=True))
        wanted = [(*self.gold[tuple(prompt)], 0)[: at + 1][-1] for prompt in prompts]
        return scores.scatter(1, torch.tensor(wanted)[:, None], float(scores.max()) + 1), cache


def rows_of(texts: Texts, n: int, seed: int) -> list[Row]:
    """Return the rows of made-up sentences whose types are the options."""
    split = sentences("train", drawn_lengths(n, 14.5, 1.6, seed=seed), seed=seed)
    few = {kind: TYPES[n % len(OPTIONS)] for n, kind in enumerate(TYPES)}
    kept = [replace(s, spans=tuple(Span(a, b, few[kind]) for a, b, kind in s.spans)) for s in split.sentences]
    return [row for number, sentence in enumerate(kept) for row in texts.rows(number, sentence, OPTIONS)]


def padding(model: TextModel, texts: Texts, precision: str) -> float:
    """Return how many times training takes with everything padded of what it takes with each batch padded."""
    data = TextPairs(texts, rows_of(texts, TRAINED, seed=1), batch=BATCH, seed=1)
    ours = list(data.train_dataloader())
    padded = [wide(batch, texts.pad) for batch in ours]
    model.train()

    def train(batches: Sequence[Mapping[str, Tensor]]) -> None:
        for batch in batches:
            with training.autocast(precision):
                loss = model.training_step(batch, 0)
            loss.backward()
            model.zero_grad()

    train(ours[:1])
    slow, fast = fastest(2, lambda: train(padded), lambda: train(ours))
    return slow / fast


def wide(batch: Mapping[str, Tensor], filling: int) -> dict[str, Tensor]:
    """Return a batch padded to PROMPT and TARGET."""
    fill = {"ids": filling, "before": filling, "target": -100}
    sizes = {"target": TARGET, "before": TARGET}
    return {k: pad(x, (0, sizes.get(k, PROMPT) - x.size(1)), value=fill.get(k, 0)) for k, x in batch.items()}


def writing(model: TextModel, texts: Texts, precision: str) -> tuple[float, float]:
    """Return how many times generation takes one by one, and how many times grounded of free."""
    rows = rows_of(texts, WRITTEN, seed=2)
    made = grammar.nodes(texts.shape, list(OPTIONS.values()), texts.encode, texts.end)
    model.net.gold = {tuple(row.ids): row.target for row in rows}

    def write(batch: int, nodes: grammar.Nodes | None) -> float:
        start = perf_counter()
        written = model.write(texts, rows, nodes, batch=batch, precision=precision)
        assert written == [row.target[:-1] for row in rows]
        return perf_counter() - start

    write(WRITE_BATCH, made)
    free, grounded = fastest(3, lambda: write(WRITE_BATCH, None), lambda: write(WRITE_BATCH, made))
    return write(1, None) / free, grounded / free


if __name__ == "__main__":
    for what, ratio, target in measure():
        print(f"{what:80} {ratio:6.2f}   target: {target}")
