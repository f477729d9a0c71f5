"""The messages that docs/ shows. What differs from case to case is a placeholder there, such as <seconds>."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from wsgidb.errors import SITE

DOCS = Path(__file__).parents[2] / "docs"
PLACEHOLDER = re.compile(r"<[^<>]+>")
ANCHOR = re.compile(r"^\(([\w-]+)\)=$", re.MULTILINE)
LINK = re.compile(rf" \({SITE}page/troubleshooting\.html#([\w-]+)\)$")


@cache
def text(page: str) -> str:
    return (DOCS / page).read_text()


@cache
def section(page: str, heading: str) -> str:
    """The part of a page below a heading, up to the next one that is as high."""
    level = heading.partition(" ")[0]
    found = re.split(rf"^{level} ", text(page), flags=re.MULTILINE)
    (part,) = (part for part in found if f"{level} {part}".startswith(f"{heading}\n"))
    return part


def blocks(part: str) -> list[str]:
    """Each line of the blocks of plain text."""
    found = re.findall(r"^```text\n(.*?)^```$", part, re.DOTALL | re.MULTILINE)
    return [line for block in found for line in block.splitlines()]


def first_cells(part: str) -> list[str]:
    """The code in the first cell of each row of the tables."""
    return re.findall(r"^\| `(.+?)` \|", part, re.MULTILINE)


def log_lines() -> dict[str, str]:
    """Each line of the log, and its level."""
    rows = re.findall(r"^\| ([A-Z]+) \| `(.+?)` \|", section("logging.md", "## Every line"), re.MULTILINE)
    return {line: level for level, line in rows}


def driver_lines() -> list[str]:
    """The errors of drivers and servers, which are not wsgidb's."""
    return first_cells(section("troubleshooting.md", "## Errors of the driver"))


def shared_lines() -> list[str]:
    """The errors of connections that are shared, as drivers have them without wsgidb."""
    return first_cells(section("troubleshooting.md", "## Errors of shared connections"))


def all_lines() -> set[str]:
    return {*blocks(text("troubleshooting.md")), *blocks(text("logging.md")), *driver_lines(), *log_lines()}


@cache
def entries() -> dict[str, list[str]]:
    """The lines of each entry of the page for troubleshooting: from an anchor to the next one, or to a heading."""
    _, *parts = ANCHOR.split(text("troubleshooting.md"))
    return {
        anchor: blocks(re.split("^##", part.lstrip("\n#"), flags=re.MULTILINE)[0])
        for anchor, part in zip(parts[::2], parts[1::2], strict=True)
    }


def fits(line: str, message: str) -> bool:
    """Whether a message is what the line shows."""
    pattern = ".+".join(map(re.escape, PLACEHOLDER.split(line)))
    return re.fullmatch(pattern, " ".join(message.split()), re.DOTALL) is not None


def shown(fragment: str, message: object, whole: bool = False, log: bool = False) -> None:
    """Assert that a message is what the pages show: the one line that has this fragment in it, or that is the fragment
    as a `whole`. The lines of the log, and those above the tables, may have the same fragment.

    If the message is an error of wsgidb, its link leads to the entry with this line."""
    lines = set(log_lines()) if log else all_lines() - set(log_lines())
    found = [line for line in lines if fragment in line and (not whole or fragment == line)]
    assert len(found) == 1, (fragment, found)
    link = LINK.search(str(message))
    text = str(message) if link is None else str(message)[: link.start()]
    assert fits(found[0], text), f"{message}\nis not what the page shows:\n{found[0]}"
    assert link is None or log or found[0] in entries()[link[1]], f"{message}\nleads to another entry"
