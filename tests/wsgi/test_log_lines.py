"""A request's path takes one line in the log, whatever characters it contains."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from support.wsgi import Call
from wsgidb import Database, DatabaseMiddleware

PATH = "/x\nCRITICAL:root:all is lost\r\x1b[31m\u2028é"
SHOWN = "/x\\nCRITICAL:root:all is lost\\r\\x1b[31m\\u2028é"


def streamed(environ: dict[str, Any], start_response: Any) -> Any:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return iter([b"a", b"b"])


def written(environ: dict[str, Any], start_response: Any) -> Any:
    environ["db.conn"].execute("INSERT INTO t VALUES (1)")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return []


@pytest.fixture(autouse=True)
def _others() -> None:
    """What earlier tests have left, and what is logged of it."""
    gc.collect()


def test_of_a_body_that_is_never_closed(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    call = Call(DatabaseMiddleware(streamed, database), PATH)
    del call
    gc.collect()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"a response body was never closed: {SHOWN}; its connection is taken back"]


def test_of_a_write_that_was_not_committed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Database(f"sqlite:///{tmp_path}/x.db", init_sql="CREATE TABLE t (n INT)") as database:
        Call(DatabaseMiddleware(written, database), PATH)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"GET {SHOWN}: rolled back an uncommitted write of 1 row(s)"]
