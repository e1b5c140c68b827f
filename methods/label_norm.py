"""Label normalization: every type becomes person, organization, location or miscellaneous, in training and in scoring.

Paper    Gravil et al., "Cross-Domain Named Entity Recognition", section 3.4: domain-specific labels are mapped to
         general ones that source and target have in common. What is no person, location or organization is
         miscellaneous (section 4.3). The map stands in the cards, as `general`; for ai it gives the supports of
         figure 4 (86 location, 1,038 miscellaneous, 242 organization, 183 person mentions in dev).
Model    the tagger of `methods/tagger.py` over the four general types
Score    over general types alone: never in one column with F1 over the target's own types
Departs  The paper trains on source and target jointly; `order` in the transfer says which, and `sequence` is the
         default as for every method. Its model is an RNN: say `encoder: rnn`.
"""

from dataclasses import dataclass

from benchmark.corpus.card import GENERAL
from benchmark.corpus.transfer import Transfer
from benchmark.run.stage import Stage
from methods import tagger


@dataclass(frozen=True)
class Settings(tagger.Settings):
    """The tagger's settings."""


class LabelNorm(tagger.Tagger):
    """The tagger on general types, trained and scored there."""

    Settings = Settings
    level = "general"

    def plan(self, transfer: Transfer, settings: Settings, seed: int) -> Stage:
        """Return the stage that tags the test words with general types."""
        sources = [d.relabel(d.general) for d in transfer.sources]
        target = transfer.target.relabel(transfer.target.general)
        added = [d.relabel(d.general) for d in transfer.added]
        labels = tagger.Labels(GENERAL, GENERAL)
        model = tagger.plan_tagger(transfer, settings, seed, sources, target, labels, self.find, added)
        return tagger.plan_tagging(transfer, settings, seed, model, {name: name for name in GENERAL})
