"""Text-to-text models: what they are shown, what they write, and that they learn to."""

import json
from pathlib import Path

import pytest
import torch

from benchmark.corpus.corpus import Sentence, Split
from benchmark.errors import PlanError
from benchmark.models import backbones, formats, text2text, training
from benchmark.models.formats import Format
from benchmark.models.tagging import Recipe
from benchmark.models.text2text import Adapter, Prompting, TextModel, Texts, answers, train_text2text, write_text2text
from benchmark.score.grounding import Audit
from benchmark.score.protocols import read_predictions, strict_counts
from benchmark.score.spans import Span, to_tags
from benchmark.work import Work

OPTIONS = {"vessel": "ship", "PER": "person"}
TYPED = Prompting("typed", instruction=False)
SENTENCES = [
    ("Aurora sank", [(0, 1, "vessel")]),
    ("Ada Lund swam", [(0, 2, "PER")]),
    ("it rained", []),
    ("Fram met Ada", [(0, 1, "vessel"), (2, 3, "PER")]),
    ("Ada met Ada Lund", [(0, 1, "PER"), (2, 4, "PER")]),
]


def split(sentences=SENTENCES, name="train") -> Split:
    return Split("quay", name, tuple(
        Sentence(f"quay/{name}/{n}", tuple(text.split()), tuple(Span(*span) for span in spans))
        for n, (text, spans) in enumerate(sentences)
    ))  # fmt: skip


def work(folder: Path) -> Work:
    folder.mkdir(parents=True)
    return Work(folder=folder, threads=1)


def train(folder: Path, backbone: str, **changed) -> Path:
    given = {
        "backbone": backbones.find(backbone), "init": None, "train": (split(),), "options": (OPTIONS,), "dev": None,
        "prompting": TYPED, "decoding": "grounded", "seed": 1,
        "recipe": Recipe(epochs=2, lr=1e-2, batch=4, weight_decay=0.0, precision="32"), **changed,
    }  # fmt: skip
    train_text2text(work(folder), **given)
    return folder


def write(folder: Path, model: Path, **changed) -> list:
    given = {
        "model": model, "words": split().words_only(), "options": OPTIONS, "prompting": TYPED, "decoding": "grounded",
        "batch": 32, "precision": "32", "seed": 1, **changed,
    }  # fmt: skip
    write_text2text(work(folder), **given)
    return read_predictions(folder / "predictions.jsonl")


# ---------------------------------------------------------------------------------------------- texts


def test_a_prompt_and_a_target_are_made_of_the_same_sub_words(t5):
    texts = Texts(backbones.find(str(t5)), TYPED)
    [row] = texts.rows(0, split().sentences[3], OPTIONS)

    assert texts.tokenizer.decode(row.ids) == "Options: ship, person Sentence: Fram met Ada</s>"
    assert texts.tokenizer.decode(row.target) == "ship : Fram ; person : Ada</s>"
    assert row.ids[row.begin : row.begin + 4] == row.pieces[0] == texts.pieces(["Fram"])[0]


def test_an_instruction_stands_first_where_it_is_asked_for(t5):
    texts = Texts(backbones.find(str(t5)), Prompting("topt", instruction=True))
    [row] = texts.rows(0, split().sentences[2], OPTIONS)
    shown = texts.tokenizer.decode(row.ids)

    assert shown.startswith("Instruction: You are an annotator")
    assert shown.endswith("Options: ship, person Sentence: it rained</s>")
    assert texts.tokenizer.decode(row.target) == "none</s>"


def test_a_long_sentence_is_read_in_windows_that_answer_for_all_its_words(t5):
    texts = Texts(backbones.find(str(t5)), TYPED)
    words = tuple(f"w{n}" for n in range(900))
    rows = list(texts.rows(0, Sentence("x", words, (Span(700, 702, "PER"),)), OPTIONS))

    assert len(rows) > 1
    assert all(len(row.ids) <= 512 for row in rows)
    assert [n for row in rows for n in range(*row.own)] == list(range(900))
    assert sum("person" in texts.tokenizer.decode(row.target) for row in rows) >= 1


def test_options_that_leave_no_room_are_refused(t5):
    texts = Texts(backbones.find(str(t5)), TYPED)

    with pytest.raises(PlanError, match=r"the options take \d+ of 512 sub-words of a prompt"):
        list(texts.rows(0, split().sentences[0], {str(n): "n" * 50 for n in range(20)}))


