"""The command line: `cdner`. Nothing heavy is imported until a command needs it."""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from benchmark import __version__
from benchmark.errors import CdnerError, EngineError, FetchError, StoreError, nearest

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.corpus.card import Card
    from benchmark.corpus.knowledge import Explained
    from benchmark.run.cells import Planned
    from benchmark.run.engine import Engine
    from benchmark.run.plan import Board, Cell
    from benchmark.run.store import Store

Command = Callable[[argparse.Namespace], int]

PROTOCOLS = "strict (default), conlleval, conlleval-stream, gliner, topt, cpner, uniner, b2ner or token"

USAGE_ERROR = 2
STOPPED = 3
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns the exit status: 0; 1 where something is wrong or has failed; 2 for a wrong call; 3 where a run has stopped
    at a limit with cells left; 130 for Ctrl-C and SIGTERM.
    """
    top = parser()
    chosen, unknown = top.parse_known_args(arguments)
    if unknown:
        reader: Parser = getattr(chosen, "reader", top)
        reader.refuse(unknown)
    if not hasattr(chosen, "command"):
        top.print_help()
        return USAGE_ERROR
    try:
        with interruptible():
            return int(chosen.command(chosen))
    except CdnerError as error:
        tell(str(error))
        return 1
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # a pager that was closed
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 0
        tell(f"{error.filename or 'the system'}: {error.strerror or error}")
        return 1
    except KeyboardInterrupt:
        print("cdner: interrupted", file=sys.stderr)  # noqa: T201
        return INTERRUPTED


def tell(text: str) -> None:
    """Tell a person what is wrong or going on, beside the output, without what is secret."""
    from benchmark.redact import redact

    print(f"cdner: {redact(text)}", file=sys.stderr)  # noqa: T201


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM, and SIGHUP but under nohup, end what runs as Ctrl-C does; in the end they are what they were."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before[signal.SIGTERM] = signal.signal(signal.SIGTERM, interrupt)
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # else it was set by no Python code
                signal.signal(number, handler)


def interrupt(*_: object) -> NoReturn:
    """End as Ctrl-C does: what runs is ended, what is finished is kept."""
    raise KeyboardInterrupt


# ---------------------------------------------------------------------------------------------------- the commands


def list_(chosen: argparse.Namespace) -> int:
    """Print methods, corpora or boards."""
    wanted = [chosen.what] if chosen.what else ["methods", "corpora", "boards"]
    for number, what in enumerate(wanted):
        if len(wanted) > 1:
            say(f"{'' if number == 0 else chr(10)}{what}")
        rows = {"methods": _methods, "corpora": _corpora, "boards": _boards}[what](chosen)
        width = max((len(name) for name, _ in rows), default=0)
        for name, about in rows:
            say(f"  {name:<{width}}  {about}")
        if not rows:
            say("  none")
    return 0


def _methods(_: argparse.Namespace) -> list[tuple[str, str]]:
    import ast
    from importlib.util import find_spec

    import methods

    found = []
    for name, where in methods.names().items():
        try:  # read the file's first line without importing what it needs
            spec = find_spec(where.partition(":")[0])
            text = Path(spec.origin).read_text(encoding="utf8") if spec and spec.origin else ""
            about = (ast.get_docstring(ast.parse(text)) or "").split("\n", 1)[0]
        except (ImportError, OSError, SyntaxError) as error:
            about = f"cannot be imported: {error}"
        found.append((name, about))
    return found


def _corpora(chosen: argparse.Namespace) -> list[tuple[str, str]]:
    from benchmark.corpus.card import find_cards, load_card

    cards = card_folders(chosen)
    return [(name, load_card(name, cards).about) for name in find_cards(cards)]


def _boards(_: argparse.Namespace) -> list[tuple[str, str]]:
    import yaml

    from benchmark.run.plan import boards

    found = []
    for name, folder in boards().items():
        try:
            plan = yaml.safe_load((folder / "plan.yaml").read_text(encoding="utf8"))
        except (OSError, ValueError, yaml.YAMLError):
            plan = {"about": "its plan cannot be read"}
        found.append((name, str(plan.get("about", "")) if isinstance(plan, dict) else ""))
    return found


def card(chosen: argparse.Namespace) -> int:
    """Print a corpus' card: what it is, its sizes, its types."""
    from benchmark.corpus.card import load_card
    from benchmark.report.card import render

    console().print(render(load_card(chosen.corpus, card_folders(chosen))))
    return 0


def distances(chosen: argparse.Namespace) -> int:
    """Print how far the words of corpora lie from each other, which `auxiliary` goes by in a plan."""
    from benchmark.corpus.corpus import load
    from benchmark.corpus.similarity import table
    from benchmark.report.distances import render

    names = list(dict.fromkeys(chosen.corpus))
    if len(names) < 2:
        raise CdnerError("distances are between corpora: name two or more, as in `cdner distances ai music science`.")
    splits = {name: load(name, data=data_folder(chosen), cards=card_folders(chosen)).train for name in names}
    say(render(table(splits, chosen.features), chosen.features))
    return 0


def lint(chosen: argparse.Namespace) -> int:
    """Read corpora, refuse what cannot be believed, and report what would make a number lie."""
    from benchmark.corpus.card import find_cards, load_card
    from benchmark.corpus.fetch import given_folder
    from benchmark.corpus.lint import lint as check
    from benchmark.corpus.lint import render

    status = 0
    cards, folder = card_folders(chosen), data_folder(chosen)
    known = find_cards(cards)
    source = chosen.source or (chosen.corpus[0] if len(chosen.corpus) > 1 else None)
    for name in {*chosen.corpus, *filter(None, [source])} - {*known}:
        load_card(name, cards)  # says that there is none
    given_folder(folder)
    for number, name in enumerate(chosen.corpus or known):
        if number:
            say("")
        try:
            say(render(check(name, data=folder, cards=cards, source=source if source != name else None)))
        except CdnerError as error:
            say(f"{name}: {'not here' if isinstance(error, FetchError) else 'refused'}")
            source = None if source == name else source
            print(f"cdner: {error}", file=sys.stderr)  # noqa: T201
            status = 1
    return status


def knowledge(chosen: argparse.Namespace) -> int:
    """Print the figures of explanations of mentions, those that cards pin or a file's; write those of train's."""
    from benchmark.corpus import knowledge as explained
    from benchmark.corpus.card import load_card
    from benchmark.corpus.corpus import load
    from benchmark.files import write_whole
    from benchmark.report.knowledge import table

    found = {}
    for name in chosen.corpora:
        card = load_card(name, card_folders(chosen))
        train = load(name, data_folder(chosen), card_folders(chosen)).train
        every = explained.published(card, data_folder(chosen)) if chosen.file is None else explained.read(chosen.file)
        fit, strange = explained.shown(every, train)
        clean, negative = explained.cleaned(fit)
        kept = fit if chosen.file is None else clean
        found[name] = explained.statistics(kept, strange, train, negative)
        if chosen.out is not None:
            path = chosen.out / f"{name}.json"
            write_whole(path, explained.in_json(kept))
            say(f"written: {path}")
    say(table(found))
    if any(told.negative for told in found.values()):
        say(
            "negative: a phrase says that it does not explain; "
            + ("kept, for they are published so" if chosen.file is None else "left out")
        )
    return 0


def density(chosen: argparse.Namespace) -> int:
    """Print, and draw, the information density of texts: files, what cards pin, or what cells are pre-trained on."""
    from benchmark import paths
    from benchmark.corpus import texts
    from benchmark.report import density as shown
    from benchmark.score.density import measure

    data, cards = data_folder(chosen), card_folders(chosen)
    shown.check(chosen.out, [*chosen.texts, *chosen.cell])
    read = {name: texts.units(name, unit=chosen.unit, data=data, cards=cards) for name in dict.fromkeys(chosen.texts)}
    if chosen.cell:
        from benchmark.run.cell_texts import cell_texts
        from benchmark.run.store import Store

        of_cells = cell_texts(chosen.cell, Store(paths.store_folder()), data=data, cards=cards)
        read |= {name: texts.cut(lines, chosen.unit) for name, lines in of_cells.items()}
    settings = shown.settings(
        chosen.tokens, chosen.unit, lower=chosen.lower, smoothing=chosen.smoothing, start=chosen.start
    )
    found = {}
    for name, label in shown.labels(read, chosen.texts).items():
        lines = texts.prepared(read[name], tokens=chosen.tokens, lower=chosen.lower)
        found[label] = shown.some(name, measure(lines, smoothing=chosen.smoothing, start=chosen.start))
    say(shown.table(found, settings))
    for path in chosen.out:
        shown.write(found, settings, path)
        say(f"written: {path}")
    return 0


