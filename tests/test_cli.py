"""The command line as a user meets it: what it prints, how it ends, and how little it imports."""

import json
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from benchmark import __version__
from benchmark.cli import main, parser
from benchmark.paths import shipped_boards
from benchmark.run.plan import boards

COMMANDS = ("list", "card", "lint", "run", "status", "store", "adopt", "table", "why", "predict")
HEAVY = ("torch", "transformers", "datasets", "pytorch_lightning", "tokenizers", "torchcrf")
CELL = "tagger/demo-news--demo-cinema/supervised/seed1"

PLAN = """\
about: A harbour of one cell.
variants:
  tagger: {method: tagger, set: {encoder: rnn, epochs: 2}}
transfers:
  - {sources: [demo-news], targets: [demo-cinema]}
"""

CARD = """\
name: harbour
version: 1
about: Port news.
licence: CC0-1.0
cite: "Nobody, Ships at Rest, 2019"
source:
  train: {path: harbour/train.txt}
  dev: null
  test: {path: harbour/test.txt}
format: {columns: [word, tag], separator: tab, scheme: iob2}
types:
  port: {name: port, general: location, means: a harbour}
"""


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    """Run a command here. Returns its exit status, what it printed, and what it complained of."""
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def imported(*arguments: str) -> set[str]:
    """Return the heavy packages that a command has imported when it ends."""
    code = (
        "import sys\nfrom benchmark.cli import main\n"
        f"try:\n    main({list(arguments)!r})\nexcept SystemExit:\n    pass\n"
        f"print('HEAVY', *[name for name in {(*HEAVY, 'pydantic')!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.fixture
def harbour(tmp_path):
    """Return the folder of a board called harbour."""
    folder = tmp_path / "results" / "harbour"
    folder.mkdir(parents=True)
    (folder / "plan.yaml").write_text(PLAN)
    return folder


@pytest.fixture
def own_corpus(tmp_path):
    """Return a function that writes a corpus of one's own, and returns the options that name it."""

    def write(train: str, test: str) -> list[str]:
        (tmp_path / "cards").mkdir()
        (tmp_path / "data" / "harbour").mkdir(parents=True)
        (tmp_path / "cards" / "harbour.yaml").write_text(CARD)
        (tmp_path / "data" / "harbour" / "train.txt").write_text(train)
        (tmp_path / "data" / "harbour" / "test.txt").write_text(test)
        return ["--cards", str(tmp_path / "cards"), "--data", str(tmp_path / "data")]

    return write


# ---- help


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["list"], ["card", "demo-news"], ["list", "ships"], ["card", "mars"]]
)
def test_what_needs_no_model_imports_nothing_heavy(arguments):
    assert imported(*arguments) & set(HEAVY) == set()


def test_help_imports_no_pydantic():
    assert imported("--help") == set()


def test_a_table_imports_nothing_heavy(harbour):
    assert imported("table", "harbour") & set(HEAVY) == set()


@pytest.mark.parametrize("arguments", [["status", "harbour"], ["status", "harbour", "--json"], ["store"]])
def test_what_only_looks_imports_nothing_heavy(harbour, arguments):
    assert imported(*arguments) & set(HEAVY) == set()


