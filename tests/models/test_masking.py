"""Masked spans, and an encoder that goes on as a masked language model."""

import json

import pytest
import torch
from safetensors.torch import load_file

from benchmark.corpus import knowledge
from benchmark.corpus.corpus import Sentence, Split
from benchmark.corpus.transfer import Spec, build
from benchmark.errors import PlanError, Unsupported
from benchmark.models import backbones, masking
from benchmark.models.masking import MaskedLanguageModel, Text, adapt, find_text, masked_words, owners, windows
from benchmark.models.tagging import Recipe, train_tagger
from benchmark.work import Work
from methods import laner, tagger
from methods.laner import train_laner

LINES = ("aurora sails to haven", "the haven is far", "fog", "aurora , aurora and the fog of haven")
TEXT = Split("quay", "train", tuple(Sentence(f"quay/train/{n}", tuple(x.split()), None) for n, x in enumerate(LINES)))


def adapted(folder, bert, *, text=None, texts=(TEXT,), epochs=2, seed=1, **work):
    folder.mkdir(parents=True, exist_ok=True)
    adapt(
        Work(folder, progress=folder / "progress.jsonl", **work), backbone=backbones.find(str(bert)), texts=texts,
        text=text, recipe=Recipe(epochs=epochs, lr=1e-3, batch=2, precision="32"), share=0.15, seed=seed,
    )  # fmt: skip
    return folder / "encoder.safetensors"


# ---- masks


def test_masks_cover_about_the_share_that_is_asked_for():
    torch.manual_seed(0)
    covered, _ = masked_words(torch.ones(400, 100, dtype=torch.bool), 0.15)

    assert covered.float().mean().item() == pytest.approx(0.14, abs=0.02)  # spans overlap now and then


def test_masks_are_spans():
    torch.manual_seed(0)
    covered, lot = masked_words(torch.ones(400, 100, dtype=torch.bool), 0.15)
    runs = torch.diff(torch.nn.functional.pad(covered.int(), (1, 1)), dim=1)
    lengths = (runs == -1).nonzero()[:, 1] - (runs == 1).nonzero()[:, 1]
    inside = covered[:, 1:] & covered[:, :-1]

    assert 2.0 < lengths.float().mean().item() < 4.0
    assert (lot[:, 1:][inside] == lot[:, :-1][inside]).float().mean() > 0.85  # a span has one lot


def test_every_row_has_a_masked_word_and_no_padding_is_one():
    torch.manual_seed(0)
    words = torch.arange(9)[None] < torch.tensor([1, 2, 9] * 100)[:, None]
    covered, _ = masked_words(words, 0.01)

    assert bool(covered.any(1).all())
    assert not bool((covered & ~words).any())


def test_sub_words_belong_to_their_words_and_special_ones_to_none(bert):
    features = backbones.features(backbones.find(str(bert)))
    batch = features.collate([features.encode(["fog", "aurora"])[0], features.encode(["haven"])[0]])
    found = owners(batch["first"], batch["words"], batch["ids"], batch["mask"], len(features.suffix))

    assert found.tolist() == [[-1, 0, 0, 0, 1, -1], [-1, 0, -1, -1, -1, -1]]  # [CLS] f ##o ##g aurora [SEP]


def test_what_is_hidden_is_whole_words_and_what_is_not_stays(bert):
    backbone = backbones.find(str(bert))
    features = backbones.features(backbone)
    module = model_of(backbone, features)
    torch.manual_seed(3)
    batch = features.collate([features.encode(line.split())[0] for line in LINES * 50])
    ids, hidden = module.masked(batch)
    owner = owners(batch["first"], batch["words"], batch["ids"], batch["mask"], len(features.suffix))

    assert torch.equal(ids[~hidden], batch["ids"][~hidden])
    assert not bool(hidden[owner < 0].any())
    for row in range(len(ids)):
        for word in range(int(batch["words"][row].sum())):
            assert len(set(hidden[row][owner[row] == word].tolist())) == 1
    masks = (ids[hidden] == features.tokenizer.mask_token_id).float().mean().item()
    same = (ids[hidden] == batch["ids"][hidden]).float().mean().item()
    assert masks == pytest.approx(0.8, abs=0.08)
    assert same == pytest.approx(0.1, abs=0.06)


