"""Records of the same plan that were made elsewhere are taken into a board: checked, whole, never over a better one."""

import gzip
import hashlib
import json
import shutil

import pytest
import yaml
from run.conftest import DIRECT, FILM, NEWS, Board

import methods
from benchmark.errors import PlanError
from benchmark.run import merge as merging
from benchmark.run.cells import plan_cells
from benchmark.run.outcome import Outcomes
from benchmark.run.plan import read_board

CELL = f"echo/{NEWS}--{FILM}/supervised/seed1"
HOME = f"echo/--{NEWS}/in-domain/seed1"
PLAN = {"transfers": [DIRECT, {"targets": [NEWS], "select": "last"}]}
AGAIN = "Ask for the original, or run the cell again."


@pytest.fixture(scope="module")
def made(tmp_path_factory, warm_engine):
    """Return the folder of a board that has run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(methods.METHODS, "echo", "fake_methods:Echo")
        return Board(tmp_path_factory.mktemp("made"), warm_engine)(PLAN).board.folder


class Folders:
    """A board without records, and copies of one that has run."""

    def __init__(self, made, root):
        self.made, self.root = made, root
        self.into = root / "ours"
        self.into.mkdir()
        shutil.copy(made / "plan.yaml", self.into)

    def copy(self, name):
        return shutil.copytree(self.made, self.root / name)

    def files(self, folder=None):
        """Return the content of every record and of its predictions, by path."""
        root = (folder or self.into) / "records"
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture
def folders(made, tmp_path, monkeypatch):
    monkeypatch.setitem(methods.METHODS, "echo", "fake_methods:Echo")
    return Folders(made, tmp_path)


def edit(folder, change, cell=CELL):
    path = folder / "records" / f"{cell}.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    return record


def fail(record):
    """Turn a good record into one of a failure."""
    for part in ("scores", "errors", "sentences", "predictions"):
        record.pop(part)
    record.update(status="failed", reason="learn (x): out of memory", failure={"kind": "out of memory"})


def predict_nothing(folder, cell=CELL):
    """Write a good record of other predictions: the same stage, and nothing is found."""
    path = folder / "records" / f"{cell}.predictions.jsonl.gz"
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    text = "".join(json.dumps({"id": line["id"], "spans": []}) + "\n" for line in lines)
    packed = gzip.compress(text.encode(), mtime=0)
    path.write_bytes(packed)
    board = read_board(str(folder))
    [item] = plan_cells(board, [c for c in board.cells if c.name == cell])
    counted = Outcomes(board, None, None).score(item, path)
    edit(
        folder, lambda r: (r.update(counted), r["predictions"].update(sha256=hashlib.sha256(packed).hexdigest())), cell
    )
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def test_records_are_taken_whole_with_their_predictions(folders, cdner):
    theirs = folders.copy("theirs")

    assert cdner("merge", folders.into, theirs) == (
        0,
        f"taken    {CELL}\ntaken    {HOME}\n{theirs}: 2 taken, 0 there already, 0 refused\n"
        f"`cdner table {folders.into} --write` writes the tables anew\n",
        "",
    )
    assert folders.files() == folders.files(theirs)
    assert cdner("merge", folders.into, theirs)[1] == f"{theirs}: 0 taken, 2 there already, 0 refused\n"


def test_a_board_that_took_all_has_nothing_to_run(folders, cdner):
    cdner("merge", folders.into, folders.copy("theirs"))

    assert "2 cells: 2 done, 0 to run" in cdner("run", folders.into, "--dry-run")[1]


def test_a_dry_run_writes_nothing(folders, cdner):
    theirs = folders.copy("theirs")
    status, printed, _ = cdner("merge", folders.into, theirs, "--dry-run")

    assert (status, printed.splitlines()[-2:]) == (
        0, [f"{theirs}: 2 taken, 0 there already, 0 refused", "nothing was written"],
    )  # fmt: skip
    assert folders.files() == {}


def test_two_machines_share_a_board(folders, cdner):
    one, two = folders.copy("one"), folders.copy("two")
    shutil.rmtree(one / "records" / "echo" / f"--{NEWS}")
    shutil.rmtree(two / "records" / "echo" / f"{NEWS}--{FILM}")

    assert cdner("merge", folders.into, one, two)[1].splitlines()[:4] == [
        f"taken    {CELL}", f"{one}: 1 taken, 0 there already, 0 refused",
        f"taken    {HOME}", f"{two}: 1 taken, 0 there already, 0 refused",
    ]  # fmt: skip
    assert folders.files() == folders.files(folders.made)


def test_a_record_that_does_not_add_up_is_left_with_its_reason(folders, cdner):
    theirs = folders.copy("theirs")
    edit(theirs, lambda r: r["settings"].update(weight=2.0))

    status, printed, _ = cdner("merge", folders.into, theirs)
    assert (status, printed.splitlines()[:3]) == (
        1,
        [
            f"taken    {HOME}",
            f"refused  {CELL}  plan: settings.weight is 2.0, the plan says 1.0. It is of another plan: ask for that one.",
            f"{theirs}: 1 taken, 0 there already, 1 refused",
        ],
    )
    assert set(folders.files()) == {f"{HOME}.json", f"{HOME}.predictions.jsonl.gz"}


def test_a_good_record_takes_the_place_of_a_failed_one_and_never_the_other_way(folders, cdner):
    theirs = folders.copy("theirs")
    shutil.copytree(folders.made / "records", folders.into / "records")
    edit(folders.into, fail)
    edit(theirs, fail, HOME)

    assert cdner("merge", folders.into, theirs)[:2] == (
        0,
        f"taken    {CELL}\n{theirs}: 1 taken, 1 there already, 0 refused\n"
        f"`cdner table {folders.into} --write` writes the tables anew\n",
    )
    assert folders.files() == folders.files(folders.made)


def test_two_good_records_that_differ_are_refused_unless_one_is_to_replace_the_other(folders, cdner):
    theirs = folders.copy("theirs")
    cdner("merge", folders.into, folders.copy("ours-before"))
    now = predict_nothing(theirs)
    record = json.loads((theirs / "records" / f"{CELL}.json").read_text())
    was = hashlib.sha256(gzip.decompress(folders.files()[f"{CELL}.predictions.jsonl.gz"])).hexdigest()[:8]
    final = record["final"][:8]

    status, printed, _ = cdner("merge", folders.into, theirs)
    assert (status, printed.splitlines()) == (
        1,
        [
            f"refused  {CELL}  predictions: another good record of this cell is there, and predicts something else ({was} "
            f"of stage {final} there, {now} of stage {final} here). See which is right; --replace takes this one.",
            f"{theirs}: 0 taken, 1 there already, 1 refused",
        ],
    )
    assert folders.files() == folders.files(folders.made)

    assert cdner("merge", folders.into, theirs, "--replace")[0] == 0
    assert folders.files() == folders.files(theirs)


def test_the_second_of_two_folders_is_compared_with_the_first_even_in_a_dry_run(folders, cdner):
    one, two = folders.copy("one"), folders.copy("two")
    predict_nothing(two)

    status, printed, _ = cdner("merge", folders.into, one, two, "--dry-run")
    assert status == 1
    assert f"{two}: 0 taken, 1 there already, 1 refused" in printed


def test_a_record_that_cannot_be_read_or_lost_its_predictions_is_replaced(folders, cdner):
    cdner("merge", folders.into, folders.copy("ours-before"))
    (folders.into / "records" / f"{CELL}.json").write_text("{")
    (folders.into / "records" / f"{HOME}.predictions.jsonl.gz").unlink()

    assert cdner("merge", folders.into, folders.copy("theirs"))[0] == 0
    assert folders.files() == folders.files(folders.made)


def test_what_is_in_doubt_is_taken_with_a_word_and_left_when_strict(folders, cdner):
    theirs = folders.copy("theirs")
    edit(theirs, lambda r: r.update(tide="high"))
    why = "schema: this version knows no field 'tide', and leaves it unchecked."

    assert cdner("merge", folders.into, theirs, "--strict", "--dry-run")[1].splitlines()[1] == f"refused  {CELL}  {why}"
    assert cdner("merge", folders.into, theirs)[1].splitlines()[0] == f"taken    {CELL}  in doubt: {why}"


def test_a_copy_of_a_seed_that_is_there_is_in_doubt(folders, cdner):
    plan = yaml.safe_load((folders.into / "plan.yaml").read_text())
    (folders.into / "plan.yaml").write_text(yaml.safe_dump({**plan, "seeds": [1, 2]}))
    cdner("merge", folders.into, folders.copy("theirs"))
    other = folders.root / "other"
    cdner("run", folders.into, "--only", "*seed2", "--no-table")
    shutil.move(folders.into, other)
    folders.into.mkdir()
    shutil.copy(other / "plan.yaml", folders.into)
    cdner("merge", folders.into, folders.root / "theirs")
    for path in (other / "records").rglob("seed1.*"):
        path.unlink()

    assert cdner("merge", folders.into, other)[1].splitlines()[0] == (
        f"taken    {CELL.replace('seed1', 'seed2')}  in doubt: seeds: seed1, seed2 predict the same to the letter, and their "
        "stages differ. That is so where a method draws nothing; else one is a copy: run one of them again."
    )


def test_another_plan_is_refused_with_the_difference(folders, cdner):
    theirs = folders.copy("theirs")
    plan = yaml.safe_load((theirs / "plan.yaml").read_text())
    plan["variants"]["echo"]["set"] = {"weight": 3.0}
    (theirs / "plan.yaml").write_text(yaml.safe_dump(plan))

    assert cdner("merge", folders.into, theirs) == (
        1,
        "",
        f"cdner: {theirs / 'plan.yaml'}: it is not the plan of ours: {CELL} has settings.weight 3.0, and 1.0 in "
        f"{folders.into / 'plan.yaml'}. Records of one plan alone can be merged.\n",
    )
    assert folders.files() == {}


def test_a_plan_of_other_cells_is_refused(folders):
    theirs = folders.copy("theirs")
    plan = yaml.safe_load((theirs / "plan.yaml").read_text())
    (theirs / "plan.yaml").write_text(yaml.safe_dump({**plan, "seeds": [5]}))

    with pytest.raises(PlanError) as caught:
        merging.merge(read_board(str(folders.into)), [(theirs, read_board(str(theirs)))])
    assert str(caught.value) == (
        f"{theirs / 'plan.yaml'}: none of its cells is in the plan of ours; its first is "
        f"{CELL.replace('seed1', 'seed5')}. Records of one plan alone can be merged."
    )


def test_cells_that_only_their_plan_has_are_said_and_left(folders, cdner):
    theirs = folders.copy("theirs")
    plan = yaml.safe_load((folders.into / "plan.yaml").read_text())
    (folders.into / "plan.yaml").write_text(yaml.safe_dump({**plan, "transfers": plan["transfers"][:1]}))

    assert cdner("merge", folders.into, theirs)[1].splitlines()[:3] == [
        f"not of this plan  {HOME}  {theirs} has it; its record is left",
        f"taken    {CELL}",
        f"{theirs}: 1 taken, 0 there already, 0 refused",
    ]


def test_a_folder_of_records_needs_no_plan(folders, cdner):
    theirs = folders.copy("theirs")
    (theirs / "plan.yaml").unlink()

    assert cdner("merge", folders.into, theirs)[0] == 0
    assert folders.files() == folders.files(theirs)


def test_a_link_is_refused_and_nothing_behind_it_is_copied(folders, cdner, tmp_path):
    theirs = folders.copy("theirs")
    secret = tmp_path / "secret"
    path = theirs / "records" / f"{CELL}.predictions.jsonl.gz"
    path.rename(secret)
    path.symlink_to(secret)

    status, printed, _ = cdner("merge", folders.into, theirs)
    assert status == 1
    assert printed.splitlines() == [
        f"taken    {HOME}",
        f"refused  {CELL}  predictions: it is a link, to {str(secret)!r}. Put the file itself there. {AGAIN}",
        f"refused  records/{CELL}.predictions.jsonl.gz  file: it is a link, to {str(secret)!r}. Put the file itself there.",
        f"{theirs}: 1 taken, 0 there already, 2 refused",
        f"`cdner table {folders.into} --write` writes the tables anew",
    ]


def test_a_file_that_changes_behind_the_check_is_not_copied(folders, monkeypatch):
    theirs = folders.copy("theirs")
    checked = merging.check

    def check_then_change(*arguments, **options):
        found = checked(*arguments, **options)
        edit(theirs, lambda r: r.update(seed=9))
        return found

    monkeypatch.setattr(merging, "check", check_then_change)
    [found] = merging.merge(read_board(str(folders.into)), [(theirs, None)])

    assert found.refused == {CELL: "the file was altered while it was checked. Merge again."}
    assert set(folders.files()) == {f"{HOME}.json", f"{HOME}.predictions.jsonl.gz"}
