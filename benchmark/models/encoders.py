"""Word encoders: a batch of numbers in, one vector a word out.

Shapes: B sentences, T words, L sub-words, F features a word, D hidden size.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

VERSION = 1  # rises when a change here could change a prediction


class TransformerWords(nn.Module):
    """A pre-trained transformer; a word is the vector of its first sub-word."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.width = int(model.config.hidden_size)
        if getattr(model, "pooler", None) is not None:
            model.pooler = None  # its vector of the first position is used by no tagger

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return word vectors.

        batch     ids (B, L), mask (B, L), first (B, T)
        returns   (B, T, D)
        """
        hidden: Tensor = self.model(input_ids=batch["ids"], attention_mask=batch["mask"].long()).last_hidden_state
        first = batch["first"][..., None].expand(-1, -1, hidden.size(-1))
        return hidden.gather(1, first)


class RecurrentWords(nn.Module):
    """A bidirectional LSTM over the summed embeddings of hashed features: nothing is pre-trained."""

    def __init__(self, rows: int, embedding: int, width: int) -> None:
        super().__init__()
        self.embed = nn.EmbeddingBag(rows, embedding, mode="sum", padding_idx=0)
        self.lstm = nn.LSTM(embedding, width, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(0.3)
        self.width = 2 * width

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return word vectors.

        batch     ids (B, T, F), words (B, T)
        returns   (B, T, D)
        """
        ids, words = batch["ids"], batch["words"]
        vectors = self.drop(self.embed(ids.flatten(0, 1)).unflatten(0, ids.shape[:2]))
        lengths = words.sum(1).cpu().clamp(min=1)
        packed = pack_padded_sequence(vectors, lengths, batch_first=True, enforce_sorted=False)
        out, _ = self.lstm(packed)
        vectors_out: Tensor = self.drop(pad_packed_sequence(out, batch_first=True, total_length=ids.size(1))[0])
        return vectors_out
