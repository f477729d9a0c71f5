"""Figures of many interleaved runs, as a table of ratios, medians and quartiles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median, quantiles


def ratios(figures: Sequence[float], base: Sequence[float]) -> list[float]:
    """The ratio of each run to the run beside it, because a disturbance mostly affects both."""
    return [figure / other for figure, other in zip(figures, base, strict=True) if other]


def spread(figures: Sequence[float]) -> tuple[float, float, float]:
    """The median and both quartiles."""
    if len(figures) < 2:
        return figures[0], figures[0], figures[0]
    low, _, high = quantiles(figures, n=4, method="inclusive")
    return median(figures), low, high


def shown(figures: Sequence[float], digits: int = 2) -> str:
    """A cell such as 0.98 (0.95–1.01): the median and the quartiles."""
    middle, low, high = spread(figures)
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with aligned columns, so that it is readable in a terminal as well."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(lines[0]), rule, *map(line, lines[1:])])


def verdict(what: str, figure: float, least: float | None = None, most: float | None = None) -> str:
    """A line that says whether a target is met; if both bounds are equal, it must be met exactly."""
    met = (least is None or figure >= least) and (most is None or figure <= most)
    bounds = {"exactly": least} if least == most else {"at least": least, "at most": most}
    wanted = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)
    return f"- {'met' if met else '**not met**'}: {what}: {figure:.2f} (target: {wanted})"
