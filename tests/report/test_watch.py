"""What is seen while a board runs: plain lines, a live table, JSON."""

import io
import json
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from benchmark.report.watch import Json, Lines, Screen, figures, fitted, overview, result, shortened


def train_tagger(work): ...


def tag(work): ...


class Stage:
    def __init__(self, title="ai seed 1", step=train_tagger):
        self.key, self.title, self.step, self.name = f"key of {title}", title, step, f"fake:{step.__name__}"


LONG = [
    Stage("conll2003+ontonotes+wnut to politics-and-science-and-music-and-literature seed 1"),
    Stage("conll2003+ontonotes+wnut to politics-and-science-and-music-and-literature seed 2"),
    Stage("conll2003 to ai seed 1"),
    Stage("restaurant seed 3", tag),
]


@dataclass(frozen=True)
class Summary:
    cells: int
    ok: int
    seconds: float
    stopped: str | None = None


def cell(done=False, failed=False, stale=False, reason=None):
    return SimpleNamespace(done=done, failed=failed, stale=stale, reason=reason)


def workload():
    """Ten cells: 4 done, 1 skipped, 2 failed before, 3 to run, one of them stale."""
    todo = [cell(), cell(), cell(stale=True)]
    planned = [*(cell(done=True) for _ in range(4)), cell(reason="x"), cell(failed=True), cell(failed=True), *todo]
    return SimpleNamespace(
        planned=planned, todo_cells=todo, rescore=[], equal={}, stages=dict.fromkeys(range(20)), references=30, stored=12,
        todo=dict.fromkeys(range(8)), minutes=130.0, slots=2,
    )  # fmt: skip


def record(status="ok", **other):
    return {
        "cell": "tagger/conll2003--ai/supervised/seed1", "status": status, "reason": None, "level": "fine",
        "scores": {"fine": {"strict": {"all": [3, 1, 2]}}, "general": {"strict": {"all": [5, 0, 0]}}},
    } | other  # fmt: skip


def lines(width=200):
    out = io.StringIO()
    return Lines(Console(file=out, width=width)), out


def screen(width=80, height=25, **console):
    out = io.StringIO()
    made = Screen(Console(file=out, width=width, height=height, force_terminal=True, **console))
    return made, out


def drawn(made):
    """Return what a screen shows now, as lines."""
    plain = Console(file=io.StringIO(), width=made.console.width, height=made.console.height, color_system=None)
    plain.print(made.view())
    return [line.rstrip() for line in plain.file.getvalue().splitlines()]


# ---- lines


def test_the_overview_says_what_is_planned_shared_done_and_left():
    assert overview(workload()) == [
        "10 cells: 4 done, 1 skipped, 2 failed before (--retry-failed runs them again), 3 to run, 1 of them stale",
        "20 stages, sharing saves 10; 12 in the store, 8 to run",
        "estimate: 2 h 10 min on 2 slots",
    ]


def test_lines_tell_how_stages_end():
    told, out = lines()
    told.planned(workload())
    out.truncate(0)
    out.seek(0)
    told.ended(Stage(), None, 12.3)
    told.ended(Stage("ai seed 2"), "out of memory", 700.0)
    told.ended(Stage("ai seed 3", tag), None, 700.0)
    told.recorded(record())
    told.recorded(record("failed", reason="out of memory"))

    assert out.getvalue().splitlines() == [
        "[1/8] train ai seed 1  12 s",
        "[2/8] train ai seed 2  FAILED: out of memory",
        "[3/8] predict ai seed 3  12 min",
        "  tagger/conll2003--ai/supervised/seed1  strict F1 66.67",
        "  tagger/conll2003--ai/supervised/seed1  failed: out of memory",
    ]


