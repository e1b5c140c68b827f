"""What a training would have given, had another epoch been kept: predictions of every epoch that could be chosen.

A transfer that says `curves: true` has its last training stage run by `train_keeping_epochs`: the very step, whose
weights at the end of each epoch then predict the words of target dev, of source dev and of test, by the very step that
predicts test. Gold has no road here: words are all that is bound, and `outcome` scores what was predicted.

Only a cell that asks for it has these stages, so that every other key stays what it is.
"""

import gzip
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark.corpus.corpus import Split
from benchmark.corpus.transfer import Domain, Transfer, words_only
from benchmark.errors import StageFailed
from benchmark.run.stage import Stage, code, resolve
from benchmark.score.protocols import Counts, Gold, Prediction, read_predictions, score
from benchmark.score.spans import Span
from benchmark.work import Work

VERSION = 1  # rises when a change here could change what is predicted

TEST, TARGET_DEV, SOURCE_DEV = "test", "target-dev", "source-dev"
TOLD = "epochs.json"


class Keeping(Stage):
    """A training stage that keeps epochs. The words that its epochs predict are not what its model is made of."""

    def reads(self, split: Split) -> bool:
        """Return False: to predict other words, nothing is trained anew."""
        return False


def reason_without(final: Stage, transfer: Transfer) -> str | None:
    """Return why no epochs can be kept of the training behind a cell's final stage; None where they can be."""
    model, words = final.inputs.get("model"), final.inputs.get("words")
    if not isinstance(model, Stage) or not isinstance(words, Split):
        return f"{final.step.__name__} does not predict words with one model, so that there is no epoch to choose"
    if "recipe" not in model.inputs:
        return f"{model.step.__name__} is no training by epochs, so that there is none to choose"
    if model.inputs.get("adapter") is not None:
        return "the weights of an adapter are merged at the end alone"
    if transfer.evaluated is not None:
        return f"{transfer.tested.name} is predicted, and its dev does not choose"
    return None


def keeping(final: Stage, transfer: Transfer) -> Stage:
    """Return a cell's final stage with a training that keeps epochs behind it; itself, where none can be kept."""
    if reason_without(final, transfer) is not None:
        return final
    trained: Stage = final.inputs["model"]
    asking = {name: value for name, value in final.inputs.items() if name not in ("model", "words")}
    kept = Keeping(
        train_keeping_epochs,
        title=f"{trained.title}, epochs kept",
        size=trained.size,
        step=trained.name,
        code=code(trained.step),
        inputs=dict(trained.inputs),
        predict=final.name,
        predict_code=code(final.step),
        asking=asking,
        words={name: split for name, split, _ in parts(transfer)},
    )
    return Stage(final.step, title=final.title, size=final.size, **{**final.inputs, "model": kept})


def parts(transfer: Transfer) -> Iterator[tuple[str, Split, Domain]]:
    """Yield what every epoch predicts: a name, words, and their domain, whose gold the scorer alone reads."""
    yield TEST, transfer.test, transfer.target
    dev = transfer.target.dev
    if dev is not None and any(s.spans is not None for s in dev.sentences):  # not in zero-shot
        yield TARGET_DEV, words_only(dev), transfer.target
    for domain in transfer.sources:
        if domain.dev is not None:
            yield f"{SOURCE_DEV} {domain.name}", words_only(domain.dev), domain


# ------------------------------------------------------------------------------------------ the step


def train_keeping_epochs(
    work: Work,
    *,
    step: str,
    code: Mapping[str, Any],
    inputs: Mapping[str, Any],
    predict: str,
    predict_code: Mapping[str, Any],
    asking: Mapping[str, Any],
    words: Mapping[str, Split],
) -> None:
    """Run a training step, and let the weights of each epoch that could be chosen predict words.

    step, inputs      the training step and what is bound to it; the artefact is the step's own
    predict, asking   the step that predicts, and what is bound to it beside model and words
    code              of the two: in the key alone

    Beside the model: epochs.json, and epochs/<epoch>-<part>.jsonl.gz for each part of `words`.
    Raises StageFailed where the step kept no weights, or its artefact is not made of them.
    """
    work.epochs = (work.checkpoints or work.folder) / "snapshots"
    resolve(step)(work, **inputs)
    fitted = json.loads((work.folder / "model.json").read_text(encoding="utf8"))["fitted"]
    epochs = sorted(int(file.stem) for file in work.epochs.glob("*.pt"))
    if not epochs or epochs[-1] != fitted["epochs"]:
        raise StageFailed(f"{step} kept the weights of the epochs {epochs}, and ran {fitted['epochs']}.")
    (work.folder / "epochs").mkdir()
    for number, epoch in enumerate(epochs, start=1):
        with tempfile.TemporaryDirectory(dir=work.folder) as folder:
            model = Path(folder) / "model"
            at_epoch(work.folder, work.epochs / f"{epoch}.pt", model)
            for place, (name, split) in enumerate(words.items()):
                scratch = Path(folder) / str(place)
                scratch.mkdir()
                aside = Work(folder=scratch, cache=work.cache, threads=work.threads)
                resolve(predict)(aside, model=model, words=split, **asking)
                packed = gzip.compress((scratch / "predictions.jsonl").read_bytes(), mtime=0)
                (work.folder / "epochs" / f"{epoch}-{place}.jsonl.gz").write_bytes(packed)
                work.report(note=f"epoch {epoch} ({number} of {len(epochs)}) on {name}")
    told = {"epochs": epochs, "kept": fitted["kept"], "parts": list(words)}
    (work.folder / TOLD).write_text(json.dumps(told), encoding="utf8")
    if work.checkpoints is None:
        shutil.rmtree(work.epochs)