def test_help_names_every_command(capsys):
    status, out, err = call(capsys, "--help")

    assert (status, err) == (0, "")
    assert all(f"\n    {name} " in out for name in COMMANDS)
    assert out.endswith("\nexample: cdner run demo && cdner table demo --format markdown\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_commands_help_ends_in_an_example_of_it(capsys, command):
    status, out, _ = call(capsys, command, "--help")

    assert status == 0
    assert out.splitlines()[-1].startswith(f"example: cdner {command} ")


def test_the_version_is_told(capsys):
    assert call(capsys, "--version") == (0, f"cdner {__version__}\n", "")


def test_no_command_at_all_prints_help_and_is_a_wrong_call(capsys):
    status, out, _ = call(capsys)

    assert status == 2
    assert out.startswith("usage: cdner ")


# ---- wrong calls


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "cdner run: the following arguments are required: BOARD\nTry: cdner run --help\n"),
        (
            ["run", "demo", "--slots", "0"],
            "cdner run: argument --slots: '0' is no whole number above 0\nTry: cdner run --help\n",
        ),
        (
            ["run", "demo", "--threads", "two"],
            "cdner run: argument --threads: 'two' is no whole number above 0\nTry: cdner run --help\n",
        ),
        (
            ["predict", "text"],
            "cdner predict: the following arguments are required: --from\nTry: cdner predict --help\n",
        ),
        (
            ["run", "demo", "--max-hours", "0"],
            "cdner run: argument --max-hours: '0' is no number above 0\nTry: cdner run --help\n",
        ),
        (
            ["run", "demo", "--max-hours", "nan"],
            "cdner run: argument --max-hours: 'nan' is no number above 0\nTry: cdner run --help\n",
        ),
        (
            ["run", "demo", "--max-usd", "inf"],
            "cdner run: argument --max-usd: 'inf' is no number above 0\nTry: cdner run --help\n",
        ),
        (
            ["run", "demo", "--max-usd", "ten"],
            "cdner run: argument --max-usd: 'ten' is no number above 0\nTry: cdner run --help\n",
        ),
        (
            ["run", "demo", "--keep-going", "--fail-fast"],
            "cdner run: argument --fail-fast: not allowed with argument --keep-going\nTry: cdner run --help\n",
        ),
        (
            ["adopt", "demo", "--sample", "0"],
            "cdner adopt: argument --sample: '0' is no whole number above 0\nTry: cdner adopt --help\n",
        ),
        (
            ["slice", "demo", "--by", "type", "--by", "seen"],
            "cdner slice: argument --by: given twice, and it takes one value\nTry: cdner slice --help\n",
        ),
        (["status"], "cdner status: the following arguments are required: BOARD\nTry: cdner status --help\n"),
        (["list", "--zoo=3"], "cdner list: there is no option --zoo.\nTry: cdner list --help\n"),
        (
            ["table", "minilm", "--typs", "general"],
            "cdner table: there is no option --typs. Did you mean '--types'?\nTry: cdner table --help\n",
        ),
        (["ranks", "demo", "ships"], "cdner ranks: unrecognized arguments: ships\nTry: cdner ranks --help\n"),
        (["--zoo"], "cdner: there is no option --zoo.\nTry: cdner --help\n"),
    ],
)
def test_a_wrong_call_is_told_in_two_lines(capsys, arguments, message):
    assert call(capsys, *arguments) == (2, "", message)


def test_a_command_leaves_signals_as_they_were(capsys):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]

    assert call(capsys, "list")[0] == 0
    assert call(capsys, "card", "no-such")[0] == 1
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


@pytest.mark.parametrize(("options", "ends"), [([], False), (["--keep-going"], False), (["--fail-fast"], True)])
def test_a_run_keeps_going_unless_told_otherwise(options, ends):
    assert parser().parse_args(["run", "demo", *options]).fail_fast is ends


def test_an_unknown_board_is_told(capsys, harbour):
    assert call(capsys, "run", "harbuor") == (
        1,
        "",
        "cdner: there is no board 'harbuor': no folder of that path with a plan.yaml in it, and none of that name in "
        f"{harbour.parent}. Did you mean 'harbour'? There are: {', '.join(boards())}.\n",
    )


def test_an_unknown_corpus_is_told(capsys):
    status, out, err = call(capsys, "card", "demo-new")

    assert (status, out) == (1, "")
    assert err.startswith("cdner: there is no corpus 'demo-new'. Did you mean 'demo-news'? There are: ai, conll2003, ")


@pytest.mark.parametrize("arguments", [["why"], ["predict", "fog", "--from"]])
def test_an_unknown_cell_is_told(capsys, harbour, arguments):
    wrong = "harbour/tagger/demo-news--demo-cinema/supervised/seed2"

    assert call(capsys, *arguments, wrong) == (
        1,
        "",
        f"cdner: there is no cell '{wrong}' in harbour. Did you mean '{CELL}'? A cell is named "
        "<variant>/<sources>--<target>/<regime>/seed<n>; `cdner run BOARD --dry-run` lists them.\n",
    )


def test_an_only_that_fits_no_cell_is_told(capsys, harbour):
    assert call(capsys, "run", "harbour", "--only", "*/seed9", "--only", "x") == (
        1,
        "",
        f"cdner: no cell of harbour fits --only */seed9 x; its first is {CELL}.\n",
    )


