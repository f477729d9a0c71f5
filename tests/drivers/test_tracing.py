"""Tracing tools see the statements of handlers, by the real packages of OpenTelemetry and without any configuration."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from drivers.cases import SEE, Backend, over
from wsgidb import ConnectionReturned, Database
from wsgidb.drivers.tracing import traced

# MySQL Connector/Python sends the trace's id with each statement by itself, which MariaDB does not take.
pytestmark = pytest.mark.filterwarnings("ignore:This version of the server does not support Query Attributes")

INSTRUMENTORS = {
    "pymysql": ("pymysql", "PyMySQLInstrumentor"),
    "mysqlclient": ("mysqlclient", "MySQLClientInstrumentor"),
    "connector": ("mysql", "MySQLInstrumentor"),
    "psycopg": ("psycopg", "PsycopgInstrumentor"),
    "sqlite": ("sqlite3", "SQLite3Instrumentor"),
}
SYSTEMS = {"psycopg": "postgresql", "sqlite": "sqlite"}


class Spans:
    """What a tool has exported."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def taken(self) -> list[ReadableSpan]:
        """All spans since the last time."""
        spans = list(self._exporter.get_finished_spans())
        self._exporter.clear()
        return spans


def kind(backend: Backend) -> str:
    """The driver of a backend, with TLS or without."""
    return backend.name.partition("-")[0]


@pytest.fixture
def spans(backend: Backend) -> Iterator[Spans]:
    """The driver is instrumented as opentelemetry-instrument does it."""
    module, name = INSTRUMENTORS[kind(backend)]
    instrumentor = getattr(importlib.import_module(f"opentelemetry.instrumentation.{module}"), name)()
    found = Spans()
    instrumentor.instrument(tracer_provider=found.provider, skip_dep_check=True)
    yield found
    instrumentor.uninstrument()


@over(SEE)
def test_a_span_for_each_statement_of_the_handler(backend: Backend, spans: Spans) -> None:
    """With the right attributes; wsgidb's own pings and rollbacks make none."""
    with Database(**backend.options, pool_size=1, ping_after=0) as database:
        for _ in range(2):
            with database.connection() as conn:
                cursor = conn.cursor()
                cursor.execute("SELECT 1")
                assert [tuple(row) for row in cursor.fetchall()] == [(1,)]
                conn.rollback()
        assert database.stats().pings == 1
        found = spans.taken()
    assert [(span.attributes or {})["db.statement"] for span in found] == ["SELECT 1"] * 2
    system = SYSTEMS.get(kind(backend), "mysql")
    assert [(span.attributes or {})["db.system"] for span in found] == [system] * 2


@over(SEE)
def test_an_error_is_recorded(backend: Backend, spans: Spans) -> None:
    """And reaches the handler as the driver raised it."""
    with Database(**backend.options, pool_size=1) as database, database.connection() as conn:
        with pytest.raises(Exception, match=r"nothing|NOTHING"):
            conn.cursor().execute("SELECT nothing")
        (span,) = spans.taken()
    assert span.status.status_code is StatusCode.ERROR


@over(SEE)
def test_a_traced_cursor_is_the_leases(backend: Backend, spans: Spans) -> None:
    """R8, R13: it ends with its lease, the connection serves on, and its statements are counted."""
    with Database(**backend.options, pool_size=1) as database:
        with database.connection() as conn:
            raw = conn.driver_connection
            cursor = conn.cursor()
            cursor.execute("SELECT 1")
            cursor.fetchall()
            assert cursor.connection is conn
        with pytest.raises(ConnectionReturned):
            cursor.execute("SELECT 1")
        with database.connection() as conn:
            assert conn.driver_connection is raw
        assert database.stats().statements == 1
        assert database.stats().discards == {}


@over(SEE)
def test_a_traced_request_is_committed(backend: Backend, spans: Spans) -> None:
    """R13: a tool that wraps cursors does not turn a commit into an error."""
    with Database(**backend.options, pool_size=1, transaction="request") as database:
        for _ in range(2):
            with database.connection() as conn:
                cursor = conn.cursor()
                cursor.execute("SELECT 1")
                cursor.fetchall()
        assert database.stats().discards == {}


def test_a_tool_that_fails_costs_no_connection() -> None:
    """O1: its statements are not traced, and that is all."""

    class Failing:
        @staticmethod
        def _self_wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            raise RuntimeError("a tool's fault")

    conn = object()
    assert traced(Failing, conn) is conn


def test_two_tools_at_once() -> None:
    """The outer one sees what the inner one makes, as when the driver's own connect were called."""

    def tool(name: str, inner: Any) -> Any:
        class Wrapper:
            __wrapped__ = inner

            @staticmethod
            def _self_wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
                return (name, wrapped(*args, **kwargs))

        return Wrapper

    assert traced(tool("outer", tool("inner", object)), "conn") == ("outer", ("inner", "conn"))
