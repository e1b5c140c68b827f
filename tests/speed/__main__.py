"""`make speed`: every speed target, as ratios in one run. `python -m tests.speed boards laner` measures some of them."""

import sys
from importlib import import_module

MODULES = (
    "scoring",
    "tables",
    "planning",
    "sharing",
    "stages",
    "boards",
    "training",
    "laner",
    "text2text",
    "density",
    "evidence",
    "ray_nodes",
)

WITHIN = {"at least": lambda found, bound: found >= bound, "at most": lambda f, b: f <= b, "under": lambda f, b: f < b}


def met(found: float, target: str) -> str:
    """Return whether a target such as `at least 20` is met: yes, NO, or nothing where there is none."""
    for words, holds in WITHIN.items():
        if target.startswith(words):
            return "yes" if holds(found, float(target.removeprefix(words).split()[0])) else "NO"
    return ""


def main() -> int:
    """Measure, print, and return 1 where a target is missed."""
    missed = 0
    for name in sys.argv[1:] or MODULES:
        for what, found, target in import_module(f"tests.speed.{name}").measure():
            verdict = met(found, target)
            missed += verdict == "NO"
            print(f"{what:90} {found:8.2f}   {target:22} {verdict}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
