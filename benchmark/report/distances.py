"""The distances of domains from each other, as a table for people."""

from collections.abc import Mapping

from tabulate import tabulate


def render(found: Mapping[str, Mapping[str, float]], features: str) -> str:
    """Return the distances as a cross-table, and below it the others of the first domain, the nearest first."""
    names = list(found)
    digits = 1 if features == "counts" else 4
    rows = [[name, *(found[name].get(other) for other in names)] for name in names]
    first = ", ".join(f"{name} {distance:.{digits}f}" for name, distance in found[names[0]].items())
    table = tabulate(rows, ["", *names], tablefmt="simple", floatfmt=f".{digits}f", missingval="–")
    return (
        f"Euclidean distances of the words of train, {features}\n\n{table}\n\nfrom {names[0]}, nearest first: {first}"
    )
