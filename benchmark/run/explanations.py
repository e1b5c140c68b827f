"""Which explanations of mentions the stages of a cell have read."""

from collections.abc import Iterable
from pathlib import Path

from benchmark.corpus import knowledge
from benchmark.corpus.corpus import Split
from benchmark.corpus.knowledge import Explained
from benchmark.run.cells import Planned
from benchmark.run.stage import Made
from benchmark.run.store import Store


def read_by(item: Planned, published: Iterable[Explained], store: Store) -> list[Explained]:
    """Return the explanations that a cell's stages have read, mixed-in ones included; none where it reads none.

    published   of the target: what they are of is looked up there, in the file that a variant names, and in what the
                store has of generated ones. Of what is in none of them only the text is known

    Those that are generated are left out where the store has them no more.
    """
    texts, known = [], list(published)
    for split in _splits(item):
        if not isinstance(split, Made):
            texts += [" ".join(s.words) for s in split.sentences]
        elif store.has(split.stage.key):
            folder = store.folder(split.stage.key)
            texts += [" ".join(s.words) for s in Split.from_jsonl(folder / "split.jsonl").sentences]
            known += knowledge.read(folder / "explanations.json")
    target = item.cell.spec.target
    for setting in ("knowledge", "dapt"):
        name = str(getattr(item.settings, setting, "")).replace("{target}", target)
        if texts and name.endswith(".json"):
            known += knowledge.read(Path(name).expanduser())
    by_text = {" ".join(one.explanation.split()): one for one in known}
    by_text |= {one.explanation: one for one in knowledge.cleaned(known)[0]}
    return [by_text.get(text, Explained("", "", "", text)) for text in dict.fromkeys(texts)]


def _splits(item: Planned) -> Iterable[Split]:
    for stage in item.final.graph() if item.final is not None else ():
        for split in stage.inputs.get("texts", ()):
            if split.name == knowledge.SPLIT:
                yield split