def run(chosen: argparse.Namespace) -> int:
    """Run what is missing or stale of a board, then print its table."""
    from benchmark import paths
    from benchmark.run import upkeep
    from benchmark.run.cells import plan_cells
    from benchmark.run.plan import read_board
    from benchmark.run.runner import Limits, Runner
    from benchmark.run.store import Store
    from benchmark.run.workload import workload

    cards = card_folders(chosen)
    board = read_board(chosen.board, cards)
    if not chosen.dry_run:
        board = writable(board)
    cells = chosen_cells(board, chosen.only)
    if chosen.detach and not chosen.dry_run:
        return detach(board, cells, chosen)
    engine = chosen_engine(chosen)
    watcher: Any = None
    try:
        if not chosen.dry_run:
            watcher = watcher_for(chosen, board)
            engine.tell = watcher.say
            engine.warm()
        store = Store.open(paths.store_folder())
        if watcher is not None:
            move_unreadable(board, cells, watcher)
        planned = plan_cells(board, cells, data=data_folder(chosen), cards=cards)
        work = workload(board, planned, store, engine.slots, retry_failed=chosen.retry_failed)
        if watcher is None:
            dry_run(board, work, store)
            return 0
        upkeep.write_snapshot(store, board, planned)
        limits = Limits(chosen.max_hours, chosen.max_usd, chosen.max_tokens, chosen.fail_fast, chosen.llm)
        summary = Runner(board, work, store, engine, watcher, data=data_folder(chosen), limits=limits).run()
    finally:
        engine.close()
        if watcher is not None:
            watcher.close()
    if not chosen.json:
        closing(watcher, summary)
        if not summary.interrupted:
            if not chosen.no_table:
                say("")
                print_tables(board, "terminal", "strict", ["fine", "general"])
            say(f"records   {board.folder / 'records'}\nartefacts {store.root}")
    if summary.interrupted:
        return INTERRUPTED
    if summary.failed:
        return 1
    return STOPPED if summary.stopped and summary.left else int(summary.done + summary.skipped != summary.cells)


def chosen_engine(chosen: argparse.Namespace) -> "Engine":
    """Return the engine that the command line names, else the user's file of options, else this machine's."""
    from benchmark.run import engines

    name, options, where = engine_options(chosen)
    return engines.make(name, options, chosen.slots, chosen.threads, where=where)


def engine_options(chosen: argparse.Namespace) -> tuple[str, dict[str, Any], str]:
    """Return an engine's name, its options, and where they come from."""
    from benchmark import paths
    from benchmark.run import engines

    file = paths.engine_file(chosen.engine_config)
    options = engines.read_options(file)
    name = chosen.engine or options.get("engine", "local")
    return name, options.get(name, {}), str(file or f"--engine {name}")


def chosen_cells(board: Any, only: list[str] | None) -> list[Any]:
    """Return a board's cells in running order, those alone whose names fit."""
    import fnmatch

    cells = board.running_order()
    if only:
        cells = [c for c in cells if any(fnmatch.fnmatch(c.name, glob) for glob in only)]
        if not cells:
            raise CdnerError(
                f"no cell of {board.name} fits --only {' '.join(only)}; its first is {board.cells[0].name}."
            )
    return list(cells)


def watcher_for(chosen: argparse.Namespace, board: Any) -> Any:
    """Return who tells what happens: JSON lines, a live view on a terminal, plain lines elsewhere; and wandb."""
    from benchmark.report import watch

    out = console()
    watcher: Any = watch.Json(out) if chosen.json else watch.Screen(out) if out.is_terminal else watch.Lines(out)
    if chosen.log:
        from benchmark.report.wandb_log import WandbLog

        try:
            return WandbLog(watcher, board.name, board.folder / "wandb")
        except BaseException:
            watcher.close()
            raise
    return watcher


def move_unreadable(board: Any, cells: list[Any], watcher: Any) -> None:
    """Move records away that are torn, so that their cells are run again; one of a newer cdner is an error."""
    from benchmark.run import record as records

    for cell in cells:
        if records.torn(board.folder, cell.name):
            where = records.move_away(board.folder, cell.name)
            watcher.say(f"the record of {cell.name} cannot be read; it is kept as {where.name}, and made again")


def closing(watcher: Any, summary: Any) -> None:
    """Print what a run did, and what is left."""
    watcher.say(closing_words(summary))
    if summary.interrupted:
        watcher.say(f"interrupted; cells left: {summary.left}. The same command goes on from here.")
    elif summary.stopped:
        watcher.say(f"stopped: {summary.stopped}; cells left: {summary.left}. The same command goes on from here.")


def writable(board: Any) -> Any:
    """Return the board where it can be run: one that came with an installed cdner is copied to ./results first."""
    import shutil
    from dataclasses import replace

    from benchmark import paths

    shipped = paths.shipped_boards()
    if shipped.name != "_boards" or not board.folder.is_relative_to(shipped):
        return board
    folder = paths.results_folder() / board.name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(board.folder / "plan.yaml", folder / "plan.yaml")
    return replace(board, folder=folder)


def closing_words(summary: Any) -> str:
    """Return what a run did, in one line."""
    from benchmark.report.watch import counted, minutes

    if not summary.stages_run and not summary.ok and not summary.failed:
        failed = summary.cells - summary.done - summary.skipped
        more = f", {failed} failed before (--retry-failed runs them again)" if failed else ""
        return f"nothing to do: {counted(summary.cells, 'cell')}, {summary.done} done{more}."
    told = [f"{counted(summary.ok, 'cell')} done"]
    if summary.failed:
        told.append(f"{summary.failed} failed")
    if summary.skipped:
        told.append(f"{summary.skipped} skipped")
    return f"{', '.join(told)}; {counted(summary.stages_run, 'stage')} run in {minutes(summary.seconds / 60)}."


def dry_run(board: Any, work: Any, store: Any) -> None:
    """Print cells, stages, how many are shared and done, and an estimate of minutes."""
    from benchmark.report.watch import name_of, overview

    for item in work.planned:
        if item.reason is not None:
            state = f"skipped: {item.reason}"
        elif item in work.rescore:
            why = (
                f"its record lacks {', '.join(item.lacks)}" if item.lacks else "gold, a card or the scorer has changed"
            )
            state = f"to score again: {why}"
        elif item.done:
            state = "done"
        elif item.failed:
            state = "failed before"
        elif item in work.equal:
            state = f"to take over from {work.equal[item]}, which ends in the same stage"
        else:
            state = "stale: its record is of other ingredients" if item.stale else "to run"
        say(f"{item.cell.name}  {state}")
    say("")
    for stage in work.todo.values():
        say(f"{stage.key[:8]}  {name_of(stage)}")
    if work.todo:
        say("")
    for line in overview(work):
        say(line)


def table(chosen: argparse.Namespace) -> int:
    """Print a board's tables, from its records alone."""
    from benchmark.run.plan import read_board

    asked = table_asked(chosen)
    board = read_board(chosen.board, card_folders(chosen), settings=False)
    if chosen.against is not None:
        return table_against(board, chosen)
    if chosen.write is not None or chosen.check is not None:
        return committed_tables(board, chosen)
    if chosen.selection:
        return selection_table(board, chosen.format)
    shape = {"--per-type": "types", "": "rows"}.get(asked, asked.removeprefix("--"))
    print_tables(
        board, chosen.format, chosen.protocols or chosen.protocol, [chosen.types], shape=shape, target=chosen.per_type,
        worst=chosen.worst, metric=chosen.metric,
    )  # fmt: skip
    return 0


HEEDED = {  # what asks for a table -> the options that it heeds
    "--against --write --check": (),
    "--write --check": (),
    "--against": ("--protocol", "--types", "--format"),
    "--selection": ("--format",),
    "--errors": ("--types", "--format"),
    "--audit": ("--types", "--format"),
    "--per-type": ("--metric", "--protocol", "--types", "--format"),
    "--protocols": ("--types", "--format"),
    "": ("--worst", "--protocol", "--types", "--format"),
}


def table_asked(chosen: argparse.Namespace) -> str:
    """Return the option that asks for a table, or nothing. Raises CdnerError where one is given that goes unheeded."""
    defaults = {"--metric": "f1", "--protocol": "strict", "--types": "fine", "--format": "terminal"}
    options = list(dict.fromkeys(option for line in HEEDED for option in (*line.split(), *HEEDED[line])))
    values = {option: getattr(chosen, option[2:].replace("-", "_")) for option in options}
    given = [o for o, value in values.items() if value not in (None, False) and value != defaults.get(o)]
    kind = next(line for line in HEEDED if any(o in given for o in line.split()) or not line)
    if "--against" in given:
        kind = "--against --write --check" if {"--write", "--check"} & {*given} else "--against"
    others = [option for option in given if option not in (*kind.split(), *HEEDED[kind])]
    if others == ["--metric"]:
        raise CdnerError(f"--metric {chosen.metric} is of types: say --per-type TARGET too.")
    if others:
        named = " ".join(option for option in kind.split() if option in given)
        raise CdnerError(f"{named} takes no {' and no '.join(others)}: leave that out.")
    if chosen.worst and chosen.format in ("csv", "json"):
        raise CdnerError(
            f"--worst marks lines of a table, and {chosen.format} has numbers alone: leave one of them out."
        )
    return kind


