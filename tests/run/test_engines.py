"""Engines by name, the file of their options, and what a stage asks of them."""

import json
import os
import sys

import pytest

from benchmark.errors import EngineError, UnknownName
from benchmark.llm.model import Llm
from benchmark.models.backbones import Backbone
from benchmark.run.engines import ENGINES, RayOptions, make, read_options
from benchmark.run.stage import Stage, all_code


def written(tmp_path, text):
    path = tmp_path / "engine.yaml"
    path.write_text(text)
    return path


# ---- the file


def test_what_a_file_says_is_returned_by_engine(tmp_path):
    text = "engine: ray\nlocal: {slots: 2, threads: 4}\nray:\nslurm: {partition: gpu}\n"

    assert read_options(written(tmp_path, text)) == {
        "engine": "ray", "local": {"slots": 2, "threads": 4}, "ray": {}, "slurm": {"partition": "gpu"},
    }  # fmt: skip
    assert read_options(written(tmp_path, "")) == read_options(None) == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ray: {address: auto}\nray: {}", "line 2: this is no YAML: the key 'ray' stands twice."),
        ("ray: [", "line 1: this is no YAML: expected the node content, but found '<stream end>'."),
        ("- ray", "expected names with options, such as `ray: {address: auto}`."),
        ("rai: {}", "there is no 'rai'. Did you mean 'ray'? There are: engine, local, ray, slurm."),
        ("engine: slrum", "there is no engine 'slrum'. Did you mean 'slurm'? There are: local, ray, slurm."),
        ("local: 2", "local is 2, expected options, such as `local: {slots: 2}`."),
        ("local: {slot: 2}", "local: there is no option 'slot'. Did you mean 'slots'? There are: slots, threads."),
        ("local: {slots: 0}", "local: slots is 0: input should be greater than or equal to 1."),
        ("ray: {cpus_per_stage: many}", "ray: cpus_per_stage is 'many': input should be a valid integer."),
        ("ray: {address: 'ray://head:10001'}", "ray: address is 'ray://head:10001': expected `auto`, or `host:port`."),
        ("ray: {gpus_per_stage: 1.5}", "ray: gpus_per_stage is 1.5: more than one GPU must be a whole number."),
        ("ray: {worker_env: {A: 1}}", "ray: worker_env.A is 1: input should be a valid string."),
    ],
)
def test_a_file_that_says_what_no_engine_knows_is_refused(tmp_path, text, told):
    path = written(tmp_path, text)
    with pytest.raises((EngineError, UnknownName)) as refused:
        read_options(path)

    assert str(refused.value) == f"{path}: {told}"


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(EngineError) as refused:
        read_options(tmp_path / "none.yaml")

    assert str(refused.value) == (
        f"{tmp_path}/none.yaml: the options of engines cannot be read (No such file or directory)."
    )


def test_the_file_is_the_given_one_else_that_of_the_environment_else_the_users(tmp_path, monkeypatch):
    from benchmark.paths import engine_file

    monkeypatch.setenv("CDNER_ENGINE", str(tmp_path / "named.yaml"))
    assert engine_file(tmp_path / "given.yaml") == tmp_path / "given.yaml"
    assert engine_file() == tmp_path / "named.yaml"
    monkeypatch.delenv("CDNER_ENGINE")
    monkeypatch.setattr("platformdirs.user_config_dir", lambda name: str(tmp_path / name))
    assert engine_file() is None
    (tmp_path / "cdner").mkdir()
    (tmp_path / "cdner" / "engine.yaml").touch()
    assert engine_file() == tmp_path / "cdner" / "engine.yaml"


# ---- engines by name


def test_the_command_line_goes_before_the_options():
    said = {"slots": 3, "threads": 2}
    engines = [make("local", said), make("local", said, 1, 5), make("ray", {"slots": 3, "cpus_per_stage": 2}, 1, 5)]
    for engine in engines:
        engine.close()

    assert [(e.slots, e.threads) for e in engines] == [(3, 2), (1, 5), (1, 5)]


@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_whose_package_is_missing_says_how_to_get_it(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EngineError) as refused:
        make(name, {})

    assert str(refused.value) == (
        f"the engine {name!r} needs the package {package!r}, which is not installed: pip install 'cdner[{name}]'."
    )


def test_an_unknown_engine_is_refused_with_the_nearest():
    with pytest.raises(UnknownName) as refused:
        make("rey", {}, where="--engine rey")

    assert str(refused.value) == (
        "--engine rey: there is no engine 'rey'. Did you mean 'ray'? There are: local, ray, slurm."
    )


def test_the_command_line_offers_every_engine():
    from benchmark.cli import parser

    for name in ENGINES:
        assert parser().parse_args(["run", "demo", "--engine", name]).engine == name


