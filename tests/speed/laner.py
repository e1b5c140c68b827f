"""What LANER's label encoder saves against reading every history anew, and what it costs beside a tagger.

Weights are random and labels are made up: lengths as the corpora have them, one word in six in a mention.
"""

import random
from collections.abc import Callable
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmark.corpus.corpus import Sentence, Split
from benchmark.corpus.module import NerModule
from benchmark.models import backbones, training
from benchmark.models.tagging import TaggerModel, tags_of
from benchmark.score.spans import Span, to_tags
from methods.laner import LanerModel, Network

TYPES = [f"type{n}" for n in range(14)]  # as many as ai has
BATCH, LONG, STEPS = 16, 60, 80


def words_of(text: str) -> list[str]:
    """Return the words of a text."""
    return text.split()


COMMON = words_of("the of and in a to was is for on as with by it from at were that which are be also used this its")
ODD = words_of("transformation beamforming eigenvector reparametrize unsupervised thresholding connectionist")
NAMES = words_of(  # three of each type
    "london paris berlin tokyo vienna madrid moscow dublin oslo rome james mary peter anna david laura simon helen "
    "alice henry apple google oxford cambridge harvard yale stanford princeton python java linux windows china japan "
    "france italy spain poland sweden norway brazil canada"
)


def measure() -> list[tuple[str, float, str]]:
    """Return rows (what, ratio, target)."""
    model, ratio = training_steps()
    decoding = [decoding_against_the_loop(model, precision) for precision in ("auto", "32")]
    where = f"B {BATCH}, N {LONG}"
    return [
        (f"label encoder and predictor of laner against the plain loop, {where}", labels_alone(True), "at least 1.7"),
        (f"  without label context, {where}", labels_alone(False), "at least 20"),
        ("a training step of laner against one of tagger, lengths of CoNLL03", ratio, "at most 1.5"),
        ("greedy decoding of 431 sentences as ai's against the authors' way", decoding[0], "at least 6"),
        ("  ours in fp32 too", decoding[1], ""),
    ]


def fastest(times: int, *runs: Callable[[], object]) -> list[float]:
    """Return the least seconds of each, run in turn: the machine may be busy now and then."""
    best = [float("inf")] * len(runs)
    for _ in range(times):
        for n, run in enumerate(runs):
            start = perf_counter()
            run()
            best[n] = min(best[n], perf_counter() - start)
    return best


# ---------------------------------------------------------------------------------------------- made-up text


def sentences(name: str, lengths: list[int], seed: int, mentions: float = 0.1) -> Split:
    """Return sentences of these lengths, in which a word tells its type.

    mentions   how often one begins where none is: 0.1 leaves 83% of the words outside, as in CoNLL03; 0.185, ai's 71%
    """
    chance = random.Random(seed)
    found = []
    for n, length in enumerate(lengths):
        words, spans = [], []
        while len(words) < length:
            if chance.random() < mentions:
                kind, wide = chance.choice(TYPES), min(chance.choice((1, 1, 2, 2, 3)), length - len(words))
                spans.append(Span(len(words), len(words) + wide, kind))
                words.extend(NAMES[3 * TYPES.index(kind) + chance.randrange(3)] for _ in range(wide))
            else:
                words.append(chance.choice(ODD if chance.random() < 0.07 else COMMON))
        found.append(Sentence(f"made/{name}/{n}", tuple(words), tuple(spans)))
    return Split("made", name, tuple(found))


def drawn_lengths(n: int, mean: float, shape: float, seed: int) -> list[int]:
    """Return n lengths of this mean: CoNLL03's are spread wide, ai's less."""
    chance = random.Random(seed)
    return [min(120, max(1, round(chance.gammavariate(shape, mean / shape)))) for _ in range(n)]


# ---------------------------------------------------------------------------------------------- the plain loop


class PlainLoop:
    """The authors' way: the Bi-LSTM reads every history anew, for a batch at once."""

    def __init__(self, model: LanerModel) -> None:
        self.model, size = model, model.network.label_dim
        self.lstm = nn.LSTM(size, size, batch_first=True, bidirectional=True)
        ahead, back = model.labels.ahead.state_dict(), model.labels.back.state_dict()
        self.lstm.load_state_dict({**ahead, **{f"{name}_reverse": value for name, value in back.items()}})

    def score(self, vectors: Tensor, i: int, history: Tensor) -> Tensor:
        """Return the scores of word i of every sentence (B, K), `history` (B, H) being the labels before it."""
        m, word = self.model, vectors[:, i : i + 1]
        e, _ = self.lstm(m.labels.table(history))
        fused = torch.cat([word, (m.w2(e[:, -1:]) @ vectors.mT).softmax(-1) @ vectors], -1)
        if m.w3 is not None:
            fused = torch.cat([fused, (m.w3(fused) @ e.mT).softmax(-1) @ e], -1)
        return m.head(fused)[:, 0]

    def gold(self, vectors: Tensor, classes: Tensor) -> Tensor:
        """Return the scores of every word (B, N, K), histories being gold."""
        start = torch.full_like(classes[:, :1], self.model.labels.blank)
        found = [self.score(vectors, i, classes[:, :i] if i else start) for i in range(vectors.size(1))]
        return torch.stack(found, 1)

    def greedy(self, vectors: Tensor) -> Tensor:
        """Return the tags of every vector (B, N), each history being what was found; padding is tagged as well."""
        found = torch.full((len(vectors), 1), self.model.labels.blank)
        for i in range(vectors.size(1)):
            best = self.score(vectors, i, found[:, 1:] if i else found).argmax(-1)
            found = torch.cat([found, best[:, None]], 1)
        return found[:, 1:]