def table_against(board: Any, chosen: argparse.Namespace) -> int:
    """Print a board's rows beside published numbers; or write, or check, its published.md."""
    from benchmark.report import against, render

    found = against.load(board.folder, board.expected(), protocol=chosen.protocol, types=[chosen.types])
    if chosen.write is not None or chosen.check is not None:
        if chosen.write is not None:
            say(f"written: {against.write(board.name, board.folder, board.expected())}")
        if chosen.check is not None:
            against.check(board.name, board.folder, board.expected())
            say(f"published.md of {board.name} is what records and papers say")
        return 0
    if not found and chosen.format not in ("csv", "json"):
        say(f"nothing is published that stands beside a row of {board.name}, {chosen.types} types")
        return 0
    out = console()
    things: list[Any] = list(found) if chosen.format in ("csv", "json") else list(against.tables(found))
    width = out.width if chosen.format == "terminal" else 80
    colour = chosen.format == "terminal" and out.is_terminal
    print(render.render(things, chosen.format, width=width, colour=colour).rstrip("\n"))  # noqa: T201
    return 0


def published(chosen: argparse.Namespace) -> int:
    """Print the numbers that papers print; with --check, where they disagree."""
    from benchmark.report import disagreements, render
    from benchmark.report import published as papers

    known = papers.load()
    if chosen.check is not None or chosen.write is not None:
        found = disagreements.find(known)
        for page in chosen.write or ():
            disagreements.write(found, page)
            say(f"written: {page}")
        for page in chosen.check or ():
            disagreements.check(found, page)
            say(f"{page} has the {len(found)} disagreements")
        if not chosen.write and not chosen.check:
            shown = chosen.format != "terminal" and render.render(disagreements.tables(found), chosen.format)
            say((shown or disagreements.told(found, console().width)).rstrip("\n"))
        return 0
    numbers = papers.chosen(
        papers.numbers(known), systems=chosen.system or (), targets=chosen.target or (), papers=chosen.paper or ()
    )
    out = console()
    things = papers.tables(known, numbers, listed=chosen.target is not None)
    colour = chosen.format == "terminal" and out.is_terminal
    width = out.width if chosen.format == "terminal" else 80
    print(render.render(things, chosen.format, width=width, colour=colour).rstrip("\n"))  # noqa: T201
    return 0


def selection_table(board: Any, format: str) -> int:
    """Print what other rules of selection would have given."""
    from benchmark.report import reading, selection

    if format not in selection.FORMATS:
        raise CdnerError(f"--selection has no format {format}. There are: {', '.join(selection.FORMATS)}.")
    found = selection.rows(board.expected(), reading.load(board.folder))
    if not found:
        raise CdnerError(
            f"no record of {board.name} tells of epochs; a transfer that says `curves: true` keeps them as it is run."
        )
    say(selection.render(found, format, colour=console().is_terminal).rstrip("\n"))
    return 0


def check(chosen: argparse.Namespace) -> int:
    """Verify the records of a board that somebody else made: refuse what does not add up, with reasons."""
    from benchmark.run import check as checks

    board, folder = foreign_board(chosen.board, chosen.plan, chosen)
    found = checks.check(board, folder, data=data_folder(chosen), cards=card_folders(chosen))
    check_tables(board, found)
    if chosen.json:
        say(json.dumps({**found.as_json(), "strict": chosen.strict, "ok": not found.failed(strict=chosen.strict)}))
    else:
        for finding in found.findings:
            say(finding.line)
        say(found.summary)
    return int(found.failed(strict=chosen.strict))


def merge(chosen: argparse.Namespace) -> int:
    """Take records of the same plan that were made elsewhere into a board, after checking them."""
    from benchmark.run import merge as merging
    from benchmark.run.plan import read_board

    cards = card_folders(chosen)
    into = read_board(chosen.into, cards)
    others: list[Any] = []
    for name in chosen.folders:
        own = (Path(name).expanduser() / "plan.yaml").exists() or not Path(name).expanduser().is_dir()
        board, folder = foreign_board(name, None if own else chosen.into, chosen)
        others.append((folder, board if own else None))
    found = merging.merge(
        into if chosen.dry_run else writable(into), others, replace=chosen.replace, strict=chosen.strict,
        dry_run=chosen.dry_run, data=data_folder(chosen), cards=cards,
    )  # fmt: skip
    for one in found:
        for line in one.lines:
            say(line)
    if chosen.dry_run:
        say("nothing was written")
    elif any(one.taken for one in found):
        say(f"`cdner table {chosen.into} --write` writes the tables anew")
    return int(any(one.refused for one in found))


def foreign_board(name: str, plan: str | None, chosen: argparse.Namespace) -> tuple[Any, Path]:
    """Return the board of a plan that may be somebody else's, and the folder of the records."""
    from benchmark.run.plan import find_board, read_board
    from benchmark.run.untrusted import check_plan

    folder = find_board(name) if plan is None else Path(name).expanduser()
    if not folder.is_dir():
        raise CdnerError(f"{folder}: there is no such folder of records.")
    check_plan(folder if plan is None else find_board(plan))
    return read_board(str(folder) if plan is None else plan, card_folders(chosen)), folder


def check_tables(board: Any, found: Any) -> None:
    """Add to a report the committed tables that are not what the records say."""
    from benchmark.report import committed
    from benchmark.run.check import REFUSED, STRANGE

    if any(f.part in ("file", "json", "schema", "counts") and f.verdict == REFUSED for f in found.findings):
        return  # a table cannot be made of what cannot be read, and that is refused already
    try:
        for name in committed.unfit(found.folder, board.expected()):
            found.add(
                REFUSED,
                "tables",
                name,
                f"it is not what the records say. `cdner table {board.name} --write` writes it.",
            )
    except STRANGE as error:
        found.add(REFUSED, "tables", "table.md", f"it cannot be compared with the records: {error}")


def committed_tables(board: Any, chosen: argparse.Namespace) -> int:
    """Write a board's committed tables from its records, or check them."""
    from benchmark.report import committed

    if chosen.write is not None:
        for path in committed.write(board.name, board.folder, board.expected(), chosen.write):
            say(f"written: {path}")
    if chosen.check is not None:
        committed.check(board.name, board.folder, board.expected(), chosen.check)
        say(f"the tables of {board.name} are what its records say")
    return 0


def print_tables(
    board: Any, format: str, protocol: str, levels: list[str], *, shape: str = "rows", target: str | None = None,
    worst: bool = False, metric: str = "f1",
) -> None:  # fmt: skip
    """Print the tables of a board at some type levels."""
    from benchmark.report import table as tables

    out = console()
    cells, records = board.expected(), tables.load(board.folder)
    rows: list[Any] = []
    for level in levels:
        if shape == "errors":
            rows.extend(tables.error_rows(cells, records, types=level))
        elif shape == "audit":
            rows.extend(tables.audit_rows(cells, records, types=level))
            if not rows:
                say(f"no variant of {board.name} writes text")
                return
        elif shape == "types":
            tables.check("target", str(target), dict.fromkeys(cell.target for cell in cells))
            found = tables.type_rows(cells, records, target=target, protocol=protocol, types=level, metric=metric)
            rows.extend(found)
        elif shape == "protocols":
            names = () if protocol == "all" else [name.strip() for name in protocol.split(",")]
            rows.extend(tables.protocol_rows(cells, records, protocols=names, types=level))
        else:
            rows.extend(tables.rows(cells, records, protocol=protocol, types=level))
    colour = format == "terminal" and out.is_terminal
    if shape == "rows" and format not in ("csv", "json"):
        laid_out = [tables.with_worst(table) if worst else table for table in tables.tables(rows)]
        rows = list(tables.with_evidence(laid_out))
    text = tables.render(rows, format, width=out.width if format == "terminal" else 80, colour=colour)
    print(text.rstrip("\n"))  # noqa: T201


def compare(chosen: argparse.Namespace) -> int:
    """Say in two lines who of two variants wins where, and whether it is more than noise."""
    from benchmark.report import compare as shown
    from benchmark.report import reading

    first, second = chosen.first, chosen.second
    boards = {name.rpartition("/")[0] for name in (first, second) if "/" in name}
    if chosen.board is not None:
        boards.add(chosen.board)
    if len(boards) > 1:
        raise CdnerError(f"{first} and {second} are of different boards: a test wants one board, with the same plan.")
    first, second = (name.rpartition("/")[2] for name in (first, second))
    board = the_board(boards.pop() if boards else None, (first, second), chosen)
    records = reading.load(board.folder)
    found = shown.compare(first, second, board.expected(), records, types=chosen.types, by=chosen.by)
    say(shown.render(found, chosen.format, console().width).rstrip("\n"))
    return 0