def test_an_unknown_protocol_is_told(capsys, harbour):
    assert call(capsys, "table", "harbour", "--protocol", "strickt") == (
        1,
        "",
        "cdner: there is no protocol 'strickt'. Did you mean 'strict'? There are: strict, conlleval, "
        "conlleval-stream, gliner, topt, cpner, uniner, b2ner, token.\n",
    )


# ---- list, card, lint


def test_list_names_methods_corpora_and_boards(capsys, harbour):
    status, out, _ = call(capsys, "list")
    parts = {part.splitlines()[0]: part.splitlines()[1:] for part in out.split("\n\n")}

    assert status == 0
    assert list(parts) == ["methods", "corpora", "boards"]
    assert any(line.startswith("  tagger ") and "Tagger: an encoder" in line for line in parts["methods"])
    assert any(line.startswith("  demo-news ") for line in parts["corpora"])
    assert any(line.split() == ["harbour", "A", "harbour", "of", "one", "cell."] for line in parts["boards"])


def test_list_of_one_kind_has_no_heading(capsys, harbour):
    status, out, _ = call(capsys, "list", "boards")

    assert (status, out.splitlines()[0].split()[0]) == (0, "harbour")


def test_list_goes_on_past_a_board_that_cannot_be_read(capsys, harbour):
    broken = harbour.parent / "broken"
    broken.mkdir()
    (broken / "plan.yaml").write_text("about: {")
    status, out, _ = call(capsys, "list", "boards")

    assert status == 0
    assert "harbour" in out


def test_card_prints_sizes_types_and_oddities(capsys):
    status, out, _ = call(capsys, "card", "demo-news")

    assert status == 0
    assert out.startswith("demo-news, version 1\n")
    assert "train        300  5,562       510" in out
    assert "oddities" in out


def test_lint_of_a_good_corpus_ends_well(capsys):
    status, out, err = call(capsys, "lint", "demo-news")

    assert (status, err) == (0, "")
    assert out.startswith("demo-news\n")


def test_lint_refuses_a_broken_corpus_of_ones_own_with_status_1(capsys, own_corpus, tmp_path):
    options = own_corpus("Fog\tO\n\nHaven\tI-port\n", "Fog\tO\n")
    status, out, err = call(capsys, "lint", "harbour", *options)

    assert (status, out) == (1, "harbour: refused\n")
    assert err.startswith(f"cdner: {tmp_path}/data/harbour/train.txt")
    assert "I-port" in err


def test_lint_reads_a_good_corpus_of_ones_own(capsys, own_corpus):
    options = own_corpus("Fog\tO\nHaven\tB-port\n", "Haven\tB-port\nslept\tO\n")
    status, out, err = call(capsys, "lint", "harbour", *options)

    assert (status, err) == (0, "")
    assert out.startswith("harbour\n")


@pytest.mark.parametrize(
    ("call_of", "said"),
    [
        (("lint", "demo-news", "--source", "conl"), "cdner: there is no corpus 'conl'. Did you mean 'conll2003'?"),
        (("lint", "demo-new", "demo-news"), "cdner: there is no corpus 'demo-new'. Did you mean 'demo-news'?"),
        (("lint", "demo-news", "--data", "/nowhere/at/all"), "cdner: /nowhere/at/all: there is no such data folder."),
    ],
)
def test_lint_reads_nothing_where_a_name_is_wrong(capsys, call_of, said):
    status, out, err = call(capsys, *call_of)

    assert (status, out) == (1, "")
    assert err.startswith(said)


