"""Text-to-text models: what they are shown, what they write, and that they learn to."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import DynamicCache, EncoderDecoderCache

from benchmark.corpus.corpus import Sentence, Split
from benchmark.errors import PlanError
from benchmark.models import backbones, formats, text2text, training
from benchmark.models.formats import Format
from benchmark.models.tagging import Recipe
from benchmark.models.text2text import (
    Adapter,
    Prompting,
    TextModel,
    Texts,
    Writing,
    answers,
    train_text2text,
    write_text2text,
)
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
        "prompting": TYPED, "writing": Writing("grounded", 32), "seed": 1,
        "recipe": Recipe(epochs=2, lr=1e-2, batch=4, weight_decay=0.0, precision="32"), **changed,
    }  # fmt: skip
    train_text2text(work(folder), **given)
    return folder


def write(folder: Path, model: Path, **changed) -> list:
    given = {
        "model": model, "words": split().words_only(), "options": OPTIONS, "prompting": TYPED,
        "writing": Writing("grounded", 32), "precision": "32", "seed": 1, **changed,
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

    with pytest.raises(PlanError, match=r"the options take \d+ of the 512 sub-words of a prompt"):
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


@pytest.mark.parametrize(("shape", "broken"), [("{type}|{text}", "'|', ' / '"), ("{type} : {text}", r"' / '")])
def test_a_format_that_the_tokenizer_breaks_is_refused_where_texts_are_read(t5, monkeypatch, shape, broken):
    monkeypatch.setitem(formats.FORMATS, "barred", Format("barred", shape, " / "))  # the tokenizer knows neither

    with pytest.raises(PlanError) as refused:
        text2text.check(backbones.find(str(t5)), Prompting("barred", instruction=False))

    assert f"does not bring back {broken} of the format 'barred'; choose another" in str(refused.value)


def test_items_on_lines_are_refused_where_lines_come_back_as_blanks(t5, monkeypatch):
    monkeypatch.setitem(formats.FORMATS, "lines", Format("lines", "{type} : {text}", "\n"))

    with pytest.raises(PlanError, match=r"does not bring back '\\n' of the format 'lines'"):
        text2text.check(backbones.find(str(t5)), Prompting("lines", instruction=False))
    text2text.check(backbones.find(str(t5)), TYPED)


@pytest.mark.parametrize("decoding", ["free", "grounded"])
def test_a_text_does_not_hang_on_its_batch(t5, tmp_path, decoding):
    model = train(tmp_path / "model", str(t5))
    together = write(tmp_path / "together", model, writing=Writing(decoding, 32))
    alone = write(tmp_path / "alone", model, writing=Writing(decoding, 1))

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


@pytest.mark.parametrize("kind", ["LORA", "LOHA", "LOKR", "IA3"])
def test_every_adapter_learns_and_is_merged(t5, tmp_path, kind):
    before = train(tmp_path / "before", str(t5))
    after = train(tmp_path / "after", str(t5), init=before, adapter=Adapter(kind, {}))

    one, other = (text2text.load(folder)[0].state_dict() for folder in (before, after))
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("adapter", [Adapter("LORO", {}), Adapter("LORA", {"rank": 2})])
def test_an_adapter_that_peft_does_not_know_is_refused(t5, tmp_path, adapter):
    with pytest.raises(PlanError, match=f"adapter {adapter.kind}: peft refuses it"):
        train(tmp_path / "model", str(t5), adapter=adapter)


def test_a_backbone_that_writes_nothing_is_refused(bert):
    with pytest.raises(PlanError, match="is no text-to-text model"):
        text2text.bare(backbones.find(str(bert)))


def test_dev_chooses_the_epoch_and_changes_nothing_else(t5, tmp_path, monkeypatch):
    """The best of three is the second: the weights are those of two epochs without dev, dropout and all."""
    f1 = iter([10.0, 30.0, 20.0])
    monkeypatch.setattr(text2text, "strict_counts", lambda *_: SimpleNamespace(all=SimpleNamespace(f1=next(f1))))
    recipe = Recipe(epochs=3, lr=1e-2, batch=2, precision="32")
    chosen = train(tmp_path / "chosen", str(t5), dev=split(name="dev"), recipe=recipe)
    two = train(tmp_path / "two", str(t5), recipe=replace(recipe, epochs=2))
    fitted = json.loads((chosen / "model.json").read_text())["fitted"]

    assert (fitted["dev_f1"], fitted["kept"]) == ([10.0, 30.0, 20.0], 2)
    one, other = (text2text.load(folder)[0].state_dict() for folder in (chosen, two))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_windows_tell_of_each_mention_once(t5, tmp_path):
    """A mention that two windows show is one pair; each window's text is in the sentence's."""
    model = TextModel(text2text.bare(backbones.find(str(t5))))
    texts = Texts(backbones.find(str(t5)), TYPED)
    words = tuple("Ada" if n % 20 == 0 else f"w{n}" for n in range(400))
    spans = tuple(Span(n, n + 1, "PER") for n in range(0, 400, 20))
    long = Split("quay", "test", (Sentence("quay/test/0", words, None),))
    rows = list(texts.rows(0, Sentence("quay/test/0", words, spans), OPTIONS))
    model.write = lambda *_, **__: [row.target[:-1] for row in rows]  # every window is written about as gold says
    for decoding in ("free", "grounded"):
        [found], _, audit = answers(model, texts, long, OPTIONS, writing=Writing(decoding, 32), precision="32")

        assert sum(row.target.count(texts.encode(";")[0]) + 1 for row in rows) > len(spans)
        assert found.spans == spans
        assert (len(found.pairs), audit.placed) == (20, 20)


def test_a_grounded_mention_stands_where_it_was_copied_from(t5):
    """`ab` is the fourth word, though the letters of the first two are the same."""
    model = TextModel(text2text.bare(backbones.find(str(t5))))
    texts = Texts(backbones.find(str(t5)), TYPED)
    sentence = Sentence("quay/test/0", ("a", "b", "and", "ab"), (Span(3, 4, "PER"),))
    [row] = texts.rows(0, sentence, OPTIONS)
    model.write = lambda *_, **__: [row.target[:-1]]
    words = Split("quay", "test", (Sentence("quay/test/0", sentence.words, None),))
    [found], *_ = answers(model, texts, words, OPTIONS, writing=Writing("grounded", 32), precision="32")

    assert found.spans == sentence.spans


def test_the_copying_model_goes_on_from_its_cache_as_from_the_whole_text():
    """Next scores are the same, also when a text has left the batch on the way."""
    backbone = backbones.find("minilm-seq2seq")
    torch.manual_seed(1)
    net = text2text.bare(backbone).eval()
    texts = Texts(backbone, TYPED)
    given = texts.collate([row for s in split().sentences for row in texts.rows(0, s, OPTIONS)])
    ids, mask, before = given["ids"], given["mask"], given["before"]
    with torch.inference_mode():
        states = net.read(ids, mask)
        hidden, _ = net.write(before, states, mask)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        rows = torch.arange(len(ids))
        for n in range(before.size(1)):
            if n == 3:
                kept = torch.tensor([0, 2, 3])
                rows = rows[kept]
                cache.batch_select_indices(kept)
            scores, cache = net.step(before[rows, n : n + 1], states[rows], mask[rows], ids[rows], cache)
            whole = net.next_scores(hidden[rows, n : n + 1], states[rows], mask[rows], ids[rows])
            assert torch.allclose(scores, whole, atol=1e-3)


def test_the_copying_model_writes_no_more_than_it_has_places_for():
    backbone = backbones.find("minilm-seq2seq")
    torch.manual_seed(1)
    net = text2text.bare(backbone)
    texts = Texts(backbone, TYPED)
    words = tuple(f"w{n}" for n in range(180))
    rows = list(texts.rows(0, Sentence("x", words, None), OPTIONS))
    texts.end = -1  # nothing ends a text
    [written] = TextModel(net).write(texts, rows, None, batch=1, precision="32")
    many = tuple(Span(n, n + 1, "vessel") for n in range(180))

    assert len(written) == texts.longest == 512
    assert all(len(row.target) <= 512 for row in Texts(backbone, TYPED).rows(0, Sentence("x", words, many), OPTIONS))


def test_nothing_is_written_about_an_empty_sentence(t5):
    training.prepare(1, 1)
    texts = Texts(backbones.find(str(t5)), TYPED)
    empty = split([("", [])], "test").words_only()
    model = TextModel(text2text.bare(backbones.find(str(t5))))
    [found], _, audit = answers(model, texts, empty, OPTIONS, writing=Writing("free", 32), precision="32")

    assert (found.spans, found.pairs, found.raw, audit) == ((), (), "", Audit())
