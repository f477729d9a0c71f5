"""docs/troubleshooting.md and docs/logging.md list every message of the code, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from support import quoted
from support.templates import assigned, letters, logged, raised, reasons, returned
from wsgidb import WsgiDBError, errors

RAISED = list(raised())
LOGGED = list(logged())
INTERNAL = {
    "only where clears_sessions",
    "only where replicates",
    "only where can_ask",
    "this store's take() always has a slot",
    "a library's pool only keeps slots",
    "no slot with a connection is idle",
}
"""Errors that wsgidb's own code never provokes, or catches itself."""
ENDS = {" (\0)", " (namely \0)", " (\0 more since the last such line)"}
"""What stands at the end of some messages."""
HERE = Path(__file__).parent


def test_every_error_is_listed() -> None:
    """Each error that the code makes with a text is on the page for troubleshooting, or is about cleaning up."""
    shown = [*quoted.blocks(quoted.text("troubleshooting.md")), *quoted.driver_lines()]
    shown += quoted.blocks(quoted.text("logging.md"))
    shown += [line.removeprefix("cannot connect: ") for line in shown if line != "cannot connect: <error>"]
    left_out = [template for template in RAISED if not any(map(template.is_shown_as, shown))]
    assert [str(template) for template in left_out if template.text not in INTERNAL | ENDS] == []


def test_every_error_leads_to_its_entry() -> None:
    """The link at the end of each error of wsgidb leads to the place on the page that shows its text."""
    led = [template for template in RAISED if template.entry and template.is_definite]
    assert len(led) > 100
    astray = []
    for template in led:
        shown = quoted.entries().get(template.entry, [])
        shown = [*shown, *(line.removeprefix("cannot connect: ") for line in shown)]
        if template.text not in INTERNAL and not any(map(template.is_shown_as, shown)):
            astray.append((str(template), template.entry))
    assert astray == []


def test_every_kind_of_error_has_an_entry() -> None:
    """Also where it is raised by somebody else."""
    kinds = [WsgiDBError]
    for kind in kinds:
        kinds += kind.__subclasses__()
        assert kind.entry in quoted.entries(), kind
    assert {kind.__name__ for kind in kinds} >= set(errors.__all__)


def test_every_entry_is_led_to() -> None:
    """The anchors are there for the errors, but for the one of what the drivers raise."""
    led = {template.entry for template in RAISED} | {getattr(errors, name).entry for name in errors.__all__}
    assert set(quoted.entries()) - led == {"connect-errors"}


def test_every_log_line_is_listed_with_its_level() -> None:
    """Each call of the logger is in the table of lines."""
    listed = quoted.log_lines()
    for template in LOGGED:
        levels = {level for line, level in listed.items() if template.is_shown_as(line)}
        assert levels == {template.level} if template.is_definite else template.level in levels, str(template)


@pytest.mark.parametrize("line", [line for line, level in quoted.log_lines().items() if level != "DEBUG"])
def test_every_warning_is_explained(line: str) -> None:
    """Each line above DEBUG is on the page for troubleshooting, too."""
    explained = quoted.blocks(quoted.text("troubleshooting.md"))
    own = line.removeprefix("<database>: ").removesuffix("<details>")
    assert any(own in other or quoted.fits(line, other) or quoted.fits(other, line) for other in explained)


def test_what_is_listed_is_in_the_code() -> None:
    """A message that the code has no more is on no page. The messages of drivers and servers are provoked elsewhere."""
    known = [template for template in [*RAISED, *LOGGED] if template.is_definite]
    listed = {line for line in quoted.all_lines() if not line.endswith("<details>")} - set(quoted.driver_lines())
    assert {line for line in listed if not any(template.is_shown_as(line) for template in known)} == set()


def test_few_messages_are_put_together() -> None:
    """The other ones must be provoked, as their text stands elsewhere. A new one is to be looked at."""
    vague = {template.where.partition(":")[0] for template in [*RAISED, *LOGGED] if not template.is_definite}
    assert vague == {"wsgidb/config/settings.py", "wsgidb/pool/connector.py", "wsgidb/pool/engine.py",
                     "wsgidb/config/values.py"}  # fmt: skip


def test_every_reason_of_a_discard_is_listed() -> None:
    """The table has each reason, and no other."""
    found = reasons("discard", "_discard", "_cannot_keep") | returned("drivers") | returned("pool")
    found -= returned("pool/sharing")
    found |= assigned("fault") | assigned("unfit")
    found = {text.replace("\0", "<method>") for text in found - ENDS - {"None"}}
    assert set(quoted.first_cells(quoted.section("logging.md", "## Why a connection is discarded"))) == found


def test_every_reason_of_a_retirement_is_listed() -> None:
    """The table has each reason, and no other."""
    found = reasons("retire") | returned("strategies") | returned("pool/sharing")
    found = {text for text in found if letters(text) < 30}
    assert set(quoted.first_cells(quoted.section("logging.md", "## Why a connection is retired"))) == found


def test_every_line_is_provoked() -> None:
    """Each line of the pages is compared with a real message by one of the tests in this directory, which names it by
    a part of it."""
    named = set()
    for path in HERE.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.add(node.value)
    for lines in (quoted.all_lines() - set(quoted.log_lines()), set(quoted.log_lines())):
        provoked = set()
        for part in named:
            found = [line for line in lines if part in line]
            provoked |= {part} & lines or set(found if len(found) == 1 else [])
        assert lines - provoked == set()


OTHERS = {path.name for path in quoted.DOCS.glob("*.md")} - {"troubleshooting.md", "logging.md"}


@pytest.mark.parametrize("page", sorted(OTHERS))
def test_no_other_page_quotes_a_message_that_is_not_listed(page: str) -> None:
    """A piece of code, or a block of text, that has four words in a row of a message is a part of it."""
    lines = quoted.all_lines()
    known = set().union(*map(four_words, lines))
    shown = re.findall(r"`([^`\n]+)`", quoted.text(page)) + quoted.blocks(quoted.text(page))
    shown += [block.strip() for block in re.findall(r"(?:^    .*\n)+", quoted.text(page), re.MULTILINE)]
    quotes = [each for each in shown if four_words(each) & known]
    assert [each for each in quotes if not any(each in line or quoted.fits(line, each) for line in lines)] == []


def four_words(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text)
    return set(zip(words, words[1:], words[2:], words[3:], strict=False))