def model_of(backbone, features):
    from transformers import AutoModelForMaskedLM

    return MaskedLanguageModel(AutoModelForMaskedLM.from_pretrained(backbone.folder), features, share=0.15)


# ---- training


def test_adapting_changes_the_encoder_that_a_tagger_starts_from(tmp_path, bert):
    weights = load_file(adapted(tmp_path / "adapted", bert))
    backbone = backbones.find(str(bert))
    plain, new = backbones.encoder(backbone), backbones.encoder(backbone, tmp_path / "adapted")

    assert set(weights) == set(plain.state_dict()) == set(new.state_dict())
    assert all(torch.equal(value, weights[name]) for name, value in new.state_dict().items())
    assert any(not torch.equal(value, weights[name]) for name, value in plain.state_dict().items())


def test_adapting_learns_its_text(tmp_path, bert):
    adapted(tmp_path, bert, epochs=60)
    told = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in told if "loss" in line]

    assert sum(losses[-10:]) / 10 < 0.7 * losses[0]


def test_the_same_seed_gives_the_same_encoder(tmp_path, bert):
    one, other = adapted(tmp_path / "1", bert), adapted(tmp_path / "2", bert)
    another = adapted(tmp_path / "3", bert, seed=2)

    assert one.read_bytes() == other.read_bytes() != another.read_bytes()


