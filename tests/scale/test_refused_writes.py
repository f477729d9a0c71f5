"""A write with a replica's connection is an error, and the log tells why."""

from __future__ import annotations

from typing import Any

import pytest

from scale.clients import Client
from scale.conftest import Make

pytestmark = pytest.mark.server


@pytest.mark.parametrize("transaction", ["manual", "autocommit"])
def test_a_write_is_refused_and_explained(
    make: Make, servers: Any, driver: str, n: int, transaction: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Even where the server itself would accept it, which then would have what the primary has not."""
    if driver != "psycopg":
        for replica in servers.replicas:
            replica.execute("SET GLOBAL read_only = 0")
    app = make(transaction=transaction)
    client = Client(app)
    with pytest.raises(Exception, match=r"(?i)read[- ]only"):
        client.ask("GET", f"/write/{n}")
    (record,) = [record for record in caplog.records if "a write was refused" in record.getMessage()]
    text = record.getMessage()
    assert text.startswith(f"GET /write/{n}: a write was refused, as the request was sent to a replica, ")
    assert "replica_if" in text
    servers.caught_up()
    assert {client.read(n)[0] for _ in range(4)} == {"missing"}
    for replica in app.database.replicas:
        assert replica.stats().discards == {}, "it was the handler's mistake"
    for replica in servers.replicas:
        if driver != "psycopg":
            replica.execute("SET GLOBAL read_only = 1")
