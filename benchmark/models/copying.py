"""An encoder-decoder that can copy, warm-started from an encoder: `minilm-seq2seq`.

Encoder   BERT's, whole
Decoder   `LAYERS` of the encoder's layers, spread evenly, with fresh cross-attention; embeddings are shared
Copying   See, Liu and Manning, "Get To The Point", 2017, section 2.2 (pointer-generator): with probability 1 - g a
          sub-word of the vocabulary, with g one of the prompt's, by one more attention over the encoder's states
Shapes    B prompts, L sub-words of a prompt, M sub-words of a target, D hidden size, V vocabulary
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, log_softmax, logsigmoid
from transformers import BertConfig, BertModel

VERSION = 1  # rises when a change here could change a prediction

LAYERS = 3
FLOOR = 1e-9  # of an attention's probability, before its logarithm


class WordHead(nn.Module):
    """Scores of the vocabulary, over embeddings that are given."""

    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__()
        self.shape = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        """Return log-probabilities, hidden (B, M, D) -> (B, M, V)."""
        return log_softmax(linear(self.shape(hidden), embeddings, self.bias).float(), -1)


class CopyHead(nn.Module):
    """Attention over the prompt's places, and a gate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.gate = nn.Linear(2 * width, 1)

    def forward(self, hidden: Tensor, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities of places, and log-odds of copying; hidden (B, M, D) -> (B, M, L), (B, M, 1)."""
        scores = self.query(hidden) @ self.key(states).mT / hidden.size(-1) ** 0.5
        places = scores.float().masked_fill(~mask[:, None], -torch.inf).softmax(-1)
        gate = self.gate(torch.cat([hidden, places.to(states.dtype) @ states], -1)).float()
        return places.clamp_min(FLOOR).log(), gate


class CopyingTransformer(nn.Module):
    """A BERT that reads, a smaller one that writes, and a copy head."""

    def __init__(self, encoder: BertModel) -> None:
        super().__init__()
        config = encoder.config
        self.encoder = encoder
        inner = BertConfig(**{
            **config.to_dict(), "num_hidden_layers": min(LAYERS, config.num_hidden_layers), "is_decoder": True,
            "add_cross_attention": True, "attn_implementation": config._attn_implementation,
        })  # fmt: skip
        self.decoder = BertModel(inner, add_pooling_layer=False)
        self.decoder.embeddings = encoder.embeddings
        spread = torch.linspace(0, config.num_hidden_layers - 1, inner.num_hidden_layers).round().int().tolist()
        for own, number in zip(self.decoder.encoder.layer, spread, strict=True):
            own.load_state_dict(encoder.encoder.layer[number].state_dict(), strict=False)
        self.words = WordHead(config.hidden_size, config.vocab_size)
        self.copies = CopyHead(config.hidden_size)

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the encoder's states of prompts (B, L) -> (B, L, D)."""
        found: Tensor = self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return found

    def write(self, before: Tensor, states: Tensor, mask: Tensor, cache: Any = None) -> tuple[Tensor, Any]:
        """Return the decoder's states for sub-words (B, M) -> (B, M, D), and its cache where one was given."""
        found = self.decoder(
            input_ids=before, encoder_hidden_states=states, encoder_attention_mask=mask.long(), past_key_values=cache,
            use_cache=cache is not None,
        )  # fmt: skip
        return found.last_hidden_state, found.past_key_values

    def parts(self, hidden: Tensor, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log-probabilities: vocabulary (B, M, V) and places of the prompt (B, M, L); and the gate's score.

        The gate's score (B, M, 1) is the log-odds of copying.
        """
        words = self.words(hidden, self.encoder.embeddings.word_embeddings.weight)
        places, gate = self.copies(hidden, states, mask)
        return words, places, gate

    def loss(self, ids: Tensor, mask: Tensor, before: Tensor, target: Tensor) -> Tensor:
        """Return the mean negative log-likelihood of the target's sub-words (B, M); -100 is padding."""
        states = self.read(ids, mask)
        hidden, _ = self.write(before, states, mask)
        words, places, gate = self.parts(hidden, states, mask)
        wanted = target.clamp(min=0)
        same = wanted[:, :, None] == ids[:, None]
        by_copy = places.masked_fill(~(same & mask[:, None]), -torch.inf).logsumexp(-1)
        by_word = words.gather(-1, wanted[..., None]).squeeze(-1)
        both = torch.logaddexp(logsigmoid(-gate)[..., 0] + by_word, logsigmoid(gate)[..., 0] + by_copy)
        return -both[target >= 0].mean()

    def step(self, last: Tensor, states: Tensor, mask: Tensor, ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Return the log-probabilities of the next sub-word behind (B, 1) -> (B, V), and the cache."""
        hidden, cache = self.write(last, states, mask, cache)
        return self.next_scores(hidden, states, mask, ids), cache

    def next_scores(self, hidden: Tensor, states: Tensor, mask: Tensor, ids: Tensor) -> Tensor:
        """Return the log-probabilities of the next sub-word, hidden (B, 1, D) -> (B, V)."""
        words, places, gate = self.parts(hidden, states, mask)
        found = (words + logsigmoid(-gate))[:, 0].exp()
        chance = (places + logsigmoid(gate))[:, 0].exp() * mask
        return found.scatter_add(1, ids, chance).log()
