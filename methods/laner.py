"""LANER: a word's label is predicted from its vector and from the labels of the words before it.

Paper    Hu et al., "A Label-Aware Autoregressive Framework for Cross-Domain NER", 2022, section 2
Eq. 1    gold history in training     LanerModel.forward
         own history, greedy          greedy
Eq. 2    h_i, a word's vector         the encoder, by way of LanerModel.tokens
Eq. 3    e_1 .. e_{i-1}               LabelEncoder: forward_halves, backward_halves; Reader when decoding
Eq. 4-6  label background h^b_i       label_background
Eq. 7-8  label context e^c_i          label_context
Eq. 9-10 fusion u_i and the head      LanerModel.scores
Table 3  without LC, LB, both         label_context, label_background: false. Without LB, Eq. 7 takes h_i alone; without
                                      both what is left is the tagger of `methods/tagger.py`. BERT+CRF is `tagger` too
Table 4  in-domain                    target_only
Sec. 2.3 DAPT                         dapt: pre-train, then source, then target; then no two targets share
Fig. 3   label dimension              label_dim
Source   trained for a fixed number of epochs, the last one kept: one source model serves every target
Target   a type that the source shares keeps its label embeddings and its rows of the head; new ones start fresh
Joint    source and target at once, with the target's epochs and rates; the head knows the labels of both
Departs  The paper leaves i = 1 open: there the history is one learned start label, gone from i = 2 on. Labels sit on
         words, each the vector of its first sub-word. Padding is masked everywhere. Each corpus has its own label
         space. A sentence longer than the encoder takes is read in windows, each with a history of its own. Adam is
         AdamW with no decay, and a new one for the target. Eq. 3-10 are computed in fp32 whatever the precision.
Code     Where the authors' code parts from the paper, a setting follows it: `first_token_head`, `sub_word_labels`,
         `masks`, `label_space`, `zero_o`; what each does stands beside it. Not followed: one Adam over both stages,
         and two layers for the head of [CLS], which nothing trains and for which one random layer stands here.
Fast     The authors run the Bi-LSTM on every history anew. Forward, a history's states are the first of the next one's:
         once is enough. Backward, the state at y_k in the history that ends with y_j hangs on y_k .. y_j alone, and
         equal strings of labels, most of them O, are read once.
Shapes   B sentences, N tokens (words; sub-words with `sub_word_labels`), T words, L sub-words, M tokens attended to,
         I tokens predicted at once (N in training, 1 in greedy decoding), H labels in the longest history, K tags,
         D encoder's hidden size (d_1), E label dimension (d_2), U distinct strings of labels
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding, pad

from benchmark.corpus.corpus import Sentence, Split
from benchmark.corpus.module import NerModule
from benchmark.corpus.transfer import Transfer, once
from benchmark.errors import PlanError, Unsupported
from benchmark.models import backbones, training
from benchmark.models.backbones import Backbone
from benchmark.models.tagging import MASKED, Recipe, merge, tags_of
from benchmark.run.dapt import adapting
from benchmark.run.method import Method
from benchmark.run.stage import Stage
from benchmark.score.protocols import Prediction, strict_counts, write_predictions
from benchmark.score.spans import from_tags, to_tags
from benchmark.work import Work

Find = Callable[[str, str | None], Backbone]
State = tuple[Tensor, Tensor]  # an LSTM's h and c

GROUP = 1 << 15  # tokens, padding included, that are decoded together
TREE_BYTES = 1 << 27  # of states that greedy decoding keeps


@dataclass(frozen=True)
class Network:
    """What the model is made of."""

    label_background: bool = True
    label_context: bool = True
    label_dim: int = 100
    first_token_head: bool = False
    sub_word_labels: bool = False
    masks: bool = True
    zero_o: bool = False

    def ingredient(self) -> dict[str, Any]:
        """Return what goes into a stage's key."""
        return dict(vars(self))