def the_board(name: str | None, both: tuple[str, str], chosen: argparse.Namespace) -> Any:
    """Return a board: the one that is named, else the only one that has both variants, or regimes."""
    from benchmark.run.plan import boards, read_board

    cards = card_folders(chosen)
    if name is not None:
        return read_board(name, cards, settings=False)
    every = [read_board(name, cards, settings=False) for name in boards()]
    fitting = [b for b in every if {*both} <= {getattr(cell, chosen.by) for cell in b.expected()}]
    if len(fitting) != 1:
        told = ", ".join(b.name for b in fitting) or "none"
        raise CdnerError(
            f"the boards that have both {both[0]} and {both[1]}: {told}. Name one: --board BOARD, or BOARD/{both[0]}."
        )
    return fitting[0]


def ranks(chosen: argparse.Namespace) -> int:
    """Print, and draw, average ranks over targets."""
    import fnmatch

    from benchmark.report import compare as shown
    from benchmark.report import reading, rows
    from benchmark.report.layout import tables
    from benchmark.run.plan import read_board

    board = read_board(chosen.board, card_folders(chosen), settings=False)
    for target in chosen.target or ():
        rows.check("target", target, dict.fromkeys(cell.target for cell in board.expected()))
    for glob in chosen.variant or ():
        names = list(dict.fromkeys(cell.variant for cell in board.expected()))
        if not fnmatch.filter(names, glob):
            raise CdnerError(f"no variant of {board.name} fits --variant {glob}. There are: {', '.join(names)}.")
    cells = [
        cell
        for cell in board.expected()
        if any(fnmatch.fnmatch(cell.variant, glob) for glob in chosen.variant or ["*"])
        and (not chosen.target or cell.target in chosen.target)
    ]
    laid_out = tables(rows.rows(cells, reading.load(board.folder), types=chosen.types))
    groups = [[row for row in table.rows if isinstance(row, rows.Row)] for table in laid_out]
    able = [(table, group) for table, group in zip(laid_out, groups, strict=True) if len({r.target for r in group}) > 1]
    if not able:
        raise CdnerError(f"no table of {board.name} has two targets, so there is nothing to rank over.")
    if len(able) > 1 and chosen.out:
        raise CdnerError(
            f"{board.name} has {len(able)} tables with several targets, and a figure shows one: name the targets of "
            "one of them (--target) or its variants (--variant)."
        )
    for table, group in able:
        found = shown.rank(group)
        say(f"{table.title}\n\n{shown.told(found)}\n")
        for path in chosen.out:
            shown.draw(found, f"{board.name}: strict F1, {chosen.types} types", path)
            say(f"written: {path}")
    return 0


def curve(chosen: argparse.Namespace) -> int:
    """Print, and draw, F1 over the share of added data."""
    from benchmark.report import curves, reading, rows
    from benchmark.run.plan import read_board

    board = read_board(chosen.board, card_folders(chosen), settings=False)
    records = reading.load(board.folder)
    scored = rows.rows(board.expected(), records, protocol=chosen.protocol, types=chosen.types)
    found = curves.curves(scored, chosen.target)
    title = f"{board.name}: {chosen.protocol} F1 on {chosen.target}, {chosen.types} types"
    say(f"{title}\n\n{curves.table(found)}")
    for path in chosen.out:
        curves.draw(found, title, path)
        say(f"written: {path}")
    return 0


def slice_(chosen: argparse.Namespace) -> int:
    """Print, and draw, where a board's variants differ: by type, length, seen mentions, amount of gold, cost."""
    from benchmark.report import reading, slices
    from benchmark.report.render import render
    from benchmark.run.plan import read_board

    for path in chosen.out:
        slices.check(path)
    board = read_board(chosen.board, card_folders(chosen), settings=False)
    found = slices.find(
        board.name, board.expected(), reading.load(board.folder), by=chosen.by, types=chosen.types,
        targets=chosen.target or (), variants=chosen.variant or ("*",), regimes=chosen.regime or ("*",),
    )  # fmt: skip
    out = console()
    terminal = chosen.format == "terminal"
    colour = terminal and out.is_terminal
    say(render(found, chosen.format, width=out.width if terminal else 80, colour=colour).rstrip("\n"))
    for path in chosen.out:
        slices.write(found, f"{board.name}, {chosen.types} types", path)
        say(f"written: {path}")
    return 0


def why(chosen: argparse.Namespace) -> int:
    """Print what a cell's key is made of and, where its record is of another key, what is new."""
    from benchmark import paths
    from benchmark.report.why import render
    from benchmark.run.store import Store

    board, _, item = planned_cell(chosen.cell, chosen)
    say(render(board.name, item, Store(paths.store_folder())))
    return 0


def status(chosen: argparse.Namespace) -> int:
    """Print how far a board is: done, running, failed and waiting cells, whoever runs it."""
    from benchmark import paths
    from benchmark.report import status as report
    from benchmark.run import upkeep
    from benchmark.run.plan import read_board

    board = read_board(chosen.board, card_folders(chosen), settings=False)
    store = paths.store_folder()
    snapshot = upkeep.read_snapshot(upkeep.snapshot_file(store, board.folder))
    found = report.collect(board, board.expected(), snapshot, store, jobs_of(store))
    submitted = stages_submitted(store, board)
    if chosen.json:
        told = report.as_json(found)
        say(json.dumps({**told, "submitted": submitted[1]} if submitted[1] else told, ensure_ascii=False))
    else:
        report.render(found, console())
        if submitted[0]:
            from benchmark.report import jobs

            jobs.render(submitted[0], console())
    return 0


def jobs_of(store: Path) -> dict[str, tuple[str, bool]]:
    """Return the jobs of a cluster on a store that are not over. A cluster is asked only where there are any."""
    if not any((store / "scratch").glob("*/slurm.json")):
        return {}
    from benchmark.run import slurm_jobs

    return slurm_jobs.standing(store)


def stages_submitted(store: Path, board: Any) -> tuple[list[Any], list[dict[str, Any]]]:
    """Return how the stages of a board stand that were submitted to a cluster, and the same as JSON."""
    if not (store / "slurm").is_dir():
        return [], []
    from benchmark.run import detached

    found = detached.standing(store, detached.read(store, board.folder))
    return found, detached.as_json(found)


def collect(chosen: argparse.Namespace) -> int:
    """Write the records of what has ended of a board that was submitted with `cdner run --detach`."""
    from benchmark import paths
    from benchmark.report import jobs
    from benchmark.run import detached
    from benchmark.run.plan import read_board
    from benchmark.run.store import Store

    board = writable(read_board(chosen.board, card_folders(chosen)))
    store = Store.open(paths.store_folder())
    if not detached.read(store.root, board.folder):
        raise EngineError(
            f"nothing of {board.name} was submitted on the store {store.root}; `cdner run {chosen.board} --engine "
            "slurm --detach` submits it."
        )
    summary, found = gathered(board, store, chosen)
    left = any(s.pending for s in found)
    if chosen.json:
        say(json.dumps({"submitted": detached.as_json(found), "left": summary.left}, ensure_ascii=False))
    else:
        jobs.render(found, console())
        if not left and summary.left:
            are = "1 cell is" if summary.left == 1 else f"{summary.left} cells are"
            say(f"{are} left; `cdner run {chosen.board} --engine slurm --detach` submits what is missing.")
    if left:
        return STOPPED
    return int(summary.done + summary.skipped != summary.cells)


def gathered(board: Any, store: Any, chosen: argparse.Namespace) -> Any:
    """Write the records of what has ended of a submitted board. Returns what was written, and how its jobs stand."""
    from io import StringIO

    from rich.console import Console

    from benchmark.report import watch
    from benchmark.run import detached, upkeep
    from benchmark.run.cells import plan_cells
    from benchmark.run.workload import workload

    planned = plan_cells(board, board.running_order(), data=data_folder(chosen), cards=card_folders(chosen))
    upkeep.write_snapshot(store, board, planned)
    work = workload(board, planned, store, 1)
    watcher = watch.Lines(Console(file=StringIO()) if chosen.json else console())
    return detached.collect(board, work, store, watcher, data=data_folder(chosen))