# ---------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("name", ["typed", "topt", "topt-text", "sentence"])
def test_grounded_decoding_writes_nothing_but_the_sentence_and_the_options(t5, tmp_path, name):
    prompting = Prompting(name, instruction=False)
    model = train(tmp_path / "model", str(t5), prompting=prompting)
    found = write(tmp_path / "found", model, prompting=prompting)
    audit = json.loads((tmp_path / "found" / "audit.json").read_text())

    assert audit["decoding"] == "grounded"
    assert audit["pairs"]["exact"] + audit["pairs"]["ambiguous"] > 0
    assert (audit["pairs"]["absent"], audit["pairs"]["unknown"]) == (0, 0)
    for prediction, sentence in zip(found, split().sentences, strict=True):
        assert all(f" {text} " in f" {' '.join(sentence.words)} " for _, text in prediction.pairs)
        assert {kind for kind, _ in prediction.pairs} <= set(OPTIONS)


def test_grounded_decoding_takes_the_best_of_what_is_allowed(t5):
    """The scores of a model that knows nothing are followed where they may be."""
    texts = Texts(backbones.find(str(t5)), TYPED)
    torch.manual_seed(3)
    model = TextModel(text2text.bare(backbones.find(str(t5))))
    made = text2text.grammar.nodes(texts.shape, list(OPTIONS.values()), texts.encode, texts.end)
    [row] = texts.rows(0, split().sentences[1], OPTIONS)
    [written] = model.write(texts, [row], made, batch=1, precision="32")

    given = texts.collate([row])
    states = model.net.read(given["ids"], given["mask"])
    stand = text2text.Standing.start(
        made, text2text.Sentences(given["ids"], given["begins"], given["ends"], given["inside"])
    )
    before = [texts.start]
    for number in [*written, texts.end]:
        scores = model.net.model(
            encoder_outputs=(states,), attention_mask=given["mask"].long(), decoder_input_ids=torch.tensor([before])
        ).logits[0, -1]
        allowed = stand.allowed(len(scores))[0]
        assert int(scores.masked_fill(~allowed, -torch.inf).argmax()) == number
        stand.move(torch.tensor([number]))
        before.append(number)


def test_a_format_that_the_tokenizer_breaks_is_refused_where_texts_are_read(t5, tmp_path, monkeypatch):
    barred = Format("barred", "{type}|{text}", " / ")  # the tokenizer knows neither
    monkeypatch.setitem(formats.FORMATS, "barred", barred)
    asked = {"prompting": Prompting("barred", instruction=False), "recipe": Recipe(epochs=1, precision="32")}

    with pytest.raises(PlanError, match=r"does not bring back '\|', ' / ' of the format 'barred'; choose another"):
        train(tmp_path / "free", str(t5), decoding="free", **asked)
    train(tmp_path / "grounded", str(t5), decoding="grounded", **asked)


@pytest.mark.parametrize("decoding", ["free", "grounded"])
def test_a_text_does_not_hang_on_its_batch(t5, tmp_path, decoding):
    model = train(tmp_path / "model", str(t5), decoding=decoding)
    together = write(tmp_path / "together", model, decoding=decoding)
    alone = write(tmp_path / "alone", model, decoding=decoding, batch=1)

    assert together == alone
    assert len({prediction.raw for prediction in together}) > 1


def test_a_saved_copying_model_writes_as_before(tmp_path):
    backbone = backbones.find("minilm-seq2seq")
    torch.manual_seed(1)
    net = text2text.bare(backbone)
    (tmp_path / "model").mkdir()
    text2text.save(net, tmp_path / "model", backbone, {})
    again, _ = text2text.load(tmp_path / "model")
    batch = Texts(backbone, TYPED)
    given = batch.collate([row for s in split().sentences for row in batch.rows(0, s, OPTIONS)])
    asked = [given[name] for name in ("ids", "mask", "before", "target")]

    with torch.no_grad():
        assert torch.equal(net.eval().loss(*asked), again.eval().loss(*asked))


