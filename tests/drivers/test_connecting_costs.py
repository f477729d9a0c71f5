"""What connecting and a reset cost on the wire: each command here is one round trip, and there is no other.

The login itself, which is no command, takes one more, and the network connection another one.
"""

from __future__ import annotations

from typing import Any

import pytest

from strategies.kit import MYSQL_BANKS, PostgreSQLBank, WiredBank
from support.clock import Clock
from support.mariadb import MariaDB
from support.pgpackets import MessageReader
from support.postgresql import PostgreSQL
from support.proxy import TCPProxy
from wsgidb import Database

pytestmark = pytest.mark.server

ON, OFF = {"transaction": "autocommit"}, {"transaction": "manual"}
FRESH = {"reset": "session"}
SETTINGS = {"init_sql": ["SET @a = 1", "SET @b = 'it', @c = -1.5"]}
INIT = [f"QUERY {each}" for each in SETTINGS["init_sql"]]
TABLE = {"init_sql": ["SET @a = (SELECT 1)"]}
NAMES, OTHERS = "QUERY SET NAMES utf8mb4", "?charset=utf8mb4&collation=utf8mb4_bin&sql_mode=ANSI"
COLLATED = f"{NAMES} COLLATE utf8mb4_bin"
ROLE = ["QUERY SELECT CURRENT_ROLE()", "QUERY SELECT 1 FROM DUAL WHERE NOT CURRENT_ROLE() <=> NULL"]
CONNECTOR = "QUERY SET NAMES 'utf8mb4' COLLATE 'utf8mb4_general_ci'"
BIN = CONNECTOR.replace("general_ci", "bin")
CONNECTOR_OFF = "QUERY SET AUTOCOMMIT = 0"
POOLER = "QUERY SELECT pg_catalog.pg_backend_pid()"

CONNECTING: list[tuple[str, str, dict[str, Any], list[str]]] = [
    *(
        case
        for driver in ("pymysql", "mysqlclient")
        for case in (
            (driver, "", ON, [NAMES]),
            (driver, "", OFF, [f"{NAMES}, autocommit = 0"]),
            (driver, "", {"transaction": "request"}, [f"{NAMES}, autocommit = 0"]),
            (driver, "", ON | SETTINGS, [NAMES, *INIT]),
            (driver, "", OFF | SETTINGS, [f"{NAMES}, autocommit = 0", *INIT]),
            (driver, "", OFF | TABLE, [f"{NAMES}, autocommit = 0", "QUERY SET @a = (SELECT 1)", "QUERY COMMIT"]),
        )
    ),
    ("pymysql", OTHERS, OFF, [f"{COLLATED}, sql_mode = 'ANSI', autocommit = 0"]),
    ("mysqlclient", OTHERS, OFF, [f"{COLLATED}, SESSION sql_mode='ANSI', autocommit = 0"]),
    ("pymysql", "", OFF | FRESH, [f"{NAMES}, autocommit = 0", *ROLE]),
    ("mysqlclient", "", OFF | FRESH, [f"{NAMES}, autocommit = 0"]),
    ("connector", "", ON, [CONNECTOR]),
    ("connector", "", OFF, [CONNECTOR, CONNECTOR_OFF]),
    ("connector", "", OFF | SETTINGS, [CONNECTOR, CONNECTOR_OFF, *INIT]),
    ("connector", OTHERS, OFF, [BIN, CONNECTOR_OFF, "QUERY SET @@session.sql_mode = 'ANSI'"]),
    ("connector", "", OFF | FRESH, [CONNECTOR, CONNECTOR_OFF, "QUERY SELECT DATABASE(), CURRENT_ROLE()"]),
]


def opened(bank_class: type[WiredBank], proxy: TCPProxy, url: str, query: str, options: dict[str, Any]) -> list[str]:
    """The commands of a connection that is opened and closed."""
    scheme = getattr(bank_class, "scheme", "postgresql")
    source = f"{scheme}://{proxy.url_from(url).partition('://')[2]}{query}"
    with proxy.counting() as seen, Database(source, strategy="per-request", **options) as database:
        database.check()
    ping = [bank_class.ping_command] if bank_class.ping_command != "QUERY" else ["QUERY"]
    assert seen[-2:] == [*ping, bank_class.goodbye]
    return seen[:-2]


@pytest.mark.parametrize(("driver", "query", "options", "expected"), CONNECTING)
def test_connecting(
    mariadb: MariaDB, proxy: TCPProxy, driver: str, query: str, options: dict[str, Any], expected: list[str]
) -> None:
    """C4: what the driver would set one by one is one statement with PyMySQL and mysqlclient, and nothing is set that
    the server has told to be so. A COMMIT follows on init_sql only if that may have opened a transaction."""
    assert opened(MYSQL_BANKS[driver], proxy, mariadb.url(), query, options) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (ON, [POOLER]),
        (OFF, [POOLER]),
        (OFF | FRESH, [POOLER]),
        (OFF | {"connect_args": {"prepare_threshold": None}}, []),
        (ON | {"init_sql": ["SET a.a = 1", "SET a.b = 2"]}, [POOLER, "QUERY SET a.a = 1", "QUERY SET a.b = 2"]),
        (OFF | {"init_sql": ["SET a.a = 1 -- a"]}, [POOLER, "QUERY BEGIN\n;\nSET a.a = 1 -- a\n;\nCOMMIT"]),
    ],
)
def test_connecting_to_postgresql(postgresql: PostgreSQL, options: dict[str, Any], expected: list[str]) -> None:
    """C4: one question, whose answer tells whether a pooler is in between, and init_sql in one transaction."""
    with TCPProxy(postgresql.port, MessageReader) as proxy:
        assert opened(PostgreSQLBank, proxy, postgresql.url(), "", options) == expected


BEGUN, ENDED = ["QUERY BEGIN", "QUERY SELECT 1"], ["EXECUTE ROLLBACK", "EXECUTE DISCARD ALL"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (ON, ["QUERY SELECT 1", "QUERY DISCARD ALL"]),
        (OFF, [*BEGUN, *ENDED]),
        ({"transaction": "request"}, [*BEGUN, "QUERY COMMIT", "QUERY DISCARD ALL"]),
        (OFF | {"connect_args": {"prepare_threshold": None}}, [*BEGUN, "QUERY ROLLBACK", "QUERY DISCARD ALL"]),
    ],
)
def test_a_reset_of_postgresql(
    postgresql: PostgreSQL, clock: Clock, options: dict[str, Any], expected: list[str]
) -> None:
    """C4: the two commands of a reset are sent together where it is known that no pooler is in between."""
    with TCPProxy(postgresql.port, MessageReader) as proxy:
        url = proxy.url_from(postgresql.url())
        with Database(url, reset="session", strategy="pooled", clock=clock, **options) as database:
            with database.connection():
                pass
            with proxy.counting() as seen, database.connection() as conn:
                conn.cursor().execute("SELECT 1")
            assert seen == expected
            assert database.stats().discards == {}
