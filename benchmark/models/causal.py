"""A causal language model that writes about a prompt: Llama's and GPT-2's kinds, in the place of an encoder-decoder.

The prompt is what an encoder would read, then `Answer:`; the target follows it. Only the target is learned.
Prompts of a batch are padded behind; what stands there is masked, and positions go on where each prompt ends.
A change here that could change a prediction raises the VERSION of `text2text`.
Shapes   B prompts, L sub-words of a prompt, M sub-words of a target, V vocabulary
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

ANSWER = "Answer:"
SHARE = 2 / 3  # of the sub-words that the model takes, for the prompt


class Causal(nn.Module):
    """A causal language model of transformers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return nothing that is known of prompts (B, L) -> (B, L, 0): they are read with the first step."""
        return ids.new_zeros((*ids.shape, 0), dtype=torch.float32)

    def loss(self, ids: Tensor, mask: Tensor, before: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy of the target's sub-words (B, M) behind their prompts; -100 is padding."""
        rows = [(prompt[kept], wanted[wanted >= 0]) for prompt, kept, wanted in zip(ids, mask, target, strict=True)]
        longest = max(len(prompt) + len(wanted) for prompt, wanted in rows)
        whole, labels = ids.new_zeros(len(rows), longest), ids.new_full((len(rows), longest), -100)
        there = torch.zeros(len(rows), longest, dtype=torch.long, device=ids.device)
        for n, (prompt, wanted) in enumerate(rows):
            stop = len(prompt) + len(wanted)
            whole[n, :stop], there[n, :stop] = torch.cat([prompt, wanted]), 1
            labels[n, len(prompt) : stop] = wanted
        scores = self.model(input_ids=whole, attention_mask=there, use_cache=False).logits[:, :-1]
        kept = labels[:, 1:] >= 0
        return cross_entropy(scores[kept].float(), labels[:, 1:][kept])

    def step(self, last: Tensor, states: Tensor, mask: Tensor, ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Return the scores of the next sub-word behind (B, 1) -> (B, V), and the cache.

        The first step reads the prompts, whatever `last` is.
        """
        own = cache.self_attention_cache
        done = own.get_seq_length() - ids.size(1)
        lengths = mask.sum(1, keepdim=True)
        if done < 0:
            places = (mask.long().cumsum(1) - 1).clamp(min=0)
            found = self.model(
                input_ids=ids, attention_mask=mask.long(), position_ids=places, past_key_values=own, use_cache=True
            )
            scores = found.logits[torch.arange(len(ids), device=ids.device), lengths[:, 0] - 1]
        else:
            there = torch.cat([mask.long(), mask.new_ones(len(ids), done + 1, dtype=torch.long)], 1)
            found = self.model(
                input_ids=last, attention_mask=there, position_ids=lengths + done, past_key_values=own, use_cache=True
            )
            scores = found.logits[:, -1]
        return scores.float(), cache


def is_causal(config: Any) -> bool:
    """Return whether a configuration of transformers is a causal language model's, and no encoder's."""
    named = getattr(config, "architectures", None) or []
    return not config.is_encoder_decoder and any(name.endswith(("ForCausalLM", "GPT2LMHeadModel")) for name in named)
