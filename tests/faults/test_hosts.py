"""Several hosts under load: one of them is killed, or hangs, and another one takes over."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

from faults.conftest import Serve
from faults.load import Ledger
from support.mariadb import MariaDB

pytestmark = [pytest.mark.server, pytest.mark.slow]

CLIENTS = 4


def url_of(*servers: MariaDB) -> str:
    parts = urlsplit(servers[0].url("app"))
    login = parts.netloc.rpartition("@")[0]
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return parts._replace(netloc=f"{login}@{hosts}", query="target_session_attrs=read-write").geturl()


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_takeover(serve: Serve, own_mariadb: MariaDB, primary: MariaDB, fault: str) -> None:
    """The requests that are under way fail, and a frozen host is waited for by those only that then connect; all others
    are served by the next host. Nothing is lost or made twice."""
    old, new = Ledger(own_mariadb), Ledger(primary)
    primary.execute("SET GLOBAL read_only = 1")
    options: dict[str, Any] = {"pool_size": CLIENTS, "connect_timeout": 4, "ping_timeout": 1}
    if fault == "freeze":
        options["read_timeout"] = 1
    with serve(url_of(own_mariadb, primary), **options) as site:
        with site.load(clients=CLIENTS) as seen:
            seen.more()
            primary.execute("SET GLOBAL read_only = 0")
            getattr(own_mariadb, fault)()
            seen.more(count=100)
        stats = site.stats()
    own_mariadb.thaw()
    own_mariadb.start()
    refused = [answer for answer in seen if answer.kind != "served"]
    assert len(refused) <= CLIENTS, seen.kinds
    assert "503" not in seen.kinds
    assert stats["connect_failures"] == 0
    made = {*old.numbers, *new.numbers}
    assert len(made) == len(old.numbers) + len(new.numbers)
    assert {answer.number for answer in seen.of("served")} <= made
    for ledger in (old, new):
        ledger.agrees_with([answer for answer in seen if answer.number in ledger.numbers])
