"""The text form of positions, and how they are compared and parsed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgidb.drivers.mysql.positions import parse as parse_gtids
from wsgidb.drivers.mysql.positions import told
from wsgidb.scale.positions import covers, merged, parse, text_of

SOURCES = st.one_of(st.just("lsn"), st.integers(0, 2**32 - 1).map(str), st.uuids().map(str))
POSITIONS = st.dictionaries(SOURCES, st.integers(0, 2**64 - 1), min_size=1, max_size=8)


@given(POSITIONS)
def test_a_text_is_parsed_back(position: dict[str, int]) -> None:
    """What a client sends back is what it was given, and is safe in a cookie."""
    text = text_of(position)
    assert parse(text) == position
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_")


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "0-", "-1", "0-x", "0-1_", "_0-1", "0-1 ", "0-1\n", " 0-1", "0-1;0-2", "A-1", "0-٣", "0--", "0-1.5"),
        *("0-" + "1" * 21, "x" * 41 + "-1", "_".join(f"{n}-1" for n in range(9)), "0-1,0-2", "'-1", "%30-1"),
    ],
)
def test_what_is_malformed_is_ignored(text: str) -> None:
    """A strict format: anything else is as if it were not there."""
    assert parse(text) == {}


def test_more_sources_than_a_text_may_have_mean_the_primary() -> None:
    """In place of a text that would be too long."""
    assert text_of({str(n): 1 for n in range(9)}) == "primary-1"


@given(POSITIONS, POSITIONS)
def test_merging_covers_both_and_no_more(one: dict[str, int], two: dict[str, int]) -> None:
    """The order does not matter, so a position of an earlier write never replaces that of a later one."""
    both = merged([one, two])
    assert covers(both, one)
    assert covers(both, two)
    assert merged([two, one]) == both
    assert all(number in (one.get(source), two.get(source)) for source, number in both.items())


@given(POSITIONS, POSITIONS)
def test_covering_compares_each_source(reached: dict[str, int], needed: dict[str, int]) -> None:
    """A server that has nothing of a source does not cover it."""
    assert covers(reached, needed) == all(reached.get(source, -1) >= number for source, number in needed.items())


def test_positions_of_mariadb() -> None:
    """One number for each domain; the server id does not matter."""
    assert parse_gtids("", mariadb=True) == {}
    assert parse_gtids(b"0-1-8,7-2-30", mariadb=True) == {"0": 8, "7": 30}


def test_positions_of_mysql() -> None:
    """Of a set counts what has no gap before it. After the documentation, as the tests have no server of MySQL."""
    one, two = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "a0a0a0a0-71ca-11e1-9e33-c80aa9429562"
    assert parse_gtids(f"{one.upper()}:1-5:7-9,\n{two}:1", mariadb=False) == {one: 5, two: 1}
    assert parse_gtids(f"{one}:2-5", mariadb=False) == {}
    gtid = f"{one}:23".encode()
    entry = bytes([0, len(gtid)]) + gtid
    assert told(bytes([0, len(entry) + 2, 3, len(entry)]) + entry) == {one: 23}


def test_what_a_reply_tells_of_mariadb() -> None:
    """The bytes are those that MariaDB 10.11 sent; other variables are skipped."""
    assert told(b"\x00\x12\x00\x10\tlast_gtid\x050-1-4") == {"0": 4}
    assert told(b"\x02ok\x09\x00\x07\x04name\x01x") == {}
    assert told(b"\x00\x03\x05\x01\x00") == {}
