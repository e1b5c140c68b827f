"""What is committed under results/ and said in the README holds together."""

import hashlib
import json
import os
import re
import shlex
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import constants
from models.conftest import save_bert, save_causal, save_t5

from benchmark.cli import main, parser
from benchmark.corpus.corpus import load
from benchmark.models import backbones
from benchmark.report import committed
from benchmark.run import record as records
from benchmark.run.plan import read_board
from benchmark.score.protocols import Gold, read_predictions

ROOT = Path(__file__).resolve().parent.parent
RECORDS = sorted((ROOT / "results").glob("minilm/records/**/*.json"))
BOARD = ROOT / "results" / "minilm"


def name(path: Path) -> str:
    return str(path.relative_to(BOARD / "records").with_suffix(""))


@pytest.mark.parametrize("path", RECORDS, ids=name)
def test_a_committed_record_holds_together(path):
    record = json.loads(path.read_text(encoding="utf8"))
    predictions = path.with_name(record["predictions"]["file"])

    assert record["cell"] == name(path)
    assert record["final"] == record["stages"][-1]["key"]
    assert hashlib.sha256(predictions.read_bytes()).hexdigest() == record["predictions"]["sha256"]
    for level, sentences in record["sentences"].items():
        assert [sum(column) for column in zip(*sentences, strict=True)] == record["scores"][level]["strict"]["all"]
        for counts in record["scores"][level].values():
            by_type = [sum(column) for column in zip(*counts["types"].values(), strict=True)]
            assert by_type[0] == counts["all"][0]


@pytest.mark.skipif(not os.environ.get("CDNER_DATA"), reason="gold is not here: set CDNER_DATA")
@pytest.mark.parametrize("path", RECORDS, ids=name)
def test_a_committed_record_is_what_its_predictions_score(path):
    record = json.loads(path.read_text(encoding="utf8"))
    corpus = load(record["transfer"].get("evaluate") or record["transfer"]["target"])
    gold = [Gold(s.id, s.words, s.spans or ()) for s in corpus.test.sentences]
    predicted = read_predictions(path.with_name(record["predictions"]["file"]))
    general = {key: t.general for key, t in corpus.card.types.items()}

    counted = records.scores(gold, predicted, level=record["level"], general=general)

    assert {key: record[key] for key in counted} == json.loads(json.dumps(counted))


def test_every_cell_of_the_committed_board_has_a_good_record():
    cells = read_board(str(BOARD), settings=False).cells

    assert set(map(name, RECORDS)) == {c.name for c in cells}
    assert {json.loads(p.read_text(encoding="utf8"))["status"] for p in RECORDS} == {"ok"}


def test_committed_tables_are_what_the_records_say():
    board = read_board(str(BOARD), settings=False)

    committed.check(board.name, board.folder, board.expected(), [ROOT / "README.md"])


@pytest.mark.parametrize("page", ["README.md", "docs/add-a-method.md", "docs/add-a-corpus.md", "docs/published.md"])
def test_every_command_of_a_page_is_one_that_the_command_line_takes(page):
    text = (ROOT / page).read_text(encoding="utf8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    shell = "".join(block for language, block in blocks if not language)
    commands = re.findall(r"^cdner (.*?)(?:\s+#.*)?$", shell, re.MULTILINE)

    assert commands
    for command in commands:
        assert hasattr(parser().parse_args(shlex.split(command)), "command")


# ---------------------------------------------------------------------------------------------- every plan

PLANS = sorted((ROOT / "results").glob("**/plan.yaml"))


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Path:
    """Return a cache of the hub in which the models that plans name are tiny ones of random weights."""
    folder = tmp_path_factory.mktemp("hub")
    save_any_t5 = partial(save_t5, sentinels=20)
    for name, save in (
        ("google/flan-t5-base", save_any_t5), ("google/flan-t5-large", save_any_t5), ("bert-base-cased", save_bert),
        ("meta-llama/Llama-2-7b-hf", partial(save_causal, kind="llama")),
    ):  # fmt: skip
        repository = folder / f"models--{name.replace('/', '--')}"
        save(repository / "snapshots" / ("0" * 40))
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0" * 40)
    return folder


@pytest.mark.skipif(not os.environ.get("CDNER_DATA"), reason="the corpora are not here: set CDNER_DATA")
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: str(plan.parent.relative_to(ROOT / "results")))
def test_every_plan_passes_a_dry_run(plan, hub, monkeypatch, capsys):
    if "topt" in plan.read_text(encoding="utf8") and not os.environ.get("CDNER_KNOWLEDGE"):
        pytest.skip("the explanations are not here: set CDNER_KNOWLEDGE")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    backbones._hub_revision.cache_clear()

    assert main(["run", str(plan.parent), "--dry-run"]) == 0

    printed = capsys.readouterr().out
    assert f"{len(read_board(str(plan.parent), settings=False).cells)} cells: " in printed