def test_the_copy_head_gives_a_distribution_over_sub_words():
    backbone = backbones.find("minilm-seq2seq")
    torch.manual_seed(1)
    net = text2text.bare(backbone).eval()
    texts = Texts(backbone, TYPED)
    given = texts.collate([row for s in split().sentences for row in texts.rows(0, s, OPTIONS)])
    with torch.no_grad():
        states = net.read(given["ids"], given["mask"])
        hidden, _ = net.write(given["before"], states, given["mask"])
        scores = torch.stack([
            net.next_scores(hidden[:, n : n + 1], states, given["mask"], given["ids"]) for n in range(hidden.size(1))
        ], 1)  # fmt: skip
        loss = net.loss(given["ids"], given["mask"], given["before"], given["target"])
    wanted = given["target"] >= 0

    assert torch.allclose(scores.exp().sum(-1), torch.ones(scores.shape[:2]), atol=1e-4)
    assert torch.allclose(
        -scores.gather(-1, given["target"].clamp(min=0)[..., None])[..., 0][wanted].mean(), loss, atol=1e-4
    )


# ---------------------------------------------------------------------------------------------- learning


def test_minilm_seq2seq_reproduces_what_it_was_trained_on(tmp_path):
    """Fifty sentences of an embedded corpus, written again with the options alone to tell types."""
    from benchmark.corpus.corpus import load

    corpus = load("demo-news")
    some = Split("some", "train", tuple(s for s in corpus.train.sentences if s.spans)[:50])
    options = {key: kind.name for key, kind in corpus.card.types.items()}
    recipe = Recipe(
        epochs=40, lr=5e-4, batch=10, weight_decay=0.0, warmup=0.1, schedule="linear", clip=1.0, precision="auto"
    )
    model = train(tmp_path / "model", "minilm-seq2seq", train=(some,), options=(options,), recipe=recipe)
    found = write(tmp_path / "found", model, words=some.words_only(), options=options, precision="auto")

    gold = [to_tags(len(s.words), s.spans) for s in some.sentences]
    written = [to_tags(len(s.words), p.spans) for s, p in zip(some.sentences, found, strict=True)]
    assert strict_counts(gold, written).all.f1 >= 95


def test_the_target_goes_on_from_the_source(t5, tmp_path):
    source = train(tmp_path / "source", str(t5))
    target = train(tmp_path / "target", str(t5), init=source, recipe=Recipe(epochs=1, lr=1e-12, precision="32"))

    one, other = (text2text.load(folder)[0].state_dict() for folder in (source, target))
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


@pytest.mark.parametrize("backbone", ["t5", "minilm-seq2seq"])
def test_an_adapter_leaves_all_else_as_it_is(t5, tmp_path, backbone):
    name = str(t5) if backbone == "t5" else backbone
    before = train(tmp_path / "before", name)
    after = train(tmp_path / "after", name, init=before, adapter=Adapter("LORA", {"r": 2}))

    one, other = (text2text.load(folder)[0].state_dict() for folder in (before, after))
    changed = {key for key in one if not torch.equal(one[key], other[key])}
    assert changed
    assert all(
        key.rpartition(".")[0].endswith((".q", ".v", "attention.self.query", "attention.self.value")) for key in changed
    )


@pytest.mark.parametrize("adapter", [Adapter("LORO", {}), Adapter("LORA", {"rank": 2})])
def test_an_adapter_that_peft_does_not_know_is_refused(t5, tmp_path, adapter):
    with pytest.raises(PlanError, match=f"adapter {adapter.kind}: peft refuses it"):
        train(tmp_path / "model", str(t5), adapter=adapter)


def test_a_backbone_that_writes_nothing_is_refused(bert):
    with pytest.raises(PlanError, match="is no text-to-text model"):
        text2text.bare(backbones.find(str(bert)))


def test_dev_chooses_the_epoch(t5, tmp_path):
    folder = train(tmp_path / "model", str(t5), dev=split(name="dev"), recipe=Recipe(epochs=3, lr=1e-2, precision="32"))
    fitted = json.loads((folder / "model.json").read_text())["fitted"]

    assert len(fitted["dev_f1"]) == 3
    assert fitted["kept"] == 1 + fitted["dev_f1"].index(max(fitted["dev_f1"]))


def test_nothing_is_written_about_an_empty_sentence(t5):
    training.prepare(1, 1)
    texts = Texts(backbones.find(str(t5)), TYPED)
    empty = split([("", [])], "test").words_only()
    model = TextModel(text2text.bare(backbones.find(str(t5))))
    [found], audit = answers(model, texts, empty, OPTIONS, decoding="free", precision="32")

    assert (found.spans, found.pairs, found.raw, audit) == ((), (), "", Audit())