def test_lines_tell_what_becomes_of_a_stage_that_is_not_simply_run():
    told, out = lines()
    told.retried(Stage(), "killed", 2)
    for _ in range(3):
        told.elsewhere(Stage("ai seed 2"), "node17, process 3")
    told.stopping("the run's 2 hours are over")
    told.finished(Summary(1, 1, 1.0))

    assert out.getvalue().splitlines() == [
        "  train ai seed 1: killed; attempt 2 starts",
        "  train ai seed 2 is being built by node17, process 3; waiting for it",
        "no further stage is started: the run's 2 hours are over",
    ]


def test_a_new_owner_of_a_stage_is_told_too():
    told, out = lines()
    told.elsewhere(Stage(), "node17, process 3")
    told.elsewhere(Stage(), "node18, process 4")

    assert out.getvalue().count("is being built by") == 2


def test_every_half_minute_lines_tell_how_far_running_stages_are(monkeypatch):
    told, out = lines()
    told.started(Stage(), 2)
    told.ticked({Stage(): {"epoch": 1}}, 5.0)
    later = told.told + 31
    monkeypatch.setattr(time, "monotonic", lambda: later)
    told.ticked({Stage(): {"epoch": 1, "of": 4}, Stage("ai seed 2"): {}}, 5.0)
    told.ticked({Stage(): {"epoch": 2}}, 5.0)

    assert out.getvalue() == "  ... train ai seed 1 attempt 2, epoch 1/4; train ai seed 2 | left: 5 min\n"


def test_a_long_line_is_not_wrapped_and_brackets_are_no_markup():
    told, out = lines(width=20)
    told.say("[bold] and then a good many words more")

    assert out.getvalue() == "[bold] and then a good many words more\n"


def test_a_line_is_printed_without_secrets(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "Tr0ub4dor&3")
    told, out = lines()
    told.ended(Stage(), "error: Tr0ub4dor&3 was refused", 1.0)

    assert out.getvalue() == "[1/0] train ai seed 1  FAILED: error: *** was refused\n"


# ---- the screen


def busy(width=80, height=25, **console):
    made, out = screen(width, height, **console)
    made.total = 40
    for n in range(10):
        made.over[str(n)] = "out of memory" if n == 0 else None
    for n, one in enumerate(LONG):
        made.started(one, 2 if n == 2 else 1)
        made.since[one.key] = time.monotonic() - (5, 65, 3723, 0)[n] - 0.3
    made.running = {
        LONG[0]: {"epoch": 3, "of": 40, "dev_f1": 51.2},
        LONG[1]: {"epoch": 12.5, "of": 40, "loss": 0.31},
        LONG[2]: {"epoch": 1, "of": 40},
        LONG[3]: {},
    }
    made.left = 35.2
    return made, out


def test_the_screen_shows_running_stages_in_80_columns():
    made, _ = busy()

    assert drawn(made) == [
        "  train conll2003+ontonotes+w…rature seed 1  epoch 3/40, dev F1 51.2       0:05",
        "  train conll2003+ontonotes+w…rature seed 2  epoch 12.5/40, loss 0.310     1:05",
        "  train conll2003 to ai seed 1               attempt 2, epoch 1/40      1:02:03",
        "  predict restaurant seed 3                                                0:00",
        "━━━━━───────────────  10 of 40 stages · 1 failed · 35 min left",
    ]


def test_on_a_narrow_terminal_figures_and_the_bar_give_way():
    made, _ = busy(50)

    assert drawn(made) == [
        "  train conll2003+ontonotes…ature seed 1     0:05",
        "  train conll2003+ontonotes…ature seed 2     1:05",
        "  train conll2003 to ai seed 1            1:02:03",
        "  predict restaurant seed 3                  0:00",
        "10 of 40 stages · 1 failed · 35 min left",
    ]


def test_the_screen_counts_retries_and_elsewhere_as_lines_do():
    made, out = screen()
    made.total = 2
    made.ended(Stage(), "killed", 1.0)
    made.retried(Stage(), "killed", 2)
    made.elsewhere(Stage("ai seed 2"), "node17, process 3")
    made.ended(Stage(), None, 1.0)
    made.close()

    assert drawn(made)[-1].endswith("1 of 2 stages")
    assert out.getvalue().splitlines() == [
        "[1/2] train ai seed 1  FAILED: killed",
        "  train ai seed 1: killed; attempt 2 starts",
        "  train ai seed 2 is being built by node17, process 3; waiting for it",
        "[1/2] train ai seed 1  1 s",
    ]


