"""Datadog's tracing sees the statements of handlers, too. It stays in a process, so each test has one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import wsgidb
from drivers.cases import SEE, Backend, over

pytestmark = pytest.mark.slow

PROGRAM = """
import json, sys, warnings
from ddtrace import patch
from ddtrace.trace import TraceFilter, tracer

spans = []

class Keep(TraceFilter):
    def process_trace(self, trace):
        spans.extend(trace)
        return None

tracer.configure(trace_processors=[Keep()])
patch(pymysql=True, mysql=True, mysqldb=True, psycopg=True, sqlite3=True)
warnings.simplefilter("ignore")
from wsgidb import Database

with Database(**json.loads(sys.argv[1]), pool_size=1, transaction="request", ping_after=0) as database:
    for _ in range(2):
        with database.connection() as conn:
            cursor = conn.cursor()
            cursor.execute("SELECT 1")
            cursor.fetchall()
    print(json.dumps([[span.resource for span in spans], database.stats().discards]))
"""
QUIET = {
    "DD_TRACE_AGENT_URL": "http://127.0.0.1:9", "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false", "DD_TRACE_STARTUP_LOGS": "false",
}  # fmt: skip
"""Nothing leaves the process."""


@over(SEE)
def test_a_span_for_each_statement_of_the_handler(backend: Backend) -> None:
    """And none for wsgidb's own; committed requests keep their connection."""
    path = str(Path(wsgidb.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(backend.options)],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **QUIET, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [["SELECT 1", "SELECT 1"], {}]
