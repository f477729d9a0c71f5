"""Figures of many interleaved runs, as a table of ratios, medians and quartiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isnan, nan
from statistics import median, quantiles
from typing import NamedTuple


def ratios(figures: Sequence[float], base: Sequence[float]) -> list[float]:
    """The ratio of each run to the run beside it, because a disturbance mostly affects both.

    It leaves out a run that gave nothing to compare with: one so short, on so busy a machine, that no request ended or
    no tick of CPU time passed."""
    return [figure / other for figure, other in zip(figures, base, strict=True) if other]


def middle(figures: Sequence[float]) -> float:
    """The median, or NaN if there is no figure."""
    return median(figures) if figures else nan


def worst(choose: Callable[[Sequence[float]], float], figures: Sequence[float]) -> float:
    """The least or the greatest, as `choose` is min or max. It is NaN if one of them is, which may be the worst."""
    return nan if any(map(isnan, figures)) else choose(figures)


def spread(figures: Sequence[float]) -> tuple[float, float, float]:
    """The median and both quartiles."""
    if len(figures) < 2:
        return figures[0], figures[0], figures[0]
    low, _, high = quantiles(figures, n=4, method="inclusive")
    return median(figures), low, high


def shown(figures: Sequence[float], digits: int = 2) -> str:
    """A cell such as 0.98 (0.95–1.01): the median and the quartiles."""
    if not figures:
        return "not measured"
    half, low, high = spread(figures)
    return f"{half:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with aligned columns, so that it is readable in a terminal as well."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(lines[0]), rule, *map(line, lines[1:])])


class Target(NamedTuple):
    """A figure, and what it is to be. If both bounds are equal, it must be that exactly. NaN meets no bound."""

    what: str
    figure: float
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool:
        return (self.least is None or self.figure >= self.least) and (self.most is None or self.figure <= self.most)

    @property
    def measured(self) -> str:
        return "not measured" if isnan(self.figure) else f"{self.figure:.2f}"

    @property
    def wanted(self) -> str:
        bounds = {"exactly": self.least} if self.least == self.most else {"at least": self.least, "at most": self.most}
        return " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)


def judged(targets: Iterable[Target]) -> str:
    """A table of targets, and whether they are met."""
    head = ["target", "wanted", "measured", "met"]
    rows = [[each.what, each.wanted, each.measured, "yes" if each.met else "**no**"] for each in targets]
    return table(head, rows)


def summary(parts: Mapping[str, Sequence[Target]]) -> str:
    """How many targets are met, and a table of those that are not, with the tables in which they are missed."""
    missed: dict[tuple[str, str], list[str]] = {}
    for part, targets in parts.items():
        for each in targets:
            if not each.met:
                missed.setdefault((each.what, each.wanted), []).append(f"{each.measured} ({part})")
    every = sum(map(len, parts.values()))
    met = f"{every - sum(map(len, missed.values()))} of {every} targets are met."
    if not missed:
        return met
    rows = [[what, wanted, ", ".join(where)] for (what, wanted), where in missed.items()]
    return f"{met} These are not:\n\n{table(['target', 'wanted', 'measured'], rows)}"