def test_adapting_goes_on_from_a_checkpoint_as_if_undisturbed(tmp_path, bert, monkeypatch):
    undisturbed = adapted(tmp_path / "whole", bert)
    step, taken = MaskedLanguageModel.training_step, []

    def killed(self, batch, number):
        taken.append(number)
        if len(taken) == 4:
            raise KeyError("killed")
        return step(self, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(MaskedLanguageModel, "training_step", killed)
        with pytest.raises(KeyError):
            adapted(tmp_path / "cut", bert, checkpoints=tmp_path / "partial", checkpoint_seconds=0.0)
    resumed = adapted(tmp_path / "cut", bert, checkpoints=tmp_path / "partial", checkpoint_seconds=0.0)

    assert resumed.read_bytes() == undisturbed.read_bytes()


def test_a_file_is_text_a_line_at_a_time(tmp_path, bert):
    (tmp_path / "domain.txt").write_text("\n".join([*LINES, "", "  "]))
    features = backbones.features(backbones.find(str(bert)))
    text = find_text(str(tmp_path / "domain.txt"))

    assert text.name == "domain.txt"
    assert windows([], text, features)["ids"][:] == windows([TEXT], None, features, tmp_path)["ids"][:]


def test_another_text_is_another_ingredient(tmp_path):
    (tmp_path / "one.txt").write_text("fog")
    one = find_text(str(tmp_path / "one.txt"))
    (tmp_path / "one.txt").write_text("no fog")

    assert one.ingredient() != find_text(str(tmp_path / "one.txt")).ingredient()
    assert str(tmp_path) not in str(one.ingredient())


@pytest.mark.parametrize("name", ["nowhere.txt", "word", "./a/b", "~/text.txt"])
def test_a_text_that_is_not_there_is_refused(name):
    with pytest.raises(PlanError) as refused:
        find_text(name)
    assert str(refused.value) == (
        f"dapt: there is no text file {name!r}, and it is no dataset of the hub (owner/name). It may also be target or "
        "published."
    )


@pytest.mark.parametrize(
    ("name", "held", "told"),
    [
        (
            "a.txt",
            "caf\u00e9".encode("latin-1") + b" au lait",
            ": the text is not UTF-8 (it has the byte 0xe9); convert",
        ),
        ("a.txt", b"a\0b", " is a binary file; expected plain text, one sentence a line."),
        ("a.txt", b" \n\n", " is empty; expected plain text, one sentence a line."),
        ("a.txt.gz", b"", " is a .gz file; expected plain text, one sentence a line."),
        ("a.jsonl", b"{}", " is a .jsonl file; expected plain text, one sentence a line."),
    ],
)
def test_a_file_that_is_no_text_is_refused_before_anything_is_learned(tmp_path, name, held, told):
    path = tmp_path / name
    path.write_bytes(held)

    with pytest.raises(PlanError) as refused:
        find_text(str(path))
    assert str(refused.value).startswith(f"dapt: {path}{told}")


def test_a_letter_may_stand_across_blocks_and_a_wrong_byte_far_behind_is_told_of_its_file(tmp_path):
    path = tmp_path / "long.txt"
    path.write_bytes(b"x" * (masking.BLOCK - 1) + "\u00e9\n".encode() + b"\xe9 \n")

    text = find_text(str(path))
    with pytest.raises(PlanError, match=rf"^{path}: the text is not UTF-8 \(it has the byte 0xe9\)"):
        list(text.lines())


def test_no_text_is_refused(tmp_path, bert):
    with pytest.raises(PlanError, match=r"^dapt: the text is empty\.$"):
        adapted(tmp_path, bert, texts=(Split("quay", "train", ()),))


def test_a_backbone_without_masks_is_refused(tmp_path):
    with pytest.raises(
        PlanError, match=r"^the backbone 'rnn' has no mask token, so it cannot be pre-trained on text\.$"
    ):
        adapted(tmp_path, "rnn")


# ---- the tagger's plan


METHODS = {train_tagger: (tagger.Tagger, tagger.Settings), train_laner: (laner.Laner, laner.Settings)}


def planned(bert, train=train_tagger, **changed):
    transfer = build(Spec(("demo-news",), "demo-cinema"))
    method, settings = METHODS[train]
    return method().plan(transfer, settings(encoder=str(bert), **changed), 1)


@pytest.mark.parametrize("train", METHODS, ids=["tagger", "laner"])
def test_an_encoder_is_pre_trained_then_learns_the_source_then_the_target(bert, train):
    plain, dapt = planned(bert, train), planned(bert, train, dapt="target")

    assert [s.step for s in dapt.graph()] == [adapt, train, train, plain.step]
    assert [s.step for s in plain.graph()] == [train, train, plain.step]
    first, source, target, _ = dapt.graph()
    assert source.inputs["adapted"] is first
    assert "adapted" not in target.inputs
    assert all("adapted" not in s.inputs for s in plain.graph())


def test_the_words_of_the_target_are_shown_without_their_gold(bert):
    [first, *_] = planned(bert, dapt="target").graph()

    assert [f"{s.corpus}/{s.name}" for s in first.splits] == ["demo-cinema/train", "demo-cinema/dev"]
    assert all(sentence.spans is None for split in first.splits for sentence in split.sentences)


def test_a_file_for_each_target_is_named_by_the_target(tmp_path, bert):
    (tmp_path / "demo-cinema.txt").write_text("a film")
    [first, *_] = planned(bert, dapt=str(tmp_path / "{target}.txt")).graph()

    assert isinstance(first.inputs["text"], Text)
    assert first.inputs["text"].name == "demo-cinema.txt"


def test_explanations_in_a_file_are_text_of_what_train_shows(tmp_path, bert):
    mentions = knowledge.mentions(build(Spec(("demo-news",), "demo-cinema")).target.train)
    found = [knowledge.Explained(*one, f"because {n}") for n, one in enumerate(dict.fromkeys(mentions))]
    knowledge.write(tmp_path / "demo-cinema.json", [*found, found[0]._replace(text="of dev", explanation="hidden")])

    [first, *_] = planned(bert, dapt=str(tmp_path / "{target}.json")).graph()

    [text] = first.inputs["texts"]
    assert [" ".join(s.words) for s in text.sentences] == [one.explanation for one in found]
    assert all(s.spans is None for s in text.sentences)
    assert f"on {len(found)} of {len(found) + 1} in " in first.title


def test_the_lstm_has_nothing_to_adapt():
    with pytest.raises(Unsupported):
        planned("rnn", dapt="target")


def test_a_text_of_the_hub_needs_the_hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PlanError, match=r"^dapt: 'owner/text' is no file, and the hub did not give it as a dataset"):
        masking.find_text("owner/text")