@dataclass(frozen=True)
class Settings:
    """The settings of LANER; the defaults are the paper's (section 3.3, table 5), and its code's where it is silent."""

    encoder: str = "bert-base-cased"
    revision: str | None = None  # of a hub id; None: the one in the hub's cache, else the newest, written down
    target_only: bool = False  # table 4: the source is not used
    source_epochs: int = 2  # the authors' code; the paper is silent
    source_lr: float | None = None  # None: lr
    source_batch: int | None = None  # None: batch
    epochs: int = 100
    patience: int | None = 16  # the authors' code
    dev_every: int = 1  # epochs between two looks at dev
    lr: float = 5e-5
    head_lr: float | None = None  # of all that is not the encoder; None: lr
    batch: int = 16
    warmup: float = 0.0
    schedule: Literal["constant", "linear"] = "constant"
    weight_decay: float = 0.0
    clip: float | None = None
    precision: Literal["auto", "32", "bf16"] = "auto"
    dapt: str | None = None  # text to go on pre-training with: `target` (words of its train and dev), a file, a dataset
    dapt_epochs: int = 15  # CrossNER's; the paper is silent on all of it
    dapt_lr: float = 5e-5
    dapt_batch: int = 16
    dapt_share: float = 0.15  # of the words that are masked
    label_background: bool = True  # LB of table 3
    label_context: bool = True  # LC of table 3
    label_dim: int = 100  # of the embeddings and of each direction of the Bi-LSTM
    # The authors' code, where it parts from the paper. Their variant has true, true, false, target, true.
    first_token_head: bool = False  # [CLS] opens every history: unlabelled in training, at test a random layer's class
    sub_word_labels: bool = False  # every sub-word is in the history (all but a word's first unlabelled in training, at
    # test with the class predicted there, which nothing supervised), and Eq. 5 attends to [CLS] and [SEP] too
    masks: bool = True  # false: the encoder and Eq. 5 see padding, so that a score depends on its batch
    label_space: Literal["own", "target"] = "own"  # target: the target's labels, and those of the source, both stages
    zero_o: bool = False  # O is the padding index of the label embedding, which stays zero

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        Recipe.check(self, counts=("label_dim", "dapt_epochs", "dapt_batch"), amounts=("head_lr", "dapt_lr"))
        if not 0 < self.dapt_share < 1:
            raise ValueError(f"dapt_share is a share of all words, above 0 and under 1; found {self.dapt_share}.")

    def network(self) -> Network:
        """Return what the model is made of."""
        return Network(
            label_background=self.label_background,
            label_context=self.label_context,
            label_dim=self.label_dim,
            first_token_head=self.first_token_head,
            sub_word_labels=self.sub_word_labels,
            masks=self.masks,
            zero_o=self.zero_o,
        )


# ---------------------------------------------------------------------------------------------- equations


def lstm_step(gates: Tensor, state: State, weight: Tensor) -> State:
    """Return the state of an LSTM after one more label (Eq. 3).

    gates    (R, 4E)   what the label adds to the gates
    state    (R, E) each
    weight   (4E, E)   from the state to the gates
    """
    h, c = state
    let, keep, new, show = torch.addmm(gates, h, weight.T).chunk(4, -1)
    c = keep.sigmoid() * c + let.sigmoid() * new.tanh()
    return show.sigmoid() * c.tanh(), c


def label_background(last: Tensor, tokens: Tensor, mask: Tensor, w2: nn.Linear) -> Tensor:
    """Return h^b: the tokens of the sentence, weighed by the label history's last state (Eq. 4-6).

    last      (B, I, 2E)   e_{i-1}
    tokens    (B, M, D)    h_1 .. h_M
    mask      (B, M)       where there is a token
    returns   (B, I, D)
    """
    query = w2(last)  # Eq. 4
    weights = (query @ tokens.mT).masked_fill(~mask[:, None], -torch.inf).softmax(-1)  # Eq. 5
    return weights @ tokens  # Eq. 6


def label_context(about: Tensor, forward: Tensor, backward: Tensor, seen: Tensor, w3: nn.Linear) -> Tensor:
    """Return e^c: the states of the label history, weighed by what is known of the token (Eq. 7-8).

    The halves of a state are scored and summed apart: the forward ones are the same for every i.

    about      (B, I, D or 2D)   h_i and h^b_i
    forward    (B, H, E)         forward halves of e_1 .. e_H
    backward   (B, I, H, E)      backward halves, for each i its own
    seen       (I, H)            which labels are in the history of i
    returns    (B, I, 2E)
    """
    ahead, back = w3(about).chunk(2, -1)  # Eq. 7
    scores = ahead @ forward.mT + (backward @ back[..., None]).squeeze(-1)  # (B, I, H)
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return torch.cat([weights @ forward, (weights[:, :, None] @ backward).squeeze(2)], -1)  # Eq. 8


class Strings(NamedTuple):
    """The distinct label strings of a batch that the backward LSTM reads."""

    levels: list[tuple[Tensor, Tensor]]  # a length's strings: each one of the length before, and one label more
    number: Tensor  # (B, N, N), [b, i, k]: which of all strings is c_k .. c_i; 0 where there is none