# ---------------------------------------------------------------------------------------------- what is measured


class Given(nn.Module):
    """An encoder whose word vectors stand in the batch."""

    width = 384  # MiniLM's

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["vectors"]


def labels_alone(context: bool) -> float:
    """Return how many times the plain loop takes of ours, forward and backward, without an encoder."""
    torch.manual_seed(1)
    model = LanerModel(Given(), TYPES, Network(label_context=context))
    number = {tag: i for i, tag in enumerate(tags_of(TYPES))}
    split = sentences("train", [LONG] * BATCH, seed=1)
    classes = torch.tensor([[number[tag] for tag in to_tags(LONG, s.spans)] for s in split.sentences])
    vectors = torch.randn(BATCH, LONG, Given.width, requires_grad=True)
    words = torch.ones_like(classes, dtype=torch.bool)
    loop = PlainLoop(model)

    def plain() -> None:
        cross_entropy(loop.gold(vectors, classes).flatten(0, 1), classes.flatten()).backward()

    def ours() -> None:
        model.training_step({"vectors": vectors, "words": words, "classes": classes}, 0).backward()

    ours()
    slow, fast = fastest(3, plain, ours)
    return slow / fast


def training_steps() -> tuple[LanerModel, float]:
    """Return a trained LANER with MiniLM, and how many times its steps take of the tagger's, batch by batch."""
    number = {tag: i for i, tag in enumerate(tags_of(TYPES))}
    backbone = backbones.find("minilm")
    data = NerModule(
        backbones.features(backbone),
        train=sentences("train", drawn_lengths(BATCH * STEPS, 14.5, 1.6, seed=2), seed=2),
        classes=lambda sentence: [number[tag] for tag in to_tags(len(sentence.words), sentence.spans)],
        batch=BATCH,
        seed=1,
    )
    used = training.resolve_precision("auto")
    tagger = TaggerModel(backbones.encoder(backbone), TYPES, crf=False).train()
    laner = LanerModel(backbones.encoder(backbone), TYPES, Network()).train()
    adams = {model: torch.optim.AdamW(model.parameters(), lr=5e-4, fused=True) for model in (tagger, laner)}
    seconds = dict.fromkeys(adams, 0.0)
    for n, batch in enumerate(data.train_dataloader()):
        for model, adam in adams.items():
            start = perf_counter()
            with training.autocast(used):
                loss = model.training_step(batch, 0)
            adam.zero_grad()
            loss.backward()
            adam.step()
            seconds[model] += perf_counter() - start if n > 2 else 0.0
    return laner, seconds[laner] / seconds[tagger]


def decoding_against_the_loop(model: LanerModel, precision: str) -> float:
    """Return how many times the authors' way takes of ours to decode sentences as ai's, encoder included.

    Their way: in the order of the file, fp32, every sub-word labelled, and with gradients on, as their evaluation has
    them.
    """
    split = sentences("test", drawn_lengths(431, 30.1, 4.3, seed=3), seed=3, mentions=0.185)
    features = backbones.features(backbones.find("minilm"))
    model.eval()
    loop = PlainLoop(model)
    rows = [features.encode(s.words)[0] for s in split.sentences]

    def plain() -> None:
        for at in range(0, len(rows), BATCH):
            batch = features.collate(rows[at : at + BATCH])
            every = torch.arange(batch["ids"].size(1)).expand_as(batch["ids"])
            loop.greedy(model.encoder({**batch, "first": every}))

    used = training.resolve_precision(precision)
    data = NerModule(features, predict=split, batch=32)
    found = model.decode(data, "predict", precision=used)
    o_share = sum(tag == "O" for tags in found for tag in tags) / split.n_words
    assert 0.5 < o_share < 0.95, f"labels must be realistic; {o_share:.0%} are O"
    slow, fast = fastest(2, plain, lambda: model.decode(data, "predict", precision=used))
    return slow / fast


if __name__ == "__main__":
    for what, ratio, target in measure():
        print(f"{what:80} {ratio:6.2f}   target: {target}")