def at_epoch(artefact: Path, snapshot: Path, folder: Path) -> None:
    """Write an artefact's model as it was at an epoch: its files, with other weights of the same names.

    Raises StageFailed where a weight is not in the snapshot: whoever saved it made it of something else.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    state = torch.load(snapshot, map_location="cpu", weights_only=True)
    folder.mkdir()
    shutil.copy(artefact / "model.json", folder)
    with safe_open(artefact / "model.safetensors", framework="pt") as file:
        names, about = list(file.keys()), file.metadata()
    found = {}
    for name in names:
        own = next((key for key in (name, f"net.{name}") if key in state), None)
        if own is None:
            raise StageFailed(f"the artefact has the weights {name}, and the module that was trained has none.")
        found[name] = state[own].clone().contiguous()
    save_file(found, folder / "model.safetensors", metadata=about)


# ------------------------------------------------------------------------------------------ what came of it


def kept_by(final: Stage) -> Stage | None:
    """Return the stage behind a final one that keeps epochs; None where there is none."""
    model = final.inputs.get("model")
    return model if isinstance(model, Keeping) else None


def scored(folder: Path, transfer: Transfer, test: list[Gold], level: str) -> dict[str, Any]:
    """Return the field `curves` of a record, from the artefact of a training that kept epochs.

    kept     the epoch whose weights are the cell's model
    epochs   each that could be chosen: `test`, strict counts; and F1 (percent) on `target-dev`, and on `source-dev`
             over the types that source and target share. What there is not (no dev, no shared type) is left out.

    level    the types that predictions carry, `fine` or `general`; counts are of that level
    """
    told = json.loads((folder / TOLD).read_text(encoding="utf8"))
    domains = {name: domain for name, _, domain in parts(transfer)}
    found = []
    for epoch in told["epochs"]:
        row: dict[str, Any] = {"epoch": epoch}
        source: list[Counts] = []
        for place, name in enumerate(told["parts"]):
            predicted = read_predictions(folder / "epochs" / f"{epoch}-{place}.jsonl.gz")
            domain = domains[name]
            if name == TEST:
                gold = named(test, transfer.target.general if level == "general" else None)
                counts = score("strict", gold, predicted).all
                row[TEST] = [counts.hit, counts.extra, counts.missed]
            else:
                assert domain.dev is not None
                gold = [Gold(s.id, s.words, s.spans or ()) for s in domain.dev.sentences]
                if name == TARGET_DEV:
                    gold = named(gold, domain.general if level == "general" else None)
                    row[TARGET_DEV] = round(score("strict", gold, predicted).all.f1, 8)
                elif (shared := sharing(gold, predicted, domain, transfer.target, level)) is not None:
                    source.append(score("strict", *shared).all)
        if source:
            row[SOURCE_DEV] = round(sum(source[1:], source[0]).f1, 8)
        found.append(row)
    return {"kept": told["kept"], "epochs": found}


def named(gold: list[Gold], names: Mapping[str, str] | None) -> list[Gold]:
    """Return gold with its types renamed, those without a name dropped; None: gold as it is."""
    if names is None:
        return gold
    return [
        Gold(g.id, g.words, tuple(Span(s.start, s.end, names[s.type]) for s in g.spans if s.type in names))
        for g in gold
    ]


def sharing(
    gold: list[Gold], predicted: list[Prediction], source: Domain, target: Domain, level: str
) -> tuple[list[Gold], list[Prediction]] | None:
    """Return gold and predictions of a source over the types that it shares with the target; None: there are none.

    Predictions carry the target's types, whatever words they are of.
    """
    if level == "general":
        return named(gold, source.general), predicted
    shared = set(source.identities.values()) & set(target.identities.values())
    if not shared:
        return None
    theirs = {key: identity for key, identity in source.identities.items() if identity in shared}
    ours = {key: identity for key, identity in target.identities.items() if identity in shared}
    kept = [
        Prediction(p.id, tuple(Span(s.start, s.end, ours[s.type]) for s in p.spans if s.type in ours))
        for p in predicted
    ]
    return named(gold, theirs), kept