@pytest.mark.parametrize("width", [*range(1, 30), 40, 60, 79, 80, 81, 120, 200])
def test_no_line_of_the_screen_is_wider_than_the_terminal(width):
    made, _ = busy(width)

    assert len(drawn(made)) == 5
    assert all(cell_len(line) <= width for line in drawn(made))


@pytest.mark.parametrize("height", [1, 2, 5, 6, 7])
def test_of_many_stages_the_screen_shows_what_fits_and_the_progress_of_all(height):
    made, _ = busy(height=height)
    text = drawn(made)

    assert text[-1].endswith("10 of 40 stages · 1 failed · 35 min left")
    assert len(text) <= max(3, height)
    assert len(text) == 5 or text[-2].startswith("  and ")


def test_a_terminal_without_unicode_is_served_in_ascii():
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    made = Screen(Console(file=out, width=80, force_terminal=True))
    made.total = 2
    made.started(LONG[0])
    made.ticked({LONG[0]: {"epoch": 1}}, 3.0)
    made.live.refresh()
    made.close()
    out.flush()

    assert b"..." in out.buffer.getvalue()
    assert b"0 of 2 stages, 3 min left" in out.buffer.getvalue()


def test_the_screen_draws_while_progress_grows():
    made, _ = screen()
    progress, over = {}, threading.Event()
    failures = []

    def draw():
        while not over.is_set():
            try:
                made.view()
            except RuntimeError as error:
                failures.append(error)

    thread = threading.Thread(target=draw)
    thread.start()
    for n in range(2000):
        progress[f"figure {n}"] = n
        made.ticked({Stage(): progress}, None)
    over.set()
    thread.join()
    made.close()

    assert failures == []


def test_the_screen_starts_with_the_first_tick_and_ends_more_than_once():
    made, out = screen()
    made.planned(workload())
    assert "\x1b[?25l" not in out.getvalue()  # the cursor is hidden while it is live
    made.ticked({}, None)
    assert "\x1b[?25l" in out.getvalue()
    made.close()
    made.close()

    assert out.getvalue().count("\x1b[?25h") == 1


# ---- JSON


def events(**given):
    out = io.StringIO()
    return Json(out), out


def told_by(out):
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_json_tells_one_object_a_line_with_event_and_time():
    made, out = events()
    made.planned(workload())
    made.started(Stage(), 1)
    made.ended(Stage(), None, 1.23456)
    made.retried(Stage(), "killed", 2)
    made.ended(Stage(), "out of memory", 2.0)
    made.elsewhere(Stage("ai seed 2"), "node17, process 3")
    made.elsewhere(Stage("ai seed 2"), "node17, process 3")
    made.recorded(record())
    made.recorded(record("failed", reason="out of memory"))
    made.stopping("the hour is over")
    made.say("one\nmore")
    made.finished(Summary(10, 3, 60.0))
    made.close()
    found = told_by(out)
    one = {"key": "key of ai seed 1", "step": "fake:train_tagger", "title": "ai seed 1"}
    cell = {"cell": "tagger/conll2003--ai/supervised/seed1", "level": "fine"}

    for event in found:
        moment = datetime.fromisoformat(event.pop("time"))
        assert abs((datetime.now(UTC) - moment).total_seconds()) < 60
    assert found == [
        {
            "event": "planned", "cells": 10, "done": 4, "skipped": 1, "failed": 2, "to_run": 3, "stale": 1,
            "to_score_again": 0, "to_take_over": 0, "stages": 20, "shared": 10, "stored": 12, "stages_to_run": 8,
            "estimate_minutes": 130.0, "slots": 2,
        },
        {"event": "started", **one, "attempt": 1},
        {"event": "ended", **one, "attempt": 1, "reason": None, "seconds": 1.235},
        {"event": "retried", **one, "attempt": 2, "reason": "killed"},
        {"event": "ended", **one, "attempt": 2, "reason": "out of memory", "seconds": 2.0},
        {
            "event": "elsewhere", "key": "key of ai seed 2", "step": "fake:train_tagger", "title": "ai seed 2",
            "attempt": None, "owner": "node17, process 3",
        },
        {"event": "recorded", **cell, "status": "ok", "reason": None, "f1": pytest.approx(66.6667, abs=1e-3)},
        {"event": "recorded", **cell, "status": "failed", "reason": "out of memory", "f1": None},
        {"event": "stopping", "why": "the hour is over"},
        {"event": "note", "text": "one\nmore"},
        {"event": "finished", "cells": 10, "ok": 3, "seconds": 60.0, "stopped": None},
    ]  # fmt: skip


