"""docs/scale.md shows the configuration that the tests run."""

from __future__ import annotations

import re
from pathlib import Path

from support import galera, haproxy, pgbouncer

PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()


def block(kind: str, part: str) -> str:
    """The block of that kind in which there is that text."""
    (found,) = [text for text in re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE) if part in text]
    return str(found)


def test_haproxy() -> None:
    """The page shows what HAProxy is given, with other addresses."""
    addresses = [f"10.0.0.{number}:3306" for number in (1, 2, 3)]
    assert block("haproxy", "listen") == haproxy.configuration(addresses, "/run/haproxy", 3306, "30s")


def test_pgbouncer() -> None:
    """The page shows what PgBouncer is given, with other places, and with passwords."""
    expected = pgbouncer.CONFIGURATION.format(
        database="shop", target=5432, port=6432, directory="/run/pgbouncer",
        auth_type="scram-sha-256", pool_mode="transaction", pool_size=10,
    )  # fmt: skip
    assert block("ini", "[pgbouncer]") == expected


def test_galera() -> None:
    """The page shows each setting of a node, except for what only several nodes on one machine need."""
    shown = dict(line.split(" = ", 1) for line in block("ini", "wsrep").splitlines()[1:])
    for name, value in galera.SETTINGS.items():
        assert shown.pop(name.replace("-", "_")) == value
    assert set(shown) == {
        *("wsrep_provider", "wsrep_cluster_address", "wsrep_node_address", "wsrep_provider_options"),
        "innodb_flush_log_at_trx_commit",
    }
    assert shown["wsrep_provider_options"] == f'"gcache.size={galera.KEPT}"'