def test_lint_does_not_call_refused_what_is_not_there(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("CDNER_CACHE", str(tmp_path / "cache"))
    options = tmp_path / "quay.yaml"
    options.write_text("name: quay\nsource: {train: {path: a}, test: {path: b}}\ntypes: {x: {general: person}}\n")
    status, out, err = call(capsys, "lint", "quay", "--cards", str(tmp_path))

    assert (status, out) == (1, "quay: not here\n")
    assert "the train file is not on this machine" in err or "the test file is not on this machine" in err


def test_lint_goes_on_past_a_refused_corpus(capsys, own_corpus):
    options = own_corpus("Haven\tI-port\n", "Fog\tO\n")
    status, out, _ = call(capsys, "lint", "harbour", "demo-news", *options)

    assert status == 1
    assert out.startswith("harbour: refused\n\ndemo-news\n")


# ---- run, table, why


def test_a_dry_run_lists_cells_stages_and_minutes_and_runs_nothing(capsys, harbour):
    status, out, err = call(capsys, "run", "harbour", "--dry-run", "--slots", "2")
    cells, stages, overview = out.split("\n\n")

    assert (status, err) == (0, "")
    assert cells == f"{CELL}  to run"
    assert [line.split("  ", 1)[1] for line in stages.splitlines()] == [
        "train demo-news (rnn) seed 1",
        "train demo-cinema (rnn, after the source) seed 1",
        "predict demo-cinema seed 1",
    ]
    assert overview.splitlines()[:2] == [
        "1 cell: 0 done, 1 to run",
        "3 stages, sharing saves 0; 0 in the store, 3 to run",
    ]
    assert overview.splitlines()[2].endswith(" on 2 slots")
    assert list(harbour.iterdir()) == [harbour / "plan.yaml"]


def test_the_demo_has_a_dry_run(capsys, tmp_path):
    folder = tmp_path / "results" / "demo"  # without the records of a demo that was run in this checkout
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(shipped_boards() / "demo" / "plan.yaml", folder)

    status, out, _ = call(capsys, "run", str(folder), "--dry-run")

    assert status == 0
    assert f"{CELL}  to run\n" in out


def test_a_corpus_that_is_nowhere_is_told_before_anything_runs(capsys, harbour, monkeypatch, tmp_path):
    (harbour / "plan.yaml").write_text(PLAN.replace("demo-cinema", "harbour"))
    (tmp_path / "cards").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "cards" / "harbour.yaml").write_text(CARD)
    status, out, err = call(
        capsys, "run", "harbour", "--dry-run", "--cards", str(tmp_path / "cards"), "--data", str(tmp_path / "data")
    )

    assert (status, out) == (1, "")
    assert err.startswith("cdner: ")
    assert "harbour/train.txt" in err


def test_why_prints_what_a_key_is_made_of(capsys, harbour):
    status, out, _ = call(capsys, "why", CELL.replace("tagger/", "harbour/tagger/", 1))

    assert status == 0
    assert out.startswith(f"harbour/{CELL}\nthere is no record; the cell is to run\n")
    assert "\n  code.versions.benchmark.models.tagging = " in out
    assert "\n  recipe.Recipe.epochs = 2\n" in out
    assert "\n  seed = 1\n" in out


def record(**other) -> dict:
    """Return a record typed by hand: 2 hits, 1 extra, 2 missed."""
    counted = {"all": [2, 1, 2], "types": {"film": [2, 1, 2]}}
    general = {"all": [3, 0, 1], "types": {"miscellaneous": [3, 0, 1]}}
    return {
        "schema": 1,
        "cell": CELL,
        "board": "harbour",
        "status": "ok",
        "reason": None,
        "variant": "tagger",
        "method": "tagger",
        "level": "fine",
        "backbone": "rnn",
        "corpora": {"demo-news": {"version": 1}, "demo-cinema": {"version": 1}},
        "scorer": 1,
        "scores": {"fine": {"strict": counted}, "general": {"strict": general}},
        "errors": {
            "fine": {"hit": 2, "type": 1, "boundary": 0, "missed": 1, "spurious": 0},
            "general": {"hit": 3, "type": 0, "boundary": 0, "missed": 1, "spurious": 0},
        },
        "sentences": {"fine": [[2, 1, 2]], "general": [[3, 0, 1]]},
        "provenance": {"precision": "32"},
        **other,
    }


def put(folder: Path, found: dict) -> None:
    path = folder / "records" / f"{found['cell']}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(found))


def test_a_table_as_json_has_the_keys_of_the_contract(capsys, harbour):
    put(harbour, record())
    status, out, _ = call(capsys, "table", "harbour", "--format", "json")
    [row] = json.loads(out)

    assert status == 0
    assert {name: row[name] for name in (
        "variant", "method", "backbone", "sources", "target", "regime", "select", "types", "protocol", "std", "seeds",
        "draws", "status", "reason",
    )} == {
        "variant": "tagger", "method": "tagger", "backbone": "rnn", "sources": ["demo-news"], "target": "demo-cinema",
        "regime": "supervised", "select": "target-dev", "types": "fine", "protocol": "strict", "std": None,
        "seeds": [1], "draws": [], "status": "ok", "reason": None,
    }  # fmt: skip
    assert row["metrics"] == {
        "precision": pytest.approx(200 / 3),
        "recall": pytest.approx(50),
        "f1": pytest.approx(400 / 7),
    }
    assert row["f1"] == pytest.approx(400 / 7)


