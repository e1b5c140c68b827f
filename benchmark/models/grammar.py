"""What grounded decoding may write: runs of the sentence's own sub-words, types among the options, a format's marks.

A grammar is an automaton over sub-words. Its nodes are of two kinds: those of the format (marks and types), the same
for every sentence, and one a position of the sentence, entered at the first sub-word of a word and left behind the last
one of a word. Every node is entered by one sub-word. Which nodes a text may stand at is a set, for marks may look like
mentions; a batch of such sets is moved on by a matrix product and a comparison, and the sub-words that may follow are
those of the nodes that can be entered.

Mentions stand in the order of the sentence: none begins before the end of the one before it, and where no word is left
none is announced. So no text goes on for ever, and none is stuck.

Shapes: B sentences, F nodes of the format, L sub-words of a prompt, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmark.models.formats import Format, Item
from benchmark.score.grounding import Place

VERSION = 1  # rises when a change here could change what is written or read

Encode = Any  # text -> sub-word numbers, none of them special


@dataclass(frozen=True)
class Nodes:
    """The nodes of a format with its options, the first of them where a text begins.

    token   the sub-word by which each node is entered; -1 for the first
    follow  (F, F), [a, b]: b may follow a
    opens   (F,), a mention may begin behind it
    closes  (F,), it may follow the end of a mention
    leads   (F,), behind it a mention has to come before the text may end
    kind    what a node stands for: the name of a type at the type's last sub-word, else ""
    end     the node that ends the text
    source  the same for source types
    """

    token: Tensor
    follow: Tensor
    opens: Tensor
    closes: Tensor
    leads: Tensor
    kind: tuple[str, ...]
    end: int
    source: tuple[str, ...]

    def to(self, device: torch.device) -> "Nodes":
        """Return the same nodes on a device."""
        moved: dict[str, Any] = {k: x.to(device) for k, x in vars(self).items() if isinstance(x, Tensor)}
        return replace(self, **moved)


MENTION = -1  # stands among nodes for a mention of the sentence


class _Builder:
    """Puts nodes one behind another."""

    def __init__(self) -> None:
        self.token, self.kind, self.source = [-1], [""], [""]
        self.follow: list[tuple[int, int]] = []

    def chain(self, before: Sequence[int], tokens: Sequence[int], kind: str = "", source: str = "") -> list[int]:
        """Add a node a token behind those of `before`; return where that ends."""
        for number, token in enumerate(tokens, start=1):
            self.token.append(token)
            self.kind.append(kind if number == len(tokens) else "")
            self.source.append(source if number == len(tokens) else "")
            node = len(self.token) - 1
            self.follow.extend((one, node) for one in before)
            before = [node]
        return list(before)


def nodes(shape: Format, options: Sequence[str], encode: Encode, end: int, sources: Sequence[str] = ()) -> Nodes:
    """Return the nodes of a format.

    options   names of types
    encode    text -> sub-word numbers
    end       the sub-word that ends a text
    sources   names of source types, for a format that has them
    Raises ValueError for a format in which one mention may follow another without a mark.
    """
    made = _Builder()
    before, opening = [0], []
    for number, part in enumerate(shape.parts):
        if number % 2 == 0:
            before = made.chain(before, encode(part))
        elif part == "type":
            before = [node for name in options for node in made.chain(before, encode(name), kind=name)]
        elif part == "source":
            before = [node for name in sources for node in made.chain(before, encode(name), source=name)]
        else:
            opening.extend(before)
            before = [MENTION]
    firsts = [node for one, node in made.follow if one == 0]
    again = made.chain(before, encode(shape.separator))
    made.follow.extend((one, node) for one in again for node in firsts)
    if 0 in opening:
        if MENTION in again:
            raise ValueError(f"the format {shape.name!r} has no mark between two mentions.")
        opening.extend(again)
    nothing = made.chain([0], encode(shape.nothing))
    [last] = made.chain([*before, *nothing], [end])
    size = len(made.token)
    follow, opens, closes = (
        torch.zeros(size, size),
        torch.zeros(size, dtype=torch.bool),
        torch.zeros(size, dtype=torch.bool),
    )
    for one, other in made.follow:
        if one == MENTION:
            closes[other] = True
        else:
            follow[one, other] = 1.0
    opens[opening] = True
    ending = {last}
    while more := {one for one, other in made.follow if other in ending and one != MENTION} - ending:
        ending |= more
    leads = torch.tensor([node not in ending for node in range(size)])
    return Nodes(torch.tensor(made.token), follow, opens, closes, leads, tuple(made.kind), last, tuple(made.source))


class Sentences(NamedTuple):
    """The sub-words of a batch of prompts, and which of them may be copied.

    ids      (B, L)
    begins   (B, L), the first sub-word of a word of the sentence
    ends     (B, L), the last one of a word
    inside   (B, L), of the sentence at all
    """

    ids: Tensor
    begins: Tensor
    ends: Tensor
    inside: Tensor

    def pick(self, rows: Tensor) -> "Sentences":
        """Return some of them."""
        return Sentences(*(x[rows] for x in self))


@dataclass
class Standing:
    """Where the texts of a batch may stand: nodes of the format (B, F) and positions of the sentence (B, L).

    behind   (B,), the position behind the last mention that has ended, where it stood first
    """

    nodes: Nodes
    sentences: Sentences
    at: Tensor
    here: Tensor
    behind: Tensor

    @classmethod
    def start(cls, made: Nodes, sentences: Sentences) -> "Standing":
        """Return where nothing has been written."""
        at = torch.zeros(len(sentences.ids), len(made.token), dtype=torch.bool, device=sentences.ids.device)
        at[:, 0] = True
        return cls(made, sentences, at, torch.zeros_like(sentences.inside), torch.zeros_like(sentences.ids[:, 0]))

    def enterable(self) -> tuple[Tensor, Tensor]:
        """Return which nodes (B, F) and positions (B, L) the next sub-word may enter."""
        made, found = self.nodes, self.sentences
        place = torch.arange(found.ids.size(1), device=found.ids.device)
        left = self.here & found.ends
        last = place.where(found.begins, -1).amax(1, keepdim=True)
        stays = last >= self.behind[:, None]  # a word is left behind the mention before
        comes = last > left.int().argmax(1, keepdim=True)  # and behind the one that may end here
        nodes = (self.at.float() @ made.follow > 0) & (stays | ~made.leads)
        nodes |= left.any(1, keepdim=True) & made.closes & (comes | ~made.leads)
        opened = (self.at & made.opens).any(1, keepdim=True)
        ahead = torch.zeros_like(self.here)
        ahead[:, 1:] = self.here[:, :-1] & found.inside[:, 1:]
        return nodes, ahead | (opened & found.begins & (place >= self.behind[:, None]))

    def allowed(self, vocabulary: int) -> Tensor:
        """Return the sub-words that may come next (B, V)."""
        nodes, positions = self.enterable()
        size = len(nodes)
        found = torch.zeros(size, vocabulary + 1, dtype=torch.bool, device=nodes.device)  # the last column is nobody's
        nobody = torch.full_like(self.sentences.ids, vocabulary)
        found.scatter_(1, torch.where(positions, self.sentences.ids, nobody), True)
        tokens = self.nodes.token.expand(size, -1)
        found.scatter_(1, torch.where(nodes, tokens, torch.full_like(tokens, vocabulary)), True)
        return found[:, :vocabulary]

    def move(self, chosen: Tensor) -> None:
        """Go on by one sub-word a text (B,)."""
        nodes, positions = self.enterable()
        self.at = nodes & (self.nodes.token == chosen[:, None])
        left = self.here & self.sentences.ends
        ended = left.any(1) & (self.at & self.nodes.closes).any(1)
        self.behind = torch.where(ended, left.int().argmax(1) + 1, self.behind)
        self.here = positions & (self.sentences.ids == chosen[:, None])

    def keep(self, rows: Tensor) -> None:
        """Forget all but some texts."""
        self.sentences, self.at = self.sentences.pick(rows), self.at[rows]
        self.here, self.behind = self.here[rows], self.behind[rows]


# ---------------------------------------------------------------------------------------------- what was written


class State(NamedTuple):
    """Where one way of reading a text stands.

    at       a node of the format; behind them the positions of the sentence
    behind   the position behind the last mention; 0 inside of one
    """

    at: int
    behind: int


class Written(NamedTuple):
    """What was read of a grounded text.

    places   the words that each item copied, as (start, end), end exclusive
    whole    whether the text was whole
    """

    items: list[Item]
    places: list[Place]
    whole: bool


def read(made: Nodes, written: Sequence[int], pieces: Sequence[Sequence[int]], words: Sequence[str]) -> Written:
    """Return the items of a grounded text, each with the words of the sentence that it copied.

    The sub-words say which words were meant even where they do not spell them (unknown letters, folded case). Of equal
    ways, a mention is a mention rather than a mark, and stands as early as it can behind the one before it.

    written   sub-words, without the one that ends the text
    pieces    sub-words of each word
    """
    ids = [token for piece in pieces for token in piece]
    owner = [number for number, piece in enumerate(pieces) for _ in piece]
    begins = {at for at in range(len(ids)) if at == 0 or owner[at] != owner[at - 1]}
    ends = {at for at in range(len(ids)) if at + 1 == len(ids) or owner[at] != owner[at + 1]}
    size = len(made.token)
    token = made.token.tolist()
    follow: dict[int, list[int]] = {}
    for one, other in made.follow.nonzero().tolist():
        follow.setdefault(one, []).append(other)
    closes = made.closes.nonzero().flatten().tolist()
    opens = set(made.opens.nonzero().flatten().tolist())

    def after(state: State) -> list[State]:
        """Return the states behind one."""
        at, behind = state.at - size, state.behind
        if at < 0:
            opened = sorted(n for n in begins if n >= behind) if state.at in opens else []
            return [*(State(n, behind) for n in follow.get(state.at, ())), *(State(size + n, 0) for n in opened)]
        on = [State(state.at + 1, 0)] if at + 1 < len(ids) else []
        return on + [State(n, at + 1) for n in closes if at in ends]

    def entered_by(state: State) -> int:
        return int(token[state.at]) if state.at < size else ids[state.at - size]

    layers: list[dict[State, State]] = [{State(0, 0): State(0, 0)}]  # state -> the state before it
    for chosen in written:
        layer: dict[State, State] = {}
        for state in sorted(layers[-1], key=lambda s: (s.at < size, s)):
            for other in after(state):
                if other not in layer and entered_by(other) == chosen:
                    layer[other] = state
        if not layer:
            break
        layers.append(layer)
    whole = len(layers) == len(written) + 1
    finals = [state for state in layers[-1] if any(n.at == made.end for n in after(state))]
    if not finals or not whole:
        finals, whole = sorted(layers[-1]), False
    found = [finals[0]]
    for layer in reversed(layers[1:]):
        found.append(layer[found[-1]])
    path = [state.at for state in reversed(found)]
    return _written(path, made, owner, words, whole)


def _written(path: Sequence[int], made: Nodes, owner: Sequence[int], words: Sequence[str], whole: bool) -> Written:
    """Return the items along a path of states. Of a text that was cut off, an item counts that something follows."""
    size, kind, source, opened = len(made.token), "", "", -1
    items: list[Item] = []
    places: list[Place] = []
    place: Place | None = None
    for number, (state, later) in enumerate(pairwise([*path, 0]), start=1):
        if state >= size:
            at = state - size
            opened = at if opened < 0 else opened
            if later != state + 1:
                place, opened = (owner[opened], owner[at] + 1), -1
        elif made.kind[state]:
            kind = made.kind[state]
        elif made.source[state]:
            source = made.source[state]
        if kind and place:
            if whole or number < len(path):
                items.append(Item(kind, " ".join(words[slice(*place)]), source))
                places.append(place)
            kind, source, place = "", "", None
    return Written(items, places, whole)