def test_json_tells_progress_every_five_seconds(monkeypatch):
    made, out = events()
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    made.started(Stage(), 1)
    for now[0] in (1001.0, 1002.0, 1005.9, 1006.0, 1010.0):
        made.ticked({Stage(): {"time": 1.0, "epoch": 1, "loss": float("nan")}}, 2.345)
    first, second = (event for event in told_by(out) if event["event"] == "progress")

    assert [first["running"][0]["seconds"], second["running"][0]["seconds"]] == [1.0, 6.0]
    assert first["minutes_left"] == 2.3
    assert first["running"][0]["figures"] == {"epoch": 1, "loss": None}


def test_json_is_written_to_a_console_without_wrapping_or_markup(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "Tr0ub4dor&3")
    out = io.StringIO()
    Json(Console(file=out, width=20, force_terminal=True)).say("[bold]Tr0ub4dor&3[/bold] " + "word " * 20)

    assert json.loads(out.getvalue())["text"] == "[bold]***[/bold] " + "word " * 20
    assert out.getvalue().count("\n") == 1


# ---- words


def test_figures_that_are_no_numbers_are_left_out():
    assert figures({"epoch": None, "dev_f1": "high", "loss": 0.5}) == "loss 0.500"
    assert figures({"epoch": 1, "of": None, "dev_f1": float("nan")}) == "epoch 1, dev F1 nan"
    assert figures({}) == ""


def test_a_result_at_general_types_says_so():
    assert result(record(level="general")) == "strict F1 100.00 (general types)"


@given(st.text(max_size=60), st.integers(0, 70))
def test_a_shortened_text_fits_and_one_that_fits_is_left_alone(text, width):
    found = shortened(text, width)

    assert cell_len(found) <= width
    assert found == text or cell_len(text) > width


@given(st.lists(st.tuples(*[st.text(st.sampled_from("ab 漢…"), max_size=30)] * 3), max_size=4), st.integers(0, 90))
def test_fitted_rows_fit(rows, width):
    found = fitted(rows, width, drop=(1, 2))

    assert len(found) == len(rows)
    assert all(cell_len(line) <= width for line in found)


def test_fitted_rows_stand_below_one_another_and_drop_what_has_no_room():
    rows = [("a long title indeed, it is", "epoch 1", "0:05"), ("short", "", "1:00:00")]

    assert fitted(rows, 80) == [
        "a long title indeed, it is  epoch 1  0:05",
        "short                                1:00:00",
    ]
    assert fitted(rows, 36, drop=(1, 2)) == [
        "a long title…it is  epoch 1  0:05",
        "short                        1:00:00",
    ]
    assert fitted(rows, 30, drop=(1, 2)) == ["a long title i… it is  0:05", "short                  1:00:00"]
    assert fitted(rows, 30, drop=(1, 2), right=(2,)) == [
        "a long title i… it is     0:05",
        "short                  1:00:00",
    ]
    assert fitted(rows, 10, drop=(1, 2)) == ["a long… is", "short"]
