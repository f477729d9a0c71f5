"""The benchmarks run, and what they count is exact; what they time is judged by nobody here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.server]
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.parametrize(
    ("framework", "driver"), [("wsgi", "pymysql"), ("wsgi", "mysqlclient"), ("flask", "pymysql")]
)
@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("wsgidb per-request", {"trips": 4, "statements": 3, "connects": 1}),
        ("wsgidb thread-local", {"trips": 1, "statements": 1, "connects": 0}),
        ("wsgidb pooled", {"trips": 1, "statements": 1, "connects": 0}),
        ("wsgidb dbutils-persistent", {"trips": 1, "statements": 1, "connects": 0}),
        ("wsgidb dbutils-pooled", {"trips": 1, "statements": 1, "connects": 0}),
        ("wsgidb sqlalchemy", {"trips": 1, "statements": 1, "connects": 0}),
    ],
)
def test_a_request_makes_its_own_round_trips_and_no_other(
    row: str, expected: dict[str, int], framework: str, driver: str, tmp_path: Path
) -> None:
    """C4: under uWSGI, with transaction=autocommit, as MariaDB counts: one statement, one round trip, no connecting.
    A connection per request costs what each needs: it, SET NAMES, and a goodbye (it counts as a statement). A thread of
    a slow machine may have nothing to do for more than a second, after which its connection would be pinged."""
    from serving import City, database

    with database() as server, City(row, framework, driver, server, tmp_path / "log", ping_after=60) as city:
        assert city.trips() == pytest.approx(expected)


def test_an_inexact_count_is_told() -> None:
    """It is what fails `make bench BENCH_ARGS=--quick` in continuous integration."""
    import served

    exact: dict[str, Any] = {row: {"trips": 1.0} for row in served.OURS}
    assert served.inexact(exact) == []
    assert served.inexact({**exact, "wsgidb pooled": {"trips": 1.02}}) == ["wsgidb pooled: 1.02 round trips"]


def test_those_in_process_run() -> None:
    """Every table of `make bench` that needs neither a load generator nor a picture is made, each line of it."""
    import checkout
    import connecting
    import growth
    import latency
    import sizing
    from serving import database

    with database() as server:
        tables: list[tuple[Any, Any]] = [
            (checkout, checkout.measure(server.url(), rounds=1)),
            (latency, latency.measure(server.url(), runs=1, seconds=0.05)),
            (growth, growth.measure(rounds=1)),
            (connecting, connecting.measure(server.url(), ["pymysql"], 2, BENCHMARKS.parent, counted=False)),
        ]
        sizes = sizing.report(sizing.measure(server.url(), seconds=0.1))
    assert len(sizes.splitlines()) == 2 + len(sizing.SIZES) + len(("thread-local", "per-request"))
    for part, figures in tables:
        assert "wsgidb pooled" in part.report(figures) or part in (growth, connecting)
        assert all(each.wanted for each in part.targets(figures))


def test_an_overload_runs() -> None:
    """Both servers of databases and a pool that is not wsgidb's: every request of the first and of the last phase is
    served. The phases between are too short to tell anything."""
    import overload

    pools = ["wsgidb", "psycopg_pool"]
    figures = overload.measure(0.5, ["gunicorn gthread"], pools)
    for pool, phases in figures["gunicorn gthread"].items():
        for name in ("unloaded", "afterwards"):
            assert (phases[name]["refused"], phases[name]["lost"]) == (0, 0), (pool, name)
    assert overload.report(figures).count("\n| ") == 1 + len(pools) * len(overload.PHASES)
    assert len(overload.targets(figures)) == 8


def test_targets_that_are_not_met_are_told() -> None:
    """Each once, with the tables in which it is missed."""
    from figures import Target, judged, summary

    exact, most = Target("round trips", 1.0, least=1, most=1), Target("CPU", 1.11, most=1.1)
    least = Target("rate", 0.97, least=0.97)
    assert [line.split("|")[2].strip() for line in judged([exact, most, least]).splitlines()[2:]] == [
        *("exactly 1", "at most 1.1", "at least 0.97"),
    ]
    assert summary({"served": [exact], "scale": [least]}) == "2 of 2 targets are met."
    told = summary({"served": [exact, most], "scale": [most, least]}).splitlines()
    assert told[0] == "2 of 4 targets are met. These are not:"
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in told[4:]] == [
        ["CPU", "at most 1.1", "1.11 (served), 1.11 (scale)"],
    ]


def test_what_was_not_measured_is_told() -> None:
    """On a busy machine no request may end in a short run, so that there is nothing to compare with."""
    from figures import Target, judged, middle, ratios, shown, summary, worst

    assert ratios([3.0, 4.0], [0.0, 2.0]) == [2.0]
    assert (shown(ratios([3.0], [0.0])), shown([2.0])) == ("not measured", "2.00 (2.00–2.00)")
    target = Target("rate", middle(ratios([3.0], [0.0])), least=1)
    assert [cell.strip() for cell in judged([target]).splitlines()[2].split("|")[1:-1]] == [
        *("rate", "at least 1", "not measured", "**no**"),
    ]
    assert "not measured (served)" in summary({"served": [target]})
    assert (worst(min, [2.0, 1.0]), worst(max, [2.0, 1.0])) == (1.0, 2.0)
    for figures in ([1.0, target.figure], [target.figure, 1.0]):
        assert not Target("rate", worst(min, figures), least=1).met


def test_an_open_loop_is_not_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are sent when they are due, though none is answered, and each is measured from then on."""
    import openloop
    from support.ports import bind

    monkeypatch.setattr(openloop, "PATIENCE", 0.5)
    with bind() as listener:
        listener.listen(64)
        answers = openloop.load(listener.getsockname()[1], 100.0, 0.2)
    assert [answer.due for answer in answers] == openloop.schedule(100.0, 0.2)
    assert {answer.status for answer in answers} == {0}
    assert all(answer.seconds >= 0.5 for answer in answers)


@pytest.mark.parametrize("row", ["wsgidb thread-local", "wsgidb pooled"])
def test_what_a_request_costs_is_counted(monkeypatch: pytest.MonkeyPatch, row: str) -> None:
    """Each request sends once, asks for no pid where a page tells of forks, and passes the release once."""
    import instructions
    from serving import database
    from wsgidb import forks

    monkeypatch.setattr(instructions, "FEW", 20)
    monkeypatch.setattr(instructions, "MANY", 40)
    with database() as server:
        child = instructions.Child(server.url(), "pymysql", row, BENCHMARKS.parent)
        few, many = child.system_calls(20), child.system_calls(40)
        counted = child.counted()
    calls = {name: round(count, 1) for name, count in instructions.between(few, many).items()}
    assert (calls["sendto"], calls.get("getpid", 0)) == (1, 2 if forks._page() is None else 0)
    assert ["wsgidb/pool/releasing.py: Releasing.release", 1] in [line[:2] for line in counted["functions"]]
    assert min(counted[what] for what in ("Python calls", "C calls", "bytecodes", "peak", "idle")) > 0