def detach(board: Any, cells: list[Any], chosen: argparse.Namespace) -> int:
    """Submit what is missing of a board to SLURM, and return."""
    from benchmark import paths
    from benchmark.report.watch import counted, name_of
    from benchmark.run import detached, engines, upkeep
    from benchmark.run.cells import plan_cells
    from benchmark.run.store import Store
    from benchmark.run.workload import workload

    given = [name for name in ("max_hours", "max_usd", "max_tokens", "fail_fast", "slots") if getattr(chosen, name)]
    name, said, where = engine_options(chosen)
    if name != "slurm" or given:
        what = "--engine slurm" if name != "slurm" else f"no --{given[0].replace('_', '-')}: nobody watches"
        raise EngineError(f"--detach leaves a board to a cluster, and needs {what}.")
    options = engines.checked_slurm(said, where)
    store = Store.open(paths.store_folder())
    if detached.read(store.root, board.folder):
        gathered(board, store, chosen)
    planned = plan_cells(board, cells, data=data_folder(chosen), cards=card_folders(chosen))
    upkeep.write_snapshot(store, board, planned)
    work = workload(board, planned, store, 1, retry_failed=chosen.retry_failed)
    found = detached.detach(board, work, store, options, threads=chosen.threads, llm=chosen.llm)
    numbers = [stage.job for stage in found.submitted]
    range_ = f", jobs {numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f", job {numbers[0]}" if numbers else ""
    say(f"{counted(len(found.submitted), 'stage')} submitted{range_}; {len(found.queued)} were with SLURM already.")
    for stage in found.elsewhere[:5]:
        say(f"not submitted: {name_of(stage)}, which a harness builds, or which needs what one builds")
    if not (found.submitted or found.queued):
        say("There is nothing to submit." if not work.todo else "Nothing was submitted; try again later.")
    else:
        say(f"`cdner status {chosen.board}` says how it stands; `cdner collect {chosen.board}` writes the records.")
    return 0


def store(chosen: argparse.Namespace) -> int:
    """Show what takes how much of the store; `prune` removes what no board needs, after asking."""
    from benchmark import paths
    from benchmark.report import store as report
    from benchmark.run import upkeep
    from benchmark.run.store import Store

    root = paths.store_folder()
    if chosen.what is None:
        if not root.is_dir():
            raise StoreError(f"{root}: there is no store yet; `cdner run` makes it.")
        report.render_usage(root, upkeep.usage(root), console())
        return 0
    found = to_prune(Store.open(root), chosen)
    report.render_prunable(found, console())
    if not found.paths or chosen.dry_run:
        return 0
    if not chosen.yes and not confirmed("Remove all this?"):
        say("nothing was removed")
        return 1
    say(f"removed {report.size(upkeep.remove(found))}")
    return 0


def to_prune(store: Any, chosen: argparse.Namespace) -> Any:
    """Return what no known board needs: those of the results folder, those that came along, those that ran here.

    A board that cannot be planned now needs what it needed when it was last run.
    """
    from benchmark.run import upkeep
    from benchmark.run.cells import corpus_reader, plan_cells
    from benchmark.run.plan import boards, read_board

    cards = card_folders(chosen)
    folders = {str(known.resolve()) for known in boards().values()}
    snapshots: dict[str, Any] = {}
    gone: dict[str, Path] = {}
    for path in sorted((store.root / "boards").glob("*.json")):
        told = upkeep.read_snapshot(path)
        if told is not None:
            folder = Path(told["folder"])
            snapshots[str(folder)] = told
            if (folder / "plan.yaml").is_file():
                folders.add(str(folder))
            elif not folder.parent.is_dir():  # a disk that is not there now; else the board was removed
                gone[str(folder)] = path
    needed: set[str] = set()
    splits: set[str] = set()
    corpora = corpus_reader()
    unread = [f"{name}: it is not there; remove {path} to let go of what it needed" for name, path in gone.items()]
    for name in gone:
        needed |= set(snapshots[name]["stages"])
    for name in sorted(folders):
        try:
            board = read_board(name, cards)
            planned = plan_cells(board, board.cells, data=data_folder(chosen), cards=cards, corpora=corpora)
        except CdnerError as error:
            if name in snapshots:  # one that never ran on this store needs nothing of it
                unread.append(f"{name}: {error}")
                needed |= set(snapshots[name]["stages"])
            continue
        stages = [s for item in planned if item.final is not None for s in item.final.graph()]
        needed |= {s.key for s in stages}
        splits |= {split.hash for s in stages for split in s.splits}
    found = upkeep.prunable(store, needed, splits)
    found.unread = unread
    return found


def confirmed(question: str) -> bool:
    """Return whether a person says yes. Raises CdnerError where there is no person to ask."""
    if not sys.stdin.isatty():
        raise CdnerError("nobody can be asked here: say --yes to remove it, or --dry-run to see it only.")
    return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}


def adopt(chosen: argparse.Namespace) -> int:
    """Carry stale records over a refactoring, when a rerun of a sample of them gives equal predictions."""
    from benchmark import paths
    from benchmark.run.adopt import adopt as carry
    from benchmark.run.cells import plan_cells
    from benchmark.run.local import LocalEngine
    from benchmark.run.plan import read_board
    from benchmark.run.store import Store

    cards = card_folders(chosen)
    board = read_board(chosen.board, cards)
    cells = chosen_cells(board, chosen.only)
    engine = LocalEngine(chosen.slots, chosen.threads)
    try:
        engine.warm()
        planned = plan_cells(board, cells, data=data_folder(chosen), cards=cards)
        return carry(
            board, planned, Store.open(paths.store_folder()), engine, sample=chosen.sample, dry_run=chosen.dry_run,
            tell=say,
        )  # fmt: skip
    finally:
        engine.close()


def annotate(chosen: argparse.Namespace) -> int:
    """Write the file in which a person labels the words that a cell's model is unsure of; tell how far it is."""
    from benchmark.run import annotation
    from benchmark.run.predict import supply

    board, cell, item = planned_cell(chosen.cell, chosen)
    asked = cell.spec.annotate
    if asked is None or asked.by != "file":
        raise CdnerError(f"{cell.name} asks no person: its transfer needs `annotate: {{by: file}}`.")
    if item.transfer is None:
        raise CdnerError(f"{cell.name} is skipped: {item.reason}")
    method, path = item.method(), annotation.file_of(board.folder, cell.name)
    types, train = annotation.labels_of(method, item.transfer), item.transfer.target.train
    stage = annotation.doubting(method, item.transfer, item.settings, cell.seed)
    if not path.exists():
        with at_hand() as (store, engine):
            supply([stage], store, engine, tell)
            start = annotation.start_of(method, item.transfer)
            found = annotation.doubted(store.folder(stage.key), train, asked.measure, asked.threshold, start)
        annotation.write_file(path, cell.name, found, types, asked.measure, stage.key)
    filled = annotation.read_file(path, train, types, stage.key)
    assert filled is not None
    say(str(path))
    done = filled.marked - filled.open
    say(f"{filled.marked} words to label, {done} labelled, {filled.changed} of them not as they were")
    say(
        f"to go on: put a tag in the place of each {annotation.OPEN}, the first in line {filled.first}" if filled.open
        else f"to go on: cdner run {board.name} --only '{cell.name}'"
    )  # fmt: skip
    return 0


def planned_cell(name: str, chosen: argparse.Namespace) -> "tuple[Board, Cell, Planned]":
    """Return a cell, its board, and its plan."""
    from benchmark.run.cells import find_cell, plan_cells
    from benchmark.run.plan import boards

    cards = card_folders(chosen)
    board, cell = find_cell(name, boards(), cards)
    [item] = plan_cells(board, [cell], data=data_folder(chosen), cards=cards)
    return board, cell, item


@contextmanager
def at_hand() -> "Iterator[tuple[Store, Engine]]":
    """Give the store, and an engine that is closed in the end."""
    from benchmark import paths
    from benchmark.run.local import LocalEngine
    from benchmark.run.store import Store

    engine = LocalEngine()
    try:
        engine.warm()
        yield Store.open(paths.store_folder()), engine
    finally:
        engine.close()


