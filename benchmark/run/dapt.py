"""Domain-adaptive pre-training in the plan of any method that starts from an encoder."""

from benchmark.corpus.knowledge import learned
from benchmark.corpus.transfer import Transfer, shows_all, words_only
from benchmark.errors import Unsupported
from benchmark.models.backbones import Backbone
from benchmark.models.masking import adapt, find_text
from benchmark.models.tagging import Recipe
from benchmark.run.stage import Stage


def adapting(
    transfer: Transfer, seed: int, backbone: Backbone, dapt: str | None,
    *, epochs: int, lr: float, batch: int, share: float, precision: str,
) -> Stage | None:  # fmt: skip
    """Return the stage that trains an encoder on text of the target's domain; None where no `dapt` is asked for.

    dapt   `target`: the words of the target's train and dev; `published`: explanations of the mentions that train shows
           (`corpus.knowledge`); a file of explanations (.json), of those mentions alone too; else what `find_text`
           finds. `{target}` stands for the target's name, so that one variant serves several targets
    Raises Unsupported for a backbone without sub-words, or where no mention that train shows is explained; PlanError
    where there is no such text.
    """
    if dapt is None:
        return None
    if backbone.name == "rnn":
        raise Unsupported("the LSTM has no sub-words to mask, so there is no DAPT for it; choose another encoder.")
    target = transfer.target
    own = [target.train, *([target.dev] if target.dev is not None else [])] if dapt == "target" else []
    name = told = dapt.replace("{target}", target.name)
    if name == "published" or name.endswith(".json"):
        split, told = learned(target, name, data=transfer.data, full=shows_all(transfer))
        own = [split]
    texts = [words_only(split) for split in own]
    text = None if texts else find_text(name)
    return Stage(
        adapt,
        title=f"{backbone.name} on {told if text is None else text.name} of {target.name} seed {seed}",
        size=float(epochs * (sum(x.n_words for x in texts) or 100_000)),
        backbone=backbone,
        texts=tuple(texts),
        text=text,
        recipe=Recipe(epochs=epochs, lr=lr, batch=batch, precision=precision),
        share=share,
        seed=seed,
    )