def test_a_table_of_general_types_is_another(capsys, harbour):
    put(harbour, record())
    _, out, _ = call(capsys, "table", "harbour", "--format", "json", "--types", "general")
    [row] = json.loads(out)

    assert (row["types"], row["f1"]) == ("general", pytest.approx(600 / 7))


def test_a_failed_cell_stands_in_the_table_with_its_reason(capsys, harbour):
    failed = record(status="failed", reason="train_tagger (demo-news seed 1): out of memory")
    put(harbour, {k: v for k, v in failed.items() if k not in ("scores", "errors")})
    _, out, _ = call(capsys, "table", "harbour", "--format", "json")
    [row] = json.loads(out)

    assert (row["status"], row["f1"]) == ("failed", None)
    assert row["reason"] == "train_tagger (demo-news seed 1): out of memory"


def test_a_broken_record_is_told(capsys, harbour):
    put(harbour, record())
    path = harbour / "records" / f"{CELL}.json"
    path.write_text("{")
    status, _, err = call(capsys, "table", "harbour")

    assert status == 1
    assert err.startswith(f"cdner: {path}: this record is no JSON (")


def test_a_store_that_cannot_be_written_is_told_without_a_traceback(capsys, harbour, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CDNER_STORE", str(tmp_path / "file" / "store"))

    assert call(capsys, "run", "harbour", "--dry-run") == (
        1,
        "",
        f"cdner: {tmp_path}/file/store: the store cannot be written (Not a directory). "
        "Set CDNER_STORE to a folder that can.\n",
    )


def test_a_setting_that_is_no_number_of_seconds_is_told(capsys, harbour, monkeypatch):
    monkeypatch.setenv("CDNER_LEASE_SECONDS", "soon")
    status, _, err = call(capsys, "run", "harbour", "--no-table", "--slots", "1")

    assert (status, err) == (
        1, "cdner: CDNER_LEASE_SECONDS is 'soon', expected a number of seconds, such as 60.\n"
    )  # fmt: skip


# ---- status, store


def test_status_of_a_board_that_never_ran_says_that_all_waits(capsys, harbour, tmp_path):
    status, out, err = call(capsys, "status", "harbour", "--json")
    told = json.loads(out)

    assert (status, err) == (0, "")
    assert (told["counts"]["waiting"], sum(told["counts"].values())) == (1, 1)
    assert not (tmp_path / "store").exists()


def test_status_counts_a_record_as_done(capsys, harbour):
    put(harbour, record())
    told = json.loads(call(capsys, "status", "harbour", "--json")[1])

    assert (told["counts"]["done"], sum(told["counts"].values())) == (1, 1)


def test_there_is_nothing_to_prune_in_a_new_store(capsys, harbour, monkeypatch, tmp_path):
    (tmp_path / "shipped").mkdir()
    monkeypatch.setattr("benchmark.paths.shipped_boards", lambda: tmp_path / "shipped")

    assert call(capsys, "store", "prune") == (0, "there is nothing that no board needs\n", "")


# ---- one small board, from end to end, as a user runs it

WHOLE = textwrap.dedent("""\
    about: A model in seconds.
    variants:
      tagger: {method: tagger, set: {encoder: rnn, epochs: 1, source_epochs: 1, lr: 0.003}}
      merged: {method: tagger, set: {encoder: rnn, epochs: 1, source_epochs: 1, lr: 0.003, target_only: true}}
    transfers:
      - {sources: [demo-news], targets: [demo-cinema], regime: {sentences: 20}, select: last, draws: [1]}
    """)


def test_a_board_runs_and_a_second_run_says_that_nothing_is_to_do(capsys, harbour):
    (harbour / "plan.yaml").write_text(WHOLE)
    first = call(capsys, "run", "harbour", "--slots", "2", "--threads", "1")
    second = call(capsys, "run", "harbour", "--slots", "2", "--threads", "1", "--no-table")

    assert (first[0], first[2]) == (0, "")
    assert "2 cells done; 5 stages run in " in first[1]
    assert f"records   {harbour}/records\n" in first[1]
    assert (second[0], second[2]) == (0, "")
    assert "nothing to do: 2 cells, 2 done.\n" in second[1]
    assert len(list((harbour / "records").rglob("*.json"))) == 2