def report(chosen: argparse.Namespace) -> int:
    """Print, write and draw what a cell's word tags are taken for: classification report and confusion matrix."""
    from benchmark.corpus.corpus import load_split
    from benchmark.report import confusion
    from benchmark.run.predict import predict as find_entities
    from benchmark.run.record import predictions_path
    from benchmark.score.protocols import Gold, read_predictions, relabel

    for path in chosen.out:
        if path.suffix not in confusion.KINDS:
            raise CdnerError(f"{path}: expected a name that ends in {', '.join(confusion.KINDS)}.")
    board, cell, item = planned_cell(chosen.cell, chosen)
    if item.transfer is None or item.final is None:
        raise CdnerError(f"{cell.name} is skipped: {item.reason}")
    tested = item.transfer.tested
    level = item.method.level if chosen.types is None else chosen.types
    if level == "fine" and item.method.level == "general":
        raise CdnerError(f"{cell.name} predicts general types, so there is no report of fine ones.")
    if chosen.split == "dev" and (cell.spec.dev == "none" or tested.card.source["dev"] is None):
        raise CdnerError(f"{cell.name} has no dev: {tested.name} has none, or the transfer says `dev: none`.")
    if chosen.split == "test" and not item.predicted:
        raise CdnerError(
            f"{cell.name} has no good record of what its plan says now; run it first: "
            f"cdner run {board.name} --only '{cell.name}'"
        )
    split = load_split(tested.card, chosen.split, data_folder(chosen))
    if chosen.split == "dev":
        with at_hand() as (store, engine):
            found = find_entities(item, split.words_only(), store, engine, tell, keep=True)
    else:
        found = read_predictions(predictions_path(board.folder, cell.name))
    gold = [Gold(s.id, s.words, s.spans or ()) for s in split.sentences]
    if level == "general":
        gold = relabel(gold, tested.general)
        found = found if item.method.level == "general" else relabel(found, tested.general)
    told = confusion.of(gold, found, f"{cell.name}, {split.corpus} {split.name}, {level} types")
    say(f"{told.title}\n\n{confusion.table(told)}")
    if chosen.split == "dev" and cell.spec.select == "target-dev":
        say("\nnote: this dev has chosen the epoch; the test split has not.")
    for path in chosen.out:
        confusion.write(told, path)
        say(f"written: {path}")
    return 0


def show(chosen: argparse.Namespace) -> int:
    """Print what a stage of a cell has written beside its predictions; without a name, what there is."""
    from benchmark import paths
    from benchmark.run.predict import supply
    from benchmark.run.store import Store

    if chosen.name == "cases" or chosen.against is not None:
        return show_cases(chosen)
    _, cell, item = planned_cell(chosen.cell, chosen)
    if item.final is None:
        raise CdnerError(f"{cell.name} is skipped: {item.reason}")
    graph, known = item.final.graph(), Store(paths.store_folder())
    if chosen.build:
        with at_hand() as (store, engine):
            supply([item.final], store, engine, tell)
    files = {stage: texts_in(known.folder(stage.key)) for stage in reversed(graph) if known.has(stage.key)}
    if chosen.name is None:
        for stage in reversed(graph):
            told = ", ".join(path.name for path in files[stage]) if stage in files else "not in the store"
            say(f"{stage.step.__name__}  {stage.title}\n  {told}")
        return 0
    for stage, paths_of in files.items():  # what is nearest to the predictions comes first
        for path in paths_of:
            if chosen.name in (path.name, path.stem):
                say(f"{stage.step.__name__}  {stage.title}\n\n{path.read_text(encoding='utf8').rstrip()}")
                return 0
    lacking = len(graph) - len(files)
    raise CdnerError(
        f"no stage of {cell.name} that is in the store has written {chosen.name!r}; `cdner show CELL` lists what there "
        "is." + (f" {lacking} of {len(graph)} stages are not there: --build builds them." if lacking else "")
    )


def show_cases(chosen: argparse.Namespace) -> int:
    """Print sentences on which two cells differ, with the nearest explanations that one of them has read."""
    from benchmark.corpus.corpus import load_split
    from benchmark.report import cases
    from benchmark.run.record import predictions_path
    from benchmark.score.protocols import Gold, read_predictions, relabel

    if chosen.against is None or chosen.name != "cases":
        raise CdnerError("cases are of two cells: cdner show CELL cases --against CELL.")
    sides = [planned_cell(name, chosen) for name in (chosen.cell, chosen.against)]
    for board, cell, item in sides:
        if item.reason is not None:
            raise CdnerError(f"{cell.name} is skipped: {item.reason}")
        if not item.predicted:
            raise CdnerError(
                f"{cell.name} has no good record of what its plan says now; run it first: "
                f"cdner run {board.name} --only '{cell.name}'"
            )
    (_, one, first), (_, other, second) = sides
    tested, against = first.transfer.tested, second.transfer.tested  # type: ignore[union-attr]
    if tested.name != against.name or first.method.level != second.method.level:
        raise CdnerError(
            f"{one.name} and {other.name} cannot be set side by side: they predict {first.method.level} types of "
            f"{tested.name} and {second.method.level} types of {against.name}."
        )
    split = load_split(tested.card, "test", data_folder(chosen))
    gold = [Gold(s.id, s.words, s.spans or ()) for s in split.sentences]
    if first.method.level == "general":
        gold = relabel(gold, tested.general)
    said = [read_predictions(predictions_path(board.folder, cell.name)) for board, cell, _ in sides]
    every = cases.cases(gold, *said)
    known, readers = explanations_of([item for _, _, item in sides], tested.card, chosen)
    found = cases.explained(every[: chosen.limit], known, chosen.explanations)
    names = {key: kind.name for key, kind in tested.card.types.items()}
    say(cases.render(found, (one.name, other.name), names, len(every), readers))
    return 0


def explanations_of(
    cells: "list[Planned]", card: "Card", chosen: argparse.Namespace
) -> "tuple[list[Explained], list[str]]":
    """Return what cells have read, and the numbers of those that did; where none has, what is published of train."""
    from benchmark import paths
    from benchmark.corpus import knowledge as explained
    from benchmark.corpus.corpus import load_split
    from benchmark.run.cell_texts import read_by
    from benchmark.run.store import Store

    published: list[Explained] = []
    if not chosen.explanations:
        return published, []
    if card.knowledge is not None:
        try:
            train = load_split(card, "train", data_folder(chosen))
            published, _ = explained.shown(explained.published(card, data_folder(chosen)), train)
        except FetchError as error:
            tell(f"without published explanations: {error}")
    read = [read_by(cell, published, Store(paths.store_folder())) for cell in cells]
    readers = [str(number) for number, found in enumerate(read, 1) if found]
    return list(dict.fromkeys(one for found in read for one in found)) or published, readers


def texts_in(folder: Path) -> list[Path]:
    """Return the text files of an artefact: Markdown before all else."""
    found = [path for path in folder.glob("*") if path.suffix in (".md", ".txt", ".csv", ".json", ".jsonl")]
    return sorted(found, key=lambda path: (path.suffix != ".md", path.name))


def predict(chosen: argparse.Namespace) -> int:
    """Print the entities of new text, found by the trained model of a cell."""
    from benchmark.report.entities import render
    from benchmark.run.predict import predict as find_entities
    from benchmark.run.predict import sentences_of, shown

    lines = text_lines(chosen.text)
    with at_hand() as (store, engine):
        _, _, item = planned_cell(getattr(chosen, "from"), chosen)
        words = sentences_of(lines)
        found = shown(words, find_entities(item, words, store, engine, tell))
    if chosen.json:
        for sentence in found:
            say(json.dumps(sentence, ensure_ascii=False))
    else:
        out = console()
        for sentence in found:
            out.print(render(sentence), soft_wrap=True)
    return 0


def text_lines(given: list[str]) -> list[str]:
    """Return the lines to predict: the text itself, the file that it names, or standard input."""
    if not given or given == ["-"]:
        return decoded(sys.stdin.buffer.read(), "standard input")
    lines: list[str] = []
    for text in given:
        try:
            is_file = Path(text).is_file()
        except OSError:  # longer than a file's name may be
            is_file = False
        if not is_file and text.endswith(".txt") and not any(c.isspace() for c in text):
            raise CdnerError(f"{text}: there is no such file.")
        lines.extend(decoded(Path(text).read_bytes(), text) if is_file else text.splitlines())
    return lines


def decoded(content: bytes, where: str) -> list[str]:
    """Return the lines of UTF-8 text."""
    try:
        return content.decode().splitlines()
    except UnicodeDecodeError:
        raise CdnerError(f"{where}: this is no UTF-8 text; convert it first.") from None


# ---------------------------------------------------------------------------------------------------- the arguments


def console() -> "Console":
    """Return where pretty things are printed."""
    from rich.console import Console

    return Console(highlight=False)


def say(text: str) -> None:
    """Print a line as it is."""
    print(text)  # noqa: T201


def data_folder(chosen: argparse.Namespace) -> Path | None:
    """Return the folder of the user's corpora."""
    from benchmark import paths

    return paths.data_folder(getattr(chosen, "data", None))


def card_folders(chosen: argparse.Namespace) -> tuple[Path, ...]:
    """Return the folders of the user's cards that the command line names."""
    return tuple(getattr(chosen, "cards", None) or ())


