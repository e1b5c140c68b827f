"""How the jobs of a board stand that was submitted to SLURM."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from benchmark.report.watch import called, counted

if TYPE_CHECKING:
    from benchmark.run.detached import Standing

SHOWN = 10  # of those that ended badly; of those that run or wait, half as many
ORDER = ("ok", "running", "queued", "failed", "killed", "cancelled", "unknown")
COLOURS = {"failed": "bold red", "killed": "yellow", "cancelled": "yellow", "unknown": "magenta"}


def totals(found: "list[Standing]") -> str:
    """Return how many submitted stages stand how, in one line."""
    numbers = {state: sum(s.state == state for s in found) for state in ORDER}
    told = ", ".join(f"{number} {state}" for state, number in numbers.items() if number)
    return f"{counted(len(found), 'stage')} submitted to SLURM: {told}"


def render(found: "list[Standing]", console: Console) -> None:
    """Print how submitted stages stand: their numbers, and those of which a person should know more."""
    if not found:
        return
    console.print()
    console.print(Text(totals(found), style="bold"))
    for state in ORDER[1:]:
        chosen = [s for s in found if s.state == state]
        shown = chosen[: SHOWN if state in COLOURS else SHOWN // 2]
        for one in shown:
            job = f"job {one.stage.job}" if one.stage.job else "no job"
            told = one.why.removeprefix(f"{one.state}: ")
            why = f": {told}" if told else ""
            line = f"  {state}  {called(one.stage.step, one.stage.title)} ({job}){why}"
            console.print(Text(line, style=COLOURS.get(state, "default")), soft_wrap=True)
        if len(chosen) > len(shown):
            console.print(Text(f"  and {len(chosen) - len(shown)} more {state}"))
