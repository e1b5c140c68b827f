"""Keys: what changes one, what does not, and what is refused."""

import importlib
import inspect
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmark.corpus.corpus import Sentence, Split
from benchmark.errors import PlanError
from benchmark.models.backbones import Backbone
from benchmark.run import stage as stages
from benchmark.run.stage import Stage, pack, plain, resolve, unpack
from benchmark.score.spans import Span

STEP = '''\
"""A file of steps."""
from math import floor

RATE = 3  # of rise
OTHER = 7


class Keel:
    """Bears the ship."""

    depth = 2


def helper(x):
    """Return more."""
    return floor(x) * RATE + Keel.depth


def step(work, *, seed=1):
    """Do it."""
    return helper(seed)


def neighbour(work):
    return OTHER
'''

PORTS = Split(
    "harbour",
    "train",
    (
        Sentence("harbour/train/0", ("Aurora", "reached", "New", "Haven"), (Span(0, 1, "vessel"), Span(2, 4, "port"))),
        Sentence("harbour/train/1", ("Rain",), ()),
    ),
)


def sail(work, *, train=None, backbone=None, parent=None, lr=0.1, names=None, settings=None, seed=1):
    pass


def moor(work, *, seed=1):
    pass


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that writes a module file under a name that is imported anew, and imports it."""
    monkeypatch.syspath_prepend(tmp_path)
    written = []

    def write(text: str):
        for cached in (f for f in vars(stages).values() if hasattr(f, "cache_clear")):
            cached.cache_clear()
        (tmp_path / "keyed_steps.py").write_text(text)
        sys.modules.pop("keyed_steps", None)
        sys.dont_write_bytecode = True
        importlib.invalidate_caches()
        written.append(text)
        return importlib.import_module("keyed_steps")

    before = sys.dont_write_bytecode
    yield write
    sys.dont_write_bytecode = before
    sys.modules.pop("keyed_steps", None)


# ---- code


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# of rise", "# of the tide, a word a day"),
        ('"""Return more."""', '"""Return less."""'),
        ('    """Do it."""\n', ""),
        ('    """Bears the ship."""\n', ""),
        ('"""A file of steps."""', '"""Steps."""'),
        ("OTHER = 7", "OTHER = 8"),
        ("    return OTHER", "    return OTHER + 1"),
        ("def step(work, *, seed=1):", "def step(\n    work,\n    *,\n    seed=1,\n):"),
    ],
)
def test_comments_docstrings_layout_and_other_steps_leave_the_key(module, old, new):
    before = Stage(module(STEP).step, seed=1).key
    assert old in STEP

    assert Stage(module(STEP.replace(old, new)).step, seed=1).key == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RATE = 3", "RATE = 4"),
        ("* RATE", "+ RATE"),
        ("depth = 2", "depth = 3"),
        ("from math import floor", "from math import ceil as floor"),
        ("return helper(seed)", "return helper(seed + 1)"),
        ("def step(work, *, seed=1)", "def step(work, *, seed=2)"),
    ],
)
def test_a_definition_that_the_step_reaches_changes_the_key(module, old, new):
    before = Stage(module(STEP).step, seed=1).key
    assert old in STEP

    assert Stage(module(STEP.replace(old, new)).step, seed=1).key != before


def test_a_helper_named_as_a_builtin_changes_the_key(module):
    text = "def sum(x):\n    return x\n\n\ndef step(work):\n    return sum(1)\n"
    before = Stage(module(text).step).key

    assert Stage(module(text.replace("return x", "return -x")).step).key != before


def test_a_definition_under_a_condition_changes_the_key(module):
    text = "import sys\n\nif sys:\n    RATE = 3\n\n\ndef step(work):\n    return RATE\n"
    before = Stage(module(text).step).key

    assert Stage(module(text.replace("RATE = 3", "RATE = 4")).step).key != before


def test_a_helper_from_another_method_file_changes_the_key(module, tmp_path):
    other = tmp_path / "keyed_helpers.py"
    text = "from keyed_helpers import rate\n\n\ndef step(work):\n    return rate()\n"
    keys = []
    for number in (3, 4):
        other.write_text(f"def rate():\n    return {number}\n")
        sys.modules.pop("keyed_helpers", None)
        keys.append(Stage(module(text).step).key)
    sys.modules.pop("keyed_helpers", None)

    assert keys[0] != keys[1]


def test_a_step_that_is_no_top_level_function_is_refused(module):
    made = module("def outer():\n    def inner(work):\n        pass\n    return inner\n").outer()

    with pytest.raises(PlanError) as refused:
        _ = Stage(made).key

    assert str(refused.value) == (
        f"{Path(inspect.getfile(made))}: the step 'inner' is no top-level function of this file; move it there."
    )


def test_versions_of_reached_benchmark_modules_are_ingredients(module):
    found = Stage(module("from benchmark.models import tagging\n\n\ndef step(work):\n    pass\n").step).ingredients

    versions = found["code"]["versions"]
    assert {"benchmark.models.tagging", "benchmark.models.training", "benchmark.models.backbones"} <= set(versions)
    assert all(isinstance(number, int) for number in versions.values())
    assert "tree" in found["code"]


def test_a_module_that_the_step_does_not_reach_has_no_version_in_it(module):
    step = module("import json\n\n\ndef step(work):\n    pass\n").step

    assert Stage(step).ingredients["code"]["versions"] == {}


def test_a_step_of_benchmark_counts_by_versions_alone():
    from benchmark.models.tagging import tag

    found = Stage(tag, model=1, words=PORTS, names={}, precision="32", seed=1).ingredients["code"]

    assert set(found) == {"versions"}
    assert "benchmark.models.tagging" in found["versions"]


def test_a_raised_version_changes_the_key(monkeypatch):
    from benchmark.models.tagging import tag

    def key() -> str:
        return Stage(tag, model=1, words=PORTS, names={}, precision="32", seed=1).key

    before = key()
    real = stages.versions
    monkeypatch.setattr(stages, "versions", lambda file: tuple((n, v + 1) for n, v in real(file)))

    assert key() != before


# ---- values


def test_equal_values_give_equal_keys_in_other_processes(tmp_path):
    (tmp_path / "keyed_order.py").write_text("def step(work, *, names, types, lr):\n    pass\n")
    code = (
        "from keyed_order import step\nfrom benchmark.run.stage import Stage\n"
        "print(Stage(step, names={'b': 1, 'a': 2}, types=('x', 'y'), lr=0.1).key)"
    )
    keys = set()
    for seed in ("0", "1", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        keys.add(done.stdout.strip())

    assert len(keys) == 1
    assert len(keys.pop()) == 32


def test_the_order_in_which_inputs_are_bound_leaves_the_key():
    assert Stage(sail, seed=1, lr=0.2).key == Stage(sail, lr=0.2, seed=1).key


def test_title_and_size_leave_the_key():
    assert Stage(sail, title="a", size=1.0).key == Stage(sail, title="b", size=2.0).key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"lr": 0.1}, {"lr": 0.2}),
        ({"lr": 1}, {"lr": 1.0}),
        ({"seed": 1}, {"seed": 2}),
        ({"seed": 1}, {"seed": True}),
        ({"names": {"a": "x"}}, {"names": {"a": "y"}}),
        ({"names": ["a", "b"]}, {"names": ["b", "a"]}),
        ({"names": "1"}, {"names": 1}),
        ({"names": None}, {"names": "None"}),
    ],
)
def test_another_value_gives_another_key(one, other):
    assert Stage(sail, **one).key != Stage(sail, **other).key


def test_the_content_of_a_split_is_in_the_key():
    [first, second] = PORTS.sentences
    renamed = Split("harbour", "train", (Sentence(first.id, first.words, (Span(0, 1, "port"),)), second))
    keys = {
        Stage(sail, train=split).key
        for split in (PORTS, renamed, PORTS.words_only(), Split("harbour", "train", (second, first)))
    }

    assert len(keys) == 4
    assert Stage(sail, train=Split("harbour", "train", tuple(PORTS.sentences))).key in keys


def test_a_split_inside_a_list_or_a_mapping_is_in_the_key():
    assert Stage(sail, train=[PORTS]).key != Stage(sail, train=[PORTS.words_only()]).key
    assert Stage(sail, train={"a": PORTS}).key != Stage(sail, train={"a": PORTS.words_only()}).key


def test_a_backbone_is_keyed_by_its_identity_and_not_by_its_folder():
    here, there = Backbone("minilm", "abc", "/here"), Backbone("minilm", "abc", "/there")

    assert Stage(sail, backbone=here).key == Stage(sail, backbone=there).key
    assert Stage(sail, backbone=here).key != Stage(sail, backbone=Backbone("minilm", "abd", "/here")).key


def test_a_parents_key_is_in_the_key():
    assert Stage(sail, parent=Stage(moor, seed=1)).key != Stage(sail, parent=Stage(moor, seed=2)).key


def test_ingredients_are_json_with_the_splits_name():
    found = Stage(sail, train=PORTS, parent=Stage(moor)).ingredients

    assert json.loads(json.dumps(found)) == found
    assert found["inputs"]["train"] == {"split": "harbour/train", "hash": PORTS.hash}
    assert found["inputs"]["parent"] == {"stage": Stage(moor).key, "step": f"{__name__}:moor"}


@dataclass(frozen=True)
class Settings:
    lr: float = 0.1


REFUSED = (
    "a step was bound to {}, which has no key; bind numbers, text, lists, mappings, splits, stages, "
    "or a dataclass with a method `ingredient`."
)


@pytest.mark.parametrize(
    "value",
    [Settings(), {1, 2}, Path("/ships"), float("nan"), float("inf"), b"ships", {1: "one"}],
    ids=["settings", "set", "path", "nan", "inf", "bytes", "number as a name"],
)
def test_a_value_without_a_key_is_refused(value):
    with pytest.raises(PlanError) as refused:
        _ = Stage(sail, settings=value).key

    assert str(refused.value) == REFUSED.format(repr(value))


def test_an_object_inside_a_list_is_refused_too():
    with pytest.raises(PlanError) as refused:
        _ = Stage(sail, settings=[1, {"a": Settings()}]).key

    assert str(refused.value) == REFUSED.format("Settings(lr=0.1)")


def test_a_step_bound_to_an_unknown_input_is_refused_at_once():
    for _ in range(2):
        with pytest.raises(TypeError, match="got an unexpected keyword argument 'anchor'"):
            Stage(sail, anchor=1)


# ---- requests


def test_what_is_packed_comes_back():
    parent = Stage(moor)
    value = {
        "split": PORTS,
        "parents": [parent, None],
        "backbone": Backbone("minilm", "abc", "/here"),
        "names": {"$split": "no split", "b": 2, "a": 1.5},
        "flag": True,
    }
    packed = json.loads(json.dumps(pack(value)))
    splits = {PORTS.hash: PORTS}

    found = unpack(packed, split=splits.__getitem__, stage=lambda key: Path("/store") / key)

    assert found == {**value, "parents": [Path("/store") / parent.key, None]}
    assert list(found["names"]) == ["$split", "b", "a"]


def test_a_tuple_comes_back_as_a_list():
    assert unpack(pack((1, (2, 3))), split=str, stage=Path) == [1, [2, 3]]


def test_resolve_returns_a_function_by_its_import_name():
    assert resolve("benchmark.models.backbones:Backbone.ingredient") is Backbone.ingredient


def test_a_split_has_the_same_hash_when_read_in_another_process(tmp_path):
    PORTS.to_jsonl(tmp_path / "split.jsonl")

    assert plain(Split.from_jsonl(tmp_path / "split.jsonl")) == plain(PORTS)


# ---- graphs


def test_a_graph_has_parents_first_and_each_stage_once():
    root = Stage(moor, seed=1)
    left = Stage(sail, parent=root, lr=0.1)
    right = Stage(sail, parent=Stage(moor, seed=1), lr=0.2)
    final = Stage(sail, parent=[left, right], names={"again": root})

    found = final.graph()

    assert [s.key for s in found] == [root.key, left.key, right.key, final.key]
    assert [s.key for s in final.parents] == [left.key, right.key, root.key]


def test_stages_and_splits_are_found_at_any_depth():
    inner, outer = Stage(moor, seed=1), Stage(moor, seed=2)
    final = Stage(sail, names={"a": [PORTS, ("text", 1, None, {"b": inner})]}, parent=outer, seed=[])

    assert final.parents == [inner, outer]
    assert final.splits == [PORTS]


def test_rebind_changes_one_split_and_nothing_else():
    words, others = PORTS.words_only(), Split("text", "new", (Sentence("text/new/0", ("Fog",), None),))
    parent = Stage(moor)
    before = Stage(sail, train=words, parent=parent, lr=0.3, title="x", size=4.0)

    after = before.rebind(words, others)

    assert after.splits == [others]
    assert after.parents[0].key == parent.key
    assert (after.inputs["lr"], after.title, after.size) == (0.3, "x", 4.0)
    assert after.key == Stage(sail, train=others, parent=parent, lr=0.3).key
    assert before.splits == [words]