class Once(argparse.Action):
    """Takes the value of an option, and refuses a second one: which of two is meant, nobody can tell."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        """Set the value."""
        if option_string is not None and self.dest in parser.given:
            raise argparse.ArgumentError(self, "given twice, and it takes one value")
        parser.given.add(self.dest)
        setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """A parser that tells a wrong call in one line, with a way on."""

    def __init__(self, *given: Any, **named: Any) -> None:
        """Build it as argparse does."""
        super().__init__(*given, **named)
        self.given: set[str] = set()
        self.register("action", None, Once)
        self.register("action", "store", Once)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return what argparse reads, as of a fresh call."""
        self.given = set()
        return super().parse_known_args(args, namespace)

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Tell what of a call this parser does not know, with the option that may have been meant."""
        name = unknown[0].partition("=")[0]
        if name.startswith("-"):
            self.error(f"there is no option {name}.{nearest(name, self._option_string_actions)}")
        self.error(f"unrecognized arguments: {' '.join(unknown)}")

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where help is, and exit with status 2."""
        print(f"{self.prog}: {message}\nTry: {self.prog} --help", file=sys.stderr)  # noqa: T201
        raise SystemExit(USAGE_ERROR)


def parser() -> Parser:
    """Return the parser of the whole command line."""
    top = Parser(
        prog="cdner",
        description="A benchmark framework for cross-domain named entity recognition.",
        epilog="example: cdner run demo && cdner table demo --format markdown",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"cdner {__version__}")
    verbs = top.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)

    def add(name: str, command: Command, example: str, *, data: bool = False, cards: bool = True) -> Any:
        text = (command.__doc__ or "").strip()
        verb = verbs.add_parser(
            name, help=text, description=text, epilog=f"example: {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        verb.set_defaults(command=command, reader=verb)
        if data:
            verb.add_argument(
                "--data", type=Path, metavar="DIR", help="folder of corpora, <corpus>/<split>.txt in it (or CDNER_DATA)"
            )
        if cards:
            verb.add_argument(
                "--cards",
                type=Path,
                action="append",
                metavar="DIR",
                help="folder of cards of your own; may be given again (or CDNER_CARDS)",
            )
        return verb

    verb = add("list", list_, "cdner list corpora")
    verb.add_argument("what", nargs="?", choices=("methods", "corpora", "boards"), help="default: all three")

    verb = add("card", card, "cdner card ai")
    verb.add_argument("corpus", metavar="CORPUS")

    verb = add("distances", distances, "cdner distances ai politics science music literature", data=True)
    verb.add_argument("corpus", nargs="+", metavar="CORPUS")
    verb.add_argument("--features", choices=("counts", "frequencies", "tfidf"), default="counts", help="of words")

    verb = add("lint", lint, "cdner lint conll2003 ai music", data=True)
    verb.add_argument("corpus", nargs="*", metavar="CORPUS", help="default: every corpus")
    verb.add_argument(
        "--source", metavar="CORPUS", help="report what the others share with this (default: the first of several)"
    )

    verb = add("knowledge", knowledge, "cdner knowledge ai music --data ~/ner --out explained", data=True)
    verb.add_argument("corpora", metavar="CORPUS", nargs="+")
    verb.add_argument("--file", type=Path, metavar="FILE", help="a file of explanations, in the place of the card's")
    verb.add_argument(
        "--out", type=Path, metavar="DIR",
        help="write each corpus' explanations of mentions of train as DIR/CORPUS.json, which variants may name",
    )  # fmt: skip

    verb = add("density", density, "cdner density ai music wikipedia.txt --out density.pdf", data=True)
    verb.add_argument(
        "texts", metavar="TEXT", nargs="*",
        help="a file, a unit a line (.gz too); a .jsonl split that cdner wrote; a .json of explanations; or a corpus, "
        "whose card pins some",
    )  # fmt: skip
    verb.add_argument(
        "--cell", action="append", default=[], metavar="CELL",
        help="the text that a cell is pre-trained on, whatever is mixed in; may be given again",
    )  # fmt: skip
    verb.add_argument("--unit", choices=("line", "sentence"), default="line", help="an explanation is a line")
    verb.add_argument("--tokens", choices=("blanks", "words"), default="blanks", help="words: marks stand alone")
    verb.add_argument("--lower", action="store_true", help="fold case")
    verb.add_argument("--smoothing", type=not_negative, default=0.0, metavar="K", help="added to a pair's count")
    verb.add_argument("--start", action="store_true", help="count a unit's first token too, behind a start sign")
    verb.add_argument(
        "--out", type=Path, action="append", default=[], metavar="FILE",
        help=".png, .svg, .pdf: a figure; .csv: every unit; may be given again",
    )  # fmt: skip

    verb = add("run", run, "cdner run minilm --data ~/ner --only 'tagger/*/seed1'", data=True)
    verb.add_argument("board", metavar="BOARD", help="a board's name, or a folder with a plan.yaml")
    verb.add_argument(
        "--only", action="append", metavar="GLOB", help="run the cells whose name fits; may be given again"
    )
    verb.add_argument("--dry-run", action="store_true", help="print cells, stages and an estimate, and run nothing")
    verb.add_argument(
        "--retry-failed", action="store_true", help="run cells again whose very stages have failed before"
    )
    verb.add_argument(
        "--slots", type=positive, metavar="N", help="stages at once (default: GPUs, else cores, four at most)"
    )
    verb.add_argument("--threads", type=positive, metavar="N", help="threads a stage (default: cores divided by slots)")
    verb.add_argument(
        "--engine", choices=("local", "ray", "slurm"),
        help="where stages run: this machine, a Ray cluster, a SLURM cluster (default: as the options say, else local)",
    )  # fmt: skip
    verb.add_argument(
        "--engine-config", type=Path, metavar="FILE",
        help="options of engines (or CDNER_ENGINE; default: engine.yaml in the user's config folder of cdner)",
    )  # fmt: skip
    verb.add_argument("--no-table", action="store_true", help="do not print the table at the end")
    how = verb.add_mutually_exclusive_group()
    how.add_argument(
        "--keep-going", dest="fail_fast", action="store_false", default=False,
        help="a failed stage ends only the cells that need it (default)",
    )  # fmt: skip
    how.add_argument("--fail-fast", action="store_true", help="the first failure ends the run")
    verb.add_argument("--max-hours", type=above_zero, metavar="H", help="start no stage after so many hours")
    verb.add_argument("--max-usd", type=above_zero, metavar="USD", help="start no stage when so much is spent")
    verb.add_argument(
        "--max-tokens", type=positive, metavar="N", help="start no stage when language models have taken so many"
    )
    verb.add_argument(
        "--llm", choices=("live", "replay"), default="live",
        help="replay: ask no language model, take its kept answers; one that is missing is an error (default: live)",
    )  # fmt: skip
    verb.add_argument("--json", action="store_true", help="tell what happens as JSON, one object a line")
    verb.add_argument(
        "--log", choices=("wandb",), help="log to Weights & Biases too (WANDB_MODE=offline needs no network)"
    )

    verb.add_argument(
        "--detach", action="store_true", help="submit all that is missing to the cluster, and return; then: collect"
    )

    verb = add("collect", collect, "cdner collect minilm", data=True)
    verb.add_argument("board", metavar="BOARD")
    verb.add_argument("--json", action="store_true", help="as JSON")

    verb = add("status", status, "cdner status minilm")
    verb.add_argument("board", metavar="BOARD")
    verb.add_argument("--json", action="store_true", help="as JSON")

    verb = add("store", store, "cdner store prune --dry-run", data=True)
    verb.add_argument("what", nargs="?", choices=("prune",), help="remove what no board needs")
    verb.add_argument("--dry-run", action="store_true", help="show what would be removed, and remove nothing")
    verb.add_argument("--yes", action="store_true", help="do not ask")

    verb = add("adopt", adopt, "cdner adopt minilm --sample 2", data=True)
    verb.add_argument("board", metavar="BOARD")
    verb.add_argument("--only", action="append", metavar="GLOB", help="adopt the cells whose name fits")
    verb.add_argument(
        "--sample", type=positive, default=1, metavar="N", help="cells to rerun of each kind of change (default: 1)"
    )
    verb.add_argument("--dry-run", action="store_true", help="show what has changed, and run nothing")
    verb.add_argument("--slots", type=positive, metavar="N", help="stages at once")
    verb.add_argument("--threads", type=positive, metavar="N", help="threads a stage")

    verb = add("table", table, "cdner table minilm --types general --format latex")
    verb.add_argument("board", metavar="BOARD")
    verb.add_argument("--format", choices=("terminal", "markdown", "latex", "csv", "json"), default="terminal")
    verb.add_argument("--protocol", default="strict", metavar="NAME", help=PROTOCOLS)
    verb.add_argument(
        "--protocols", metavar="all|NAME,NAME", help="a column for each protocol, and what the rule alone is worth"
    )
    verb.add_argument("--types", choices=("fine", "general"), default="fine")
    verb.add_argument(
        "--errors", action="store_true", help="wrong type, wrong boundary, missed, spurious instead of F1"
    )
    verb.add_argument("--worst", action="store_true", help="mark the target on which each variant is worst")
    verb.add_argument("--audit", action="store_true", help="what became of generated pairs instead of F1")
    verb.add_argument(
        "--selection", action="store_true", help="what target-dev, source-dev, last and test would have chosen"
    )
    verb.add_argument("--per-type", metavar="TARGET", help="F1 of every entity type of one target")
    verb.add_argument(
        "--metric", choices=("f1", "precision", "recall"), default="f1",
        help="with --per-type: recall is a type's accuracy",
    )  # fmt: skip

    verb.add_argument(
        "--write",
        type=Path,
        nargs="*",
        action="extend",
        metavar="PAGE",
        help="write table.md and table.csv into the board's folder, and the marked block of Markdown pages",
    )
    verb.add_argument(
        "--check", type=Path, nargs="*", action="extend", metavar="PAGE",
        help="fail where such a table is not what the records say",
    )  # fmt: skip

    verb.add_argument(
        "--against", choices=("published",),
        help="beside the papers' numbers, with what is not comparable; --write and --check are then of published.md",
    )  # fmt: skip

    verb = add("compare", compare, "cdner compare laner tagger --board minilm")
    verb.add_argument("first", metavar="A", help="a variant; put its board and a slash before it if several have it")
    verb.add_argument("second", metavar="B", help="another variant of the same board")
    verb.add_argument("--board", metavar="BOARD", help="default: the only board that has both")
    verb.add_argument("--by", choices=("variant", "regime"), default="variant", help="what A and B are")
    verb.add_argument("--types", choices=("fine", "general"), default="fine")
    verb.add_argument("--format", choices=("terminal", "markdown", "csv", "json"), default="terminal")

    verb = add("ranks", ranks, "cdner ranks minilm --target ai --target music --out ranks.pdf")
    verb.add_argument("board", metavar="BOARD")
    verb.add_argument("--target", action="append", metavar="CORPUS", help="rank over these; may be given again")
    verb.add_argument("--variant", action="append", metavar="GLOB", help="rank these; may be given again")
    verb.add_argument("--types", choices=("fine", "general"), default="fine")
    verb.add_argument(
        "--out", type=Path, nargs="+", action="extend", default=[], metavar="FILE",
        help="the critical-difference diagram: .png, .svg, .pdf",
    )  # fmt: skip

    verb = add("published", published, "cdner published --system LANER --target ai", cards=False)
    verb.add_argument(
        "--system", action="append", metavar="NAME",
        help="of this system and its ablations, whoever printed them; may be given again",
    )  # fmt: skip
    verb.add_argument(
        "--target", action="append", metavar="CORPUS", help="at this target, in one list; may be given again"
    )
    verb.add_argument("--paper", action="append", metavar="NAME", help="of this paper; may be given again")
    verb.add_argument("--format", choices=("terminal", "markdown", "latex", "csv", "json"), default="terminal")
    verb.add_argument(
        "--check", type=Path, nargs="*", action="extend", metavar="PAGE",
        help="recompute, and list where papers disagree; fail where a Markdown page lists something else",
    )  # fmt: skip
    verb.add_argument(
        "--write", type=Path, nargs="+", action="extend", metavar="PAGE", help="write that list into Markdown pages"
    )

    verb = add("check", check, "cdner check ./theirs --strict", data=True)
    verb.add_argument("board", metavar="BOARD", help="a board's name, or a folder with a plan.yaml")
    verb.add_argument("--plan", metavar="BOARD", help="check the records of the folder against the plan of this board")
    verb.add_argument(
        "--strict", action="store_true", help="what is in doubt, such as what was not rescored, fails too"
    )
    verb.add_argument("--json", action="store_true", help="as JSON")

    verb = add("merge", merge, "cdner merge minilm ./machine-a ./machine-b --dry-run", data=True)
    verb.add_argument("into", metavar="INTO", help="the board that takes the records")
    verb.add_argument("folders", nargs="+", metavar="FROM", help="a board's name or folder; or a folder of records")
    verb.add_argument("--replace", action="store_true", help="take a good record over one that predicts something else")
    verb.add_argument("--strict", action="store_true", help="leave records of which something is in doubt")
    verb.add_argument("--dry-run", action="store_true", help="say what would be taken, and write nothing")

    verb = add("curve", curve, "cdner curve label-normalization --target ai --out ai.pdf")
    verb.add_argument("board", metavar="BOARD")
    verb.add_argument("--target", required=True, metavar="CORPUS")
    verb.add_argument("--protocol", default="strict", metavar="NAME", help=PROTOCOLS)
    verb.add_argument("--types", choices=("fine", "general"), default="fine")
    verb.add_argument(
        "--out", type=Path, nargs="+", action="extend", default=[], metavar="FILE", help="figures: .png, .svg, .pdf"
    )

    verb = add("slice", slice_, "cdner slice minilm --by seen --target ai --variant 'tagger*' --out seen.pdf")
    verb.add_argument("board", metavar="BOARD")
    verb.add_argument(
        "--by", metavar="WHAT",
        choices=("type", "detection", "span-length", "sentence-length", "seen", "shared", "consistency", "confusion",
                 "amount", "cost"),
        help="type, detection, span-length, sentence-length, seen, shared, consistency, confusion, amount or cost "
        "(default: an overview)",
    )  # fmt: skip
    verb.add_argument("--target", action="append", metavar="CORPUS", help="this one; may be given again")
    verb.add_argument("--variant", action="append", metavar="GLOB", help="variants whose name fits; may be given again")
    verb.add_argument("--regime", action="append", metavar="GLOB", help="regimes whose name fits; may be given again")
    verb.add_argument("--types", choices=("fine", "general"), default="fine")
    verb.add_argument("--format", choices=("terminal", "markdown", "latex", "csv", "json"), default="terminal")
    verb.add_argument(
        "--out", type=Path, nargs="+", action="extend", default=[], metavar="FILE",
        help="tables (.md, .tex), numbers (.csv, .json), figures (.png, .svg, .pdf)",
    )  # fmt: skip

    verb = add("report", report, "cdner report tagger/conll2003--ai/supervised/seed1 --split dev --out ai.md ai.pdf",
               data=True)  # fmt: skip
    verb.add_argument("cell", metavar="CELL", help="a cell's name; put the board's before it if several have it")
    verb.add_argument(
        "--split", choices=("test", "dev"), default="test",
        help="test: the stored predictions (default); dev: its model predicts dev, and is built where it is gone",
    )  # fmt: skip
    verb.add_argument("--types", choices=("fine", "general"), help="default: what the method predicts")
    verb.add_argument(
        "--out", type=Path, nargs="+", action="extend", default=[], metavar="FILE",
        help="the report (.md), the matrix (.csv), all numbers (.json), figures (.png, .svg, .pdf)",
    )  # fmt: skip

    verb = add("show", show, "cdner show lar/conll2003--ai/supervised/seed1 alignment", data=True)
    verb.add_argument("cell", metavar="CELL", help="a cell's name; put the board's before it if several have it")
    verb.add_argument("name", nargs="?", metavar="NAME", help="of a file, such as alignment; or `cases`")
    verb.add_argument("--against", metavar="CELL", help="with `cases`: sentences on which the two cells differ")
    verb.add_argument("--limit", type=positive, default=10, metavar="N", help="of sentences (default: 10)")
    verb.add_argument(
        "--explanations", type=whole, default=1, metavar="N", help="nearest ones of each sentence (default: 1)"
    )
    verb.add_argument("--build", action="store_true", help="build the stages that are not in the store first")

    verb = add("annotate", annotate, "cdner annotate tagger/conll2003--ai/supervised+file-2/seed1", data=True)
    verb.add_argument("cell", metavar="CELL", help="a cell whose transfer says `annotate: {by: file}`")

    verb = add("why", why, "cdner why tagger/conll2003--ai/supervised/seed1", data=True)
    verb.add_argument("cell", metavar="CELL", help="a cell's name; put the board's before it if several have it")

    verb = add("predict", predict,
               "cdner predict --from demo/tagger/demo-news--demo-cinema/supervised/seed1 'Ana Ruiz won the prize.'",
               data=True)  # fmt: skip
    verb.add_argument("--from", required=True, metavar="CELL", help="the cell whose model is used")
    verb.add_argument("--json", action="store_true", help="one JSON object a sentence")
    verb.add_argument(
        "text", nargs="*", metavar="TEXT", help="text, or files; default: standard input. One sentence a line"
    )
    return top


def positive(text: str) -> int:
    """Return a whole number above 0."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return number


def whole(text: str) -> int:
    """Return a whole number, 0 or more."""
    return 0 if text == "0" else positive(text)


def not_negative(text: str) -> float:
    """Return a number, 0 or more."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number, 0 or more")
    return number


def above_zero(text: str) -> float:
    """Return a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