def label_strings(history: Tensor, sizes: Tensor, n_labels: int) -> Strings:
    """Return the strings that the backward LSTM reads: of every history, each ending of it, from its end.

    history   (B, N)   c_i, the newest label in the history of token i
    sizes     (B, N)   labels in that history; 0 for padding
    """
    width = history.size(1)
    size, order = sizes.flatten().sort(descending=True)  # histories that go on stand before those that have ended
    row, end = order // width, order % width
    going = (size > torch.arange(int(size[0]), device=size.device)[:, None]).sum(1).tolist()
    number = history.new_zeros(*history.shape, width)
    levels, string, before = [], torch.zeros_like(order), 0
    for length, n in enumerate(going):
        row, end = row[:n], end[:n]
        label = history[row, end - length]
        found, string = (string[:n] * n_labels + label).unique(return_inverse=True)
        levels.append((found // n_labels, found % n_labels))
        number[row, end, end - length] = string + before
        before += len(found)
    return Strings(levels, number)


# ---------------------------------------------------------------------------------------------- the label encoder


class Read(NamedTuple):
    """Label histories, read (Eq. 3)."""

    last: Tensor  # (B, I, 2E), e_{i-1}
    forward: Tensor  # (B, H, E), forward halves of e_1 .. e_H: the same for every i
    backward: Tensor | None  # (B, I, H, E), backward halves; None where label context is not wanted
    seen: Tensor  # (I, H), which of them are in the history of i


class LabelEncoder(nn.Module):
    """The label embeddings U and the Bi-LSTM over a label history (Eq. 3).

    Labels are the K tags and `blank`: the start label, and what has no label. A history is told by c_0 .. c_{N-1}, of
    which c_i is the newest label that token i sees: c_0 is the start label, c_i the label y_i of the token before.

    keeps_first   whether c_0 stays in the histories of tokens that have others
    """

    def __init__(self, n_tags: int, size: int, *, zero_o: bool, keeps_first: bool) -> None:
        super().__init__()
        self.blank = n_tags
        self.keeps_first = keeps_first
        self.table = nn.Embedding(n_tags + 1, size, padding_idx=0 if zero_o else None)
        self.ahead = nn.LSTM(size, size, batch_first=True)
        self.back = nn.LSTM(size, size, batch_first=True)

    def gates(self, lstm: nn.LSTM) -> Tensor:
        """Return what each label adds to the gates of a direction (K+1, 4E)."""
        embeddings = self.table(torch.arange(self.blank + 1, device=self.table.weight.device))
        return embeddings @ lstm.weight_ih_l0.T + lstm.bias_ih_l0 + lstm.bias_hh_l0

    def seen(self, n: int) -> Tensor:
        """Return which of c_0 .. c_{n-1} are in the history of each of n tokens (N, N)."""
        k = torch.arange(n, device=self.table.weight.device)
        stays = (k > 0) | (k[:, None] == 0) | self.keeps_first
        return (k <= k[:, None]) & stays

    def nothing(self, n: int) -> State:
        """Return the state of an LSTM that has read no label, for n histories."""
        zero = self.table.weight.new_zeros(n, self.table.embedding_dim)
        return zero, zero

    def forward_halves(self, history: Tensor) -> Tensor:
        """Return the forward halves of all e_k (B, N, E)."""
        embedded = self.table(history)
        runs = [embedded] if self.keeps_first else [embedded[:, :1], embedded[:, 1:]]
        return torch.cat([self.ahead(run)[0] for run in runs if run.size(1)], 1)

    def last_backward(self) -> Tensor:
        """Return the backward half of e_{i-1} for each label that may stand there (K+1, E)."""
        gates = self.gates(self.back)
        return lstm_step(gates, self.nothing(len(gates)), self.back.weight_hh_l0)[0]

    def read(self, history: Tensor, present: Tensor, *, context: bool) -> Read:
        """Return the states of all histories of a batch.

        history   (B, N)   c_0 .. c_{N-1}
        present   (B, N)   where there is a token
        """
        forward = self.forward_halves(history)
        last = torch.cat([forward, embedding(history, self.last_backward())], -1)
        backward = self.backward_halves(history, present) if context else None
        return Read(last, forward, backward, self.seen(history.size(1)))

    def backward_halves(self, history: Tensor, present: Tensor) -> Tensor:
        """Return the backward half of every e_k in every history (B, N, N, E), [b, i, k]; arbitrary where not seen.

        present   (B, N)   where there is a token
        """
        sizes = self.seen(history.size(1)).sum(1) * present
        levels, number = label_strings(history, sizes, self.blank + 1)
        gates, state, halves = self.gates(self.back), self.nothing(1), []
        for shorter, label in levels:
            # `embedding` picks rows as an index would; its backward pass takes a fifth of the time
            before = embedding(shorter, state[0]), embedding(shorter, state[1])
            state = lstm_step(embedding(label, gates), before, self.back.weight_hh_l0)
            halves.append(state[0])
        return embedding(number, torch.cat(halves))


class Reader:
    """Reads label histories that grow (Eq. 3), for greedy decoding.

    The backward halves are a tree: the path of a history begins at the root with its newest label and goes back, so
    that histories of the same ending share it, and what was read for one is there for all. A node holds the state after
    its label. When TREE_BYTES are full, a new tree is begun.
    """

    def __init__(self, labels: LabelEncoder) -> None:
        self.labels, self.n_labels, self.size = labels, labels.blank + 1, labels.table.embedding_dim
        self.gates_ahead, self.gates_back = labels.gates(labels.ahead), labels.gates(labels.back)
        self.last_backward = labels.last_backward()
        self.states = self.gates_back.new_empty(0, 2 * self.size)  # (nodes, 2E), h and c
        self.used = 0

    def ahead(self, label: Tensor, state: State) -> State:
        """Return the states of the forward half after one more label (B, E)."""
        return lstm_step(self.gates_ahead[label], state, self.labels.ahead.weight_hh_l0)

    def nodes(self, history: Tensor) -> Tensor:
        """Return where the backward half of every e_k in every history stands.

        history   (B, H)   the oldest label first
        returns   (B, H)   for `halves`, until `nodes` is asked again
        """
        labels = history.cpu().numpy()
        if self.used + labels.size > len(self.states):
            self._begin(labels.size)
        nodes, node = np.empty_like(labels), np.zeros_like(labels[:, 0])
        for k in reversed(range(labels.shape[1])):
            nodes[:, k] = node = self._children(node, labels[:, k])
        return torch.from_numpy(nodes).to(history.device)

    def halves(self, nodes: Tensor) -> Tensor:
        """Return the backward halves that stand there (B, H, E)."""
        return embedding(nodes, self.states)[..., : self.size]

    def _begin(self, at_least: int) -> None:
        """Begin a tree that has room for so many nodes."""
        room = 1 + max(at_least, TREE_BYTES // (2 * self.size * self.gates_back.element_size()))
        self.states = self.gates_back.new_empty(room, 2 * self.size)
        self.states[0] = 0
        self.edges = np.zeros(room * self.n_labels, dtype=np.int64)  # where a label leads from a node; 0: nowhere yet
        self.used = 1

    def _children(self, node: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Return the nodes that labels lead to, one from each node. Those that are not there yet are made.

        Two rows that ask for the same new node get one each, and the last is the one that stays: few do.
        """
        edge = node * self.n_labels + label
        child = self.edges[edge]
        new = np.flatnonzero(child == 0)
        if new.size:
            end = self.used + new.size
            child[new] = self.edges[edge[new]] = np.arange(self.used, end)
            device = self.states.device
            h, c = embedding(torch.from_numpy(node[new]).to(device), self.states).chunk(2, -1)
            gates = embedding(torch.from_numpy(label[new]).to(device), self.gates_back)
            torch.cat(lstm_step(gates, (h, c), self.labels.back.weight_hh_l0), -1, out=self.states[self.used : end])
            self.used = end
        return child


# ---------------------------------------------------------------------------------------------- the model


class Tokens(NamedTuple):
    """What a batch of sentences is to the label encoder and predictor."""

    vectors: Tensor  # (B, N, D), of what carries labels
    present: Tensor  # (B, N), False at padding
    places: Tensor  # (B, T), where among the N each word stands; -1 for no word
    keys: Tensor  # (B, M, D), what Eq. 5 attends to
    mask: Tensor  # (B, M)
    opening: Tensor | None  # (B, D), [CLS] for the first-token head


class LanerModel(pl.LightningModule):
    """A word encoder, a label encoder, and the label predictor (section 2.2)."""

    def __init__(self, encoder: nn.Module, types: Sequence[str], network: Network) -> None:
        super().__init__()
        self.encoder, self.types, self.network = encoder, list(types), network
        self.tags = tags_of(types)
        k, d, e = len(self.tags), int(encoder.width), network.label_dim
        about = 2 * d if network.label_background else d  # h_i, and h^b_i
        self.head = nn.Linear(about + 2 * e if network.label_context else about, k)  # W_o
        self.labels = self.w2 = self.w3 = self.opening = None
        if network.label_background or network.label_context:
            self.labels = LabelEncoder(k, e, zero_o=network.zero_o, keeps_first=network.first_token_head)
        if network.label_background:
            self.w2 = nn.Linear(2 * e, d)
        if network.label_context:
            self.w3 = nn.Linear(about, 2 * e)
        if network.first_token_head:
            self.opening = nn.Linear(d, k).requires_grad_(False)
        self.recipe = Recipe(epochs=1)
        self.steps = 1

    def tokens(self, batch: dict[str, Tensor]) -> Tokens:
        """Return the vectors of a batch (Eq. 2): of its words, or of its sub-words with `sub_word_labels`."""
        words, net, opening = batch["words"], self.network, None
        if "first" not in batch:  # the backbone reads words whole: it has neither sub-words nor [CLS]
            hidden = self.encoder(batch).float()
        else:
            everywhere = torch.arange(batch["ids"].size(1), device=words.device).expand_as(batch["ids"])
            read = everywhere if net.sub_word_labels else batch["first"]
            mask = batch["mask"] if net.masks else torch.ones_like(batch["mask"])
            if net.first_token_head:
                read = pad(read, (1, 0))
            hidden = self.encoder({**batch, "first": read, "mask": mask}).float()
            if net.first_token_head:
                opening, hidden = hidden[:, 0], hidden[:, 1:]
            if net.sub_word_labels:
                start = int(batch["first"][0, 0])  # before it stands what is no word's
                present = everywhere[:, start:] <= batch["first"].amax(1, keepdim=True)  # behind it no word begins
                places = (batch["first"] - start).masked_fill(~words, -1)
                return Tokens(hidden[:, start:], present, places, hidden, mask, opening)
        places = torch.arange(words.size(1), device=words.device).expand_as(words).masked_fill(~words, -1)
        return Tokens(hidden, words, places, hidden, words if net.masks else torch.ones_like(words), opening)

    def scores(self, vectors: Tensor, keys: Tensor, mask: Tensor, read: Read | None) -> Tensor:
        """Return the scores of the tags of tokens whose label histories have been read (B, I, K).

        vectors   (B, I, D)   h_i
        keys      (B, M, D)   what Eq. 5 attends to, with its mask (B, M)
        read      None where neither label background nor label context is wanted
        """
        fused = vectors
        if self.w2 is not None:
            fused = torch.cat([fused, label_background(read.last, keys, mask, self.w2)], -1)
        if self.w3 is not None:
            context = label_context(fused, read.forward, read.backward, read.seen, self.w3)
            fused = torch.cat([fused, context], -1)  # Eq. 9, 10
        return self.head(fused)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the scores of the tags of every token (B, N, K) given the gold labels before it, and gold (B, N)."""
        tokens, classes = self.tokens(batch), batch["classes"]
        n = tokens.vectors.size(1)
        places = tokens.places.where(tokens.places >= 0, n)  # no word: into a column that is cut off
        gold = classes.new_full((len(classes), n + 1), -100).scatter_(1, places, classes)[:, :n]
        with torch.autocast(classes.device.type, enabled=False):
            read = None
            if self.labels is not None:
                known = gold.masked_fill(gold < 0, self.labels.blank)
                history = pad(known[:, :-1], (1, 0), value=self.labels.blank)
                read = self.labels.read(history, tokens.present, context=self.w3 is not None)
            return self.scores(tokens.vectors, tokens.keys, tokens.mask, read), gold

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """Return the mean loss of a word."""
        scores, gold = self(batch)
        return cross_entropy(scores.flatten(0, 1), gold.flatten(), ignore_index=-100)

    def configure_optimizers(self) -> Any:
        """Return AdamW as the recipe says."""
        r = self.recipe
        return training.optimizer(
            self,
            lr=r.lr,
            head_lr=r.head_lr,
            weight_decay=r.weight_decay,
            steps=self.steps,
            warmup=r.warmup,
            schedule=r.schedule,
        )

    @torch.inference_mode()
    def decode(
        self, data: NerModule, part: str, *, precision: str, allowed: Sequence[str] | None = None
    ) -> list[list[str]]:
        """Return one tag a word for every sentence of a part of `data`.

        allowed   the types that may be predicted; None: all that the head knows
        """
        self.eval()
        device = backbones.device()
        self.to(device)
        known = set(self.types if allowed is None else allowed)
        forbidden = torch.tensor([tag != "O" and tag[2:] not in known for tag in self.tags], device=device)
        reader = Reader(self.labels) if self.labels is not None else None
        answers: dict[int, list[str]] = {}
        waiting: list[tuple[list[int], Greedy]] = []

        def answer() -> None:
            found = greedy(self, [batch for _, batch in waiting], reader)
            for rows, best in zip([rows for rows, _ in waiting], found, strict=True):
                answers.update(zip(rows, ([self.tags[number] for number in numbers] for numbers in best), strict=True))
            waiting.clear()

        for batch in data.loader(part, seed=None):
            batch = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
            with training.autocast(precision):
                tokens = self.tokens(batch)
            waiting.append((batch["rows"].tolist(), Greedy(self, tokens, forbidden)))
            if sum(batch.history.numel() for _, batch in waiting) >= GROUP:
                answer()
        answer()
        return data.join(part, answers, "O")

    def take_over(self, other: "LanerModel") -> list[str]:
        """Copy all of `other` but what belongs to tags that it does not know. Returns the types taken over."""
        shared = [(i, other.tags.index(tag)) for i, tag in enumerate(self.tags) if tag in other.tags]
        here, there = torch.tensor(shared).T
        theirs = other.state_dict()
        for name, own in self.state_dict().items():
            if name.startswith(("head.", "opening.")):
                own[here] = theirs[name][there]
            elif name == "labels.table.weight":
                own[here], own[-1] = theirs[name][there], theirs[name][-1]  # the last is `blank`
            else:
                own.copy_(theirs[name])
        return [name for name in self.types if name in other.types]

    def save(self, folder: Path, backbone: Backbone, extra: Mapping[str, Any]) -> None:
        """Write weights and description into a folder."""
        save_file(
            {name: value.contiguous().cpu() for name, value in self.state_dict().items()}, folder / "model.safetensors"
        )
        about = {"backbone": asdict(backbone), "types": self.types, "network": asdict(self.network), **extra}
        (folder / "model.json").write_text(json.dumps(about, indent=1), encoding="utf8")

    @classmethod
    def load(cls, folder: Path) -> tuple["LanerModel", Backbone]:
        """Read what `save` wrote. The weights of the backbone are read from `folder`, its tokenizer from its home."""
        about = json.loads((folder / "model.json").read_text(encoding="utf8"))
        backbone = Backbone(**about["backbone"])
        model = cls(backbones.encoder(backbone), about["types"], Network(**about["network"]))
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model, backbone


# ---------------------------------------------------------------------------------------------- greedy decoding


class Greedy:
    """A batch of sentences while its labels are found token by token, the longest sentence first.

    forbidden   (K,)   the tags that may not be predicted
    """

    def __init__(self, model: LanerModel, tokens: Tokens, forbidden: Tensor) -> None:
        length = tokens.present.sum(1)
        order = length.argsort(descending=True)
        self.model, self.forbidden, self.places, self.back = model, forbidden, tokens.places, order.argsort()
        # How many sentences have a token i: those that have none stand behind.
        self.going = (length[:, None] > torch.arange(int(length.max()), device=length.device)).sum(0).tolist()
        self.vectors, self.mask = tokens.vectors[order], tokens.mask[order]
        self.keys = self.vectors if tokens.keys is tokens.vectors else tokens.keys[order]
        self.history = self.places.new_full((len(order), 1 + self.vectors.size(1)), len(model.tags))  # c_0, c_1, ..
        if tokens.opening is not None:
            self.history[:, 0] = self.best(model.opening(tokens.opening[order]))
        self.state, self.forward = None, self.vectors.new_zeros(*self.vectors.shape[:2], model.network.label_dim)

    def best(self, scores: Tensor) -> Tensor:
        """Return the best tag among those that may be predicted."""
        return scores.masked_fill(self.forbidden, MASKED).argmax(-1)

    def seen(self, i: int) -> slice:
        """Return which labels are in the history of token i."""
        return slice(0 if i == 0 or self.model.network.first_token_head else 1, i + 1)

    def step(self, i: int, reader: Reader | None, nodes: Tensor | None) -> None:
        """Find the label of token i of every sentence that has one.

        nodes   where the backward halves of their histories stand; None where label context is not wanted
        """
        n, seen, read = self.going[i], self.seen(i), None
        if reader is not None:
            newest = self.history[:n, i]
            begins = i == seen.start
            self.state = reader.ahead(newest, reader.labels.nothing(n) if begins else [x[:n] for x in self.state])
            self.forward[:n, i] = self.state[0]
            read = Read(
                last=torch.cat([self.state[0], reader.last_backward[newest]], -1)[:, None],
                forward=self.forward[:n, seen],
                backward=None if nodes is None else reader.halves(nodes)[:, None],
                seen=torch.ones(1, i + 1 - seen.start, dtype=torch.bool, device=newest.device),
            )
        scores = self.model.scores(self.vectors[:n, i : i + 1], self.keys[:n], self.mask[:n], read)
        self.history[:n, i + 1] = self.best(scores[:, 0])

    def found(self) -> list[list[int]]:
        """Return the tags of the words."""
        tags = self.history[self.back, 1:].gather(1, self.places.clamp(min=0))
        words = (self.places >= 0).sum(1).tolist()
        return [numbers[:n] for numbers, n in zip(tags.tolist(), words, strict=True)]


def greedy(model: LanerModel, batches: Sequence[Greedy], reader: Reader | None) -> list[list[list[int]]]:
    """Return the best tag of each word given the tags found before it, for every sentence of every batch.

    Batches of sentences go forward together, so that each string of labels is read once for all.
    """
    for i in range(max((len(batch.going) for batch in batches), default=0)):
        going = [batch for batch in batches if i < len(batch.going)]
        sizes = [batch.going[i] for batch in going]
        nodes: Sequence[Tensor | None] = [None] * len(going)
        if reader is not None and model.w3 is not None:
            histories = [batch.history[:n, batch.seen(i)] for batch, n in zip(going, sizes, strict=True)]
            nodes = reader.nodes(torch.cat(histories)).split(sizes)
        for batch, its_nodes in zip(going, nodes, strict=True):
            batch.step(i, reader, its_nodes)
    return [batch.found() for batch in batches]


# ---------------------------------------------------------------------------------------------- the steps


def train_laner(
    work: Work,
    *,
    backbone: Backbone,
    init: Path | None,
    train: Sequence[Split],
    dev: Split | None,
    types: Sequence[str],
    network: Network,
    recipe: Recipe,
    seed: int,
    allowed: Sequence[str] | None = None,
    adapted: Path | None = None,
) -> None:
    """Train LANER and write it as an artefact.

    init    another one to start from; None: the backbone's pre-trained weights and all else fresh
    train   splits, trained jointly; their span types are labels
    dev     chooses the epoch by strict F1 of greedy decoding; None: the last epoch is kept
    types   the labels of the head; a span of another type is refused
    allowed the labels that dev may be tagged with; None: all
    adapted the artefact of `masking.adapt`, whose encoder stands for the backbone's; None: the backbone's own
    """
    training.prepare(seed, work.threads)
    merged = merge(train)
    strange = {span.type for s in merged.sentences for span in s.spans or ()} - set(types)
    if strange:
        raise PlanError(
            f"{merged.corpus} {merged.name} has spans of the types {', '.join(sorted(strange))}, and the labels are "
            f"{', '.join(types)}; the plan must bind a label for every type."
        )
    model = LanerModel(backbones.encoder(backbone, adapted), types, network)
    taken = model.take_over(LanerModel.load(init)[0]) if init is not None else []
    number = {tag: i for i, tag in enumerate(model.tags)}

    def classes(sentence: Sentence) -> list[int]:
        return [number[tag] for tag in to_tags(len(sentence.words), sentence.spans or ())]

    data = NerModule(
        backbones.features(backbone),
        train=merged,
        dev=dev,
        classes=classes,
        batch=recipe.batch,
        seed=seed,
        cache=work.cache,
    )
    model.recipe = recipe
    model.steps = recipe.epochs * len(data.train_dataloader())
    used = training.resolve_precision(recipe.precision)
    gold = [] if dev is None else [to_tags(len(s.words), s.spans or ()) for s in dev.sentences]

    def dev_f1() -> float:
        found = model.decode(data, "dev", precision=used, allowed=allowed)
        model.train()
        return strict_counts(gold, found).all.f1

    fitted = training.fit(
        model,
        data,
        work,
        epochs=recipe.epochs,
        precision=recipe.precision,
        score=None if dev is None else dev_f1,
        patience=recipe.patience,
        every=recipe.dev_every,
        clip=recipe.clip,
    )
    model.save(work.folder, backbone, {"taken_over": taken, "fitted": asdict(fitted)})
    (work.folder / "about.json").write_text(json.dumps({"precision": fitted.precision}), encoding="utf8")


def tag_laner(
    work: Work,
    *,
    model: Path,
    words: Split,
    names: Mapping[str, str],
    precision: str,
    seed: int,
) -> None:
    """Tag words with a trained LANER and write predictions.jsonl: tags as emitted, and the spans that are legal.

    names   label -> the name that the prediction carries; a label without one is never predicted
    """
    training.prepare(seed, work.threads)
    laner, backbone = LanerModel.load(model)
    used = training.resolve_precision(precision)
    data = NerModule(backbones.features(backbone), predict=words, batch=32, cache=work.cache)
    found = laner.decode(data, "predict", precision=used, allowed=list(names))
    rename = {f"{p}-{label}": f"{p}-{name}" for label, name in names.items() for p in "BI"} | {"O": "O"}
    predictions = []
    for sentence, tags in zip(words.sentences, found, strict=True):
        emitted = tuple(rename[t] for t in tags)
        predictions.append(Prediction(sentence.id, tuple(from_tags(emitted)), tags=emitted))
    write_predictions(work.folder / "predictions.jsonl", predictions)
    (work.folder / "about.json").write_text(json.dumps({"precision": used}), encoding="utf8")


# ---------------------------------------------------------------------------------------------- the plan


class Laner(Method):
    """Source training, then the target; or both at once; or the target alone."""

    Settings = Settings
    adds = True

    def __init__(self) -> None:
        """Look each encoder up once for all the cells that one Laner plans."""
        self.find: Find = cache(backbones.find)

    def plan(self, transfer: Transfer, settings: Settings, seed: int) -> Stage:
        """Return the stage that tags the test words.

        Raises Unsupported for an order or a selection that LANER cannot do.
        """
        s, spec, target = settings, transfer.spec, transfer.target
        if spec.order == "merge":
            raise Unsupported("LANER does not merge models; say `order: sequence` or `order: joint`.")
        if s.target_only and spec.regime == "zero-shot":
            raise Unsupported("with target_only there is nothing to learn from in zero-shot.")
        if s.target_only and spec.select == "source-dev":
            raise Unsupported(
                "with target_only there is no source to select on; say `select: target-dev` or `select: last`."
            )
        sources = [d.relabel(d.identities) for d in transfer.sources]
        own = target.relabel(target.identities)
        own_types = tuple(target.identities.values())
        learned = [own.train, *(d.relabel(d.identities).train for d in transfer.added)]
        added_types = (span.type for split in learned[1:] for x in split.sentences for span in x.spans or ())
        last_types = tuple(dict.fromkeys((*own_types, *added_types)))
        source_types = tuple(dict.fromkeys(i for d in sources for i in d.identities.values()))
        all_types = tuple(dict.fromkeys((*last_types, *source_types)))
        if s.label_space == "target" and sources and not s.target_only:
            labels_of_source, labels_of_target = all_types, all_types
        else:
            labels_of_source, labels_of_target = source_types, last_types

        gold = [d.train for d in sources]
        dev = own.dev if spec.select == "target-dev" else None
        source_devs = [d.dev for d in sources if d.dev is not None] if spec.select == "source-dev" else []
        source_dev = _merged(source_devs) if source_devs else None
        train = self._trainer(transfer, s, seed)
        if s.target_only or spec.regime == "in-domain":
            allowed = {} if dev is None or last_types == own_types else {"allowed": own_types}
            model = train(learned, dev, last_types, source=False, **allowed)
        elif spec.regime == "zero-shot":
            model = train(gold, source_dev, labels_of_source, source=True)
        elif spec.order == "joint":
            # dev is read as test will be
            allowed = {} if dev is None else {"allowed": own_types}
            model = train([*gold, *learned], dev or source_dev, all_types, source=False, **allowed)
        elif spec.select == "source-dev":
            raise Unsupported(
                "in sequence the head ends as the target's, so source dev cannot select it; "
                "say `order: joint`, or select on target-dev or last."
            )
        else:
            allowed = {} if dev is None or labels_of_target == own_types else {"allowed": own_types}
            before = train(gold, None, labels_of_source, source=True)
            model = train(learned, dev, labels_of_target, source=False, init=before, **allowed)
        return Stage(
            tag_laner,
            title=f"{transfer.test.corpus} seed {seed}",
            size=float(transfer.test.n_words),
            model=model,
            words=transfer.test,
            names={identity: key for key, identity in target.identities.items()},
            precision=s.precision,
            seed=seed,
        )

    def _trainer(self, transfer: Transfer, s: Settings, seed: int) -> Callable[..., Stage]:
        """Return what makes the training stages of one cell."""
        backbone = self.find(s.encoder, s.revision)
        adapted = adapting(
            transfer, seed, backbone, s.dapt, epochs=s.dapt_epochs, lr=s.dapt_lr, batch=s.dapt_batch,
            share=s.dapt_share, precision=s.precision,
        )  # fmt: skip
        left_out = [] if s.label_background else ["without LB"]
        left_out += [] if s.label_context else ["without LC"]

        def train(
            splits: Sequence[Split],
            dev: Split | None,
            types: Sequence[str],
            *,
            source: bool,
            init: Stage | None = None,
            **more: Any,
        ) -> Stage:
            recipe = Recipe.of(s, source=source, selects=dev is not None)
            if adapted is not None and init is None:
                more["adapted"] = adapted
            told = [
                s.encoder,
                "LANER",
                *(["DAPT"] if adapted is not None else []),
                *left_out,
                *(["after the source"] if init is not None else []),
            ]
            return Stage(
                train_laner,
                title=f"{'+'.join(x.corpus for x in splits)} ({', '.join(told)}) seed {seed}",
                size=float(recipe.epochs * sum(x.n_words for x in splits)),
                backbone=backbone,
                init=init,
                train=tuple(splits),
                dev=dev,
                types=tuple(types),
                network=s.network(),
                recipe=recipe,
                seed=seed,
                **more,
            )

        return train


def _merged(splits: Sequence[Split]) -> Split:
    return once(splits[0], ("merged", *(split.hash for split in splits)), lambda: merge(splits))