def test_a_run_takes_the_engine_of_the_file(play, cdner, tmp_path, monkeypatch):
    asked = []

    def make_and_tell(name, options, *more, **where):
        asked.append((name, options, more))
        return make("local", {})

    monkeypatch.setattr("benchmark.run.engines.make", make_and_tell)
    play.write({}, {"script": {}})
    file = written(tmp_path, "engine: ray\nray: {slots: 5}\nlocal: {slots: 2}\n")

    assert cdner("run", play.folder, "--engine-config", file, "--no-table")[0] == 0
    assert cdner("run", play.folder, "--engine-config", file, "--engine", "local", "--slots", "1", "--no-table")[0] == 0
    assert asked == [("ray", {"slots": 5}, (None, None)), ("local", {"slots": 2}, (1, None))]


# ---- what a stage asks for


def step(work, **inputs):
    """Do nothing."""


BERT = Backbone("tiny", "abc")
SERVER, HERE = Llm("quay-1", "http://127.0.0.1:1/v1"), Llm("quay-1", "local", folder="quay")


@pytest.mark.parametrize(
    ("stage", "needs"),
    [
        (Stage(step, words=["fog"], number=1), "cpu"),
        (Stage(step, backbone=BERT), "gpu"),
        (Stage(step, inner={"backbones": [BERT]}), "gpu"),
        (Stage(step, llm=SERVER), "llm"),
        (Stage(step, llm=HERE), "gpu"),
        (Stage(step, llm=SERVER, backbone=BERT), "gpu"),
        (Stage(step, model=Stage(step, backbone=BERT)), "gpu"),
        (Stage(step, answers=Stage(step, llm=SERVER)), "cpu"),
        (Stage(step, needs="cpu", model=Stage(step, backbone=BERT)), "cpu"),
        (Stage(step, needs="gpu", words=["fog"]), "gpu"),
    ],
)
def test_a_stage_needs_what_its_inputs_tell_unless_it_says_so_itself(stage, needs):
    assert stage.needs == needs


def test_what_a_stage_needs_is_no_part_of_its_key():
    assert Stage(step, number=1).key == Stage(step, needs="gpu", number=1).key


def test_the_request_of_a_stage_tells_what_it_needs(store, fakes_on_path):
    scratch = store.prepare(Stage(fakes_on_path.write_word, word="fog", needs="gpu"), threads=1)

    assert json.loads((scratch / "request.json").read_text())["needs"] == "gpu"


def test_the_code_of_all_methods_is_what_their_keys_hold():
    found = all_code()

    assert found["benchmark.models.tagging"].startswith("VERSION ")
    assert {"methods.tagger", "methods.lar"} <= set(found)
    assert len(found["methods.tagger"]) == 32


def test_an_option_whose_name_is_no_text_is_refused():
    with pytest.raises(EngineError) as refused:
        make("local", {2: 3}, where="engine.yaml")
    assert str(refused.value) == "engine.yaml: local: there is no option 2. There are: slots, threads."


# ---- what Ray is asked for


@pytest.mark.parametrize(
    ("said", "needs", "wanted"),
    [
        ({}, "gpu", {"CPU": 1.0}),
        ({"cpus_per_stage": 4, "gpus_per_stage": 0.5}, "gpu", {"CPU": 4.0, "GPU": 0.5}),
        ({"cpus_per_stage": 4, "gpus_per_stage": 0.5}, "cpu", {"CPU": 4.0}),
        ({"cpus_per_stage": 4, "gpus_per_stage": 1, "memory_gib": 2.5}, "llm", {"CPU": 1.0, "memory": 2.5 * 2**30}),
    ],
)
def test_ray_is_asked_for_what_a_stage_needs(said, needs, wanted):
    from benchmark.run.ray_engine import RayEngine

    assert RayEngine(RayOptions(address="auto", **said)).wanted(needs) == wanted


def test_a_cluster_that_is_not_there_is_told():
    engine = make("ray", {"address": "127.0.0.1:9"})
    with pytest.raises(EngineError) as refused:
        engine.warm()
    engine.close()

    assert str(refused.value) == (
        "there is no Ray cluster at '127.0.0.1:9' that this machine can join: Connection refused. Start one (`ray start "
        "--head`), or leave `address` out, and cdner starts a Ray of its own."
    )


def test_the_environment_is_as_it_was_when_an_engine_leaves():
    from benchmark.run.ray_engine import environment

    before = dict(os.environ)
    with environment({"CDNER_FOG": "thick", "PATH": "/nowhere"}):
        assert (os.environ["CDNER_FOG"], os.environ["PATH"]) == ("thick", "/nowhere")
    assert dict(os.environ) == before
