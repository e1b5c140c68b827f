"""Texts as vectors: the mean of an encoder's sub-words, of length 1, as sentence encoders such as all-MiniLM are read.

Shapes: N texts, L sub-words, D hidden size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmark.errors import PlanError
from benchmark.models import backbones
from benchmark.models.backbones import Backbone, WordPieces
from benchmark.models.encoders import TransformerWords

VERSION = 1  # rises when a change here could change a vector


@torch.inference_mode()
def embed(backbone: Backbone, texts: Sequence[str], *, batch: int = 64) -> Tensor:
    """Return the vectors of texts (N, D), in their order; their products are cosines. Long texts are cut.

    Raises PlanError for a backbone without sub-words.
    """
    features, encoder = backbones.features(backbone), backbones.encoder(backbone)
    if not isinstance(features, WordPieces) or not isinstance(encoder, TransformerWords):
        raise PlanError(f"the backbone {backbone.name!r} has no sub-words, so texts have no vectors; say `minilm`.")
    device = backbones.device()
    model = encoder.model.eval().to(device)
    longest = len(features.prefix) + features.room + len(features.suffix)
    found = torch.empty(len(texts), encoder.width)
    order = sorted(range(len(texts)), key=lambda n: -len(texts[n]))
    for at in range(0, len(order), batch):
        rows = order[at : at + batch]
        given = features.tokenizer(
            [texts[n] for n in rows], padding=True, truncation=True, max_length=longest, return_tensors="pt"
        ).to(device)
        states = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).last_hidden_state
        mask = given["attention_mask"][..., None]
        found[rows] = normalize((states * mask).sum(1) / mask.sum(1), dim=-1).float().cpu()
    return found
