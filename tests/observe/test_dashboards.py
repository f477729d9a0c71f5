"""The dashboard for Grafana, the alert rules and docs/prometheus.md use the metrics that the collector exports."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from support.fakedb import FakeDB
from support.wsgi import Call
from wsgidb import Database
from wsgidb.prometheus import Collector

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "examples" / "grafana" / "wsgidb.json").read_text())
RULES = (ROOT / "examples" / "prometheus" / "wsgidb.rules.yml").read_text()
PAGE = (ROOT / "docs" / "prometheus.md").read_text()
SHOP, BOTH = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
ALERTS = re.findall(r"^        expr: (.*)$", RULES, re.MULTILINE)
OURS = re.compile(r"\b(?:wsgidb|db_client_connection)_\w+")
LABEL = re.compile(r"\b(\w+)\s*(?:=~|!~|!=|=)")


@pytest.fixture
def exported(fakedb: FakeDB) -> dict[str, set[str]]:
    """The labels of each metric that a scrape can get."""
    found: dict[str, set[str]] = {}
    registry = CollectorRegistry()
    with Database(creator=fakedb.connect, max_lifetime=None) as database:
        with database.connection():
            fakedb.fail("rollback", FakeDB.OperationalError("no"))  # which is a discard
        with database.connection():
            pass
        database.drain(over=0)
        with database.connection():  # which is a retirement
            pass
        registry.register(Collector(database))
        for family in registry.collect():
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def used(query: str) -> tuple[set[str], set[str]]:
    """The metrics and the labels that a query names."""
    grouped = {label for group in re.findall(r"\bby \(([^)]*)\)", query) for label in re.split(r",\s*", group)}
    rest = re.sub(r"\bby \([^)]*\)", "", query)
    chosen = {label for braces in re.findall(r"{([^}]*)}", rest) for label in LABEL.findall(braces)}
    return set(OURS.findall(re.sub(r"{[^}]*}", "", rest))), grouped | chosen


@pytest.mark.parametrize("query", [*QUERIES, *ALERTS])
def test_a_query_names_what_is_exported(query: str, exported: dict[str, set[str]]) -> None:
    """Its metrics exist, and each of them has each of its labels; `job` is Prometheus' own."""
    metrics, labels = used(query)
    assert metrics
    assert metrics - set(exported) == set()
    for metric in metrics:
        own = {"db_client_connection_state", "wsgidb_reason"} if len(metrics) > 1 else set()  # of some of them only
        assert labels - own - exported[metric] - {"job"} == set(), metric
    assert query.count("(") == query.count(")")


def test_what_the_tests_would_miss() -> None:
    """The queries are read as they are meant."""
    query = 'sum by (le, pool) (rate(wsgidb_x_total{wsgidb_reason="y", job=~"$job"}[5m])) / wsgidb_z'
    assert used(query) == ({"wsgidb_x_total", "wsgidb_z"}, {"le", "pool", "wsgidb_reason", "job"})


def test_the_variables_of_the_dashboard(exported: dict[str, set[str]]) -> None:
    """They are filled from metrics that exist, and each query uses them."""
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert set(variables) == {"datasource", "job", "pool"}
    for name in ("job", "pool"):
        metric, label = re.fullmatch(r"label_values\((\w+).*, (\w+)\)", variables[name]["definition"]).groups()  # type: ignore[union-attr]
        assert label in exported[metric] | {"job"}
    for query in QUERIES:
        assert query.count('db_client_connection_pool_name=~"$pool", job=~"$job"') == len(OURS.findall(
            re.sub(r"{[^}]*}|\bby \([^)]*\)", "", query)
        ))  # fmt: skip


def test_every_metric_is_shown_or_said_to_be_left_out(exported: dict[str, set[str]]) -> None:
    """A new metric must be shown, or named here."""
    shown = {metric for query in QUERIES for metric in used(query)[0]}
    families = {re.sub(r"_(bucket|count|sum|total|created)$", "", name) for name in exported}
    left = families - {re.sub(r"_(bucket|count|sum|total)$", "", name) for name in shown}
    assert left == {"db_client_connection_idle_max", "db_client_connection_idle_min", "wsgidb_open_time_seconds"}


def test_the_panels() -> None:
    """Each has a title, a description, a source that can be chosen, and a place of its own."""
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells, panel["title"]
        assert max(x for x, _ in own) < 24
        cells |= own
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        for target in panel["targets"]:
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_the_page_names_them() -> None:
    """The page has every alert, and names only panels that exist."""
    alerts = re.findall(r"^      - alert: (\w+)$", RULES, re.MULTILINE)
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == alerts
    assert len(ALERTS) == len(alerts)
    titles = {panel["title"] for panel in DASHBOARD["panels"]}
    named = set(re.findall(r"\*([A-Z][^*\[]+)\*", PAGE.partition("you want to know")[2]))
    assert named
    assert named <= titles


def test_the_application_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pool is scraped beside it, without a connection."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(SHOP.replace("/run/shop", str(tmp_path / "board")), names)
    with names["database"] as database:
        assert Call(names["application"]).read() == b"42\n"
        text = Call(names["application"], "/metrics").read().decode()
        assert 'wsgidb_statements_total{db_client_connection_pool_name="shop"} 1.0' in text
        assert 'wsgidb_processes{db_client_connection_pool_name="shop"} 1.0' in text
        assert database.stats().acquires == 1


def test_beside_the_multiprocess_mode(tmp_path: Path) -> None:
    """A scrape has the metrics that prometheus_client's multiprocess mode keeps in files, and wsgidb's. The mode is
    chosen when prometheus_client is imported, so this is another process."""
    program = f"""
from prometheus_client import Counter, generate_latest
{SHOP.replace("/run/shop", str(tmp_path / "board"))}
Counter("orders", "Orders.").inc()
{BOTH}
print(generate_latest(registry).decode())
"""
    (tmp_path / "files").mkdir()
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "files"),
    }
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert "orders_total 1.0\n" in done.stdout
    assert 'wsgidb_processes{db_client_connection_pool_name="shop"} 1.0' in done.stdout
