"""Every server with the same application, in front of a MariaDB whose only clients they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import wsgidb
from servers.kit import POOL_SIZE
from support.mariadb import MariaDB
from support.servers import Server

TESTS = Path(__file__).parents[1]
ROWS = 2000
"""More of them than the sockets between hold."""

Start = Callable[..., AbstractContextManager[Server]]


@pytest.fixture(scope="session")
def database() -> Iterator[MariaDB]:
    with MariaDB() as mariadb:
        mariadb.execute("CREATE TABLE note (id INT PRIMARY KEY, text TEXT)")
        values = ", ".join(f"({number}, REPEAT('x', 5000))" for number in range(1, ROWS + 1))
        mariadb.execute(f"INSERT INTO note VALUES {values}")
        yield mariadb


@pytest.fixture(scope="session")
def start(database: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts a server by its name."""

    def start(name: str, recycle: int | None = None, **environ: str) -> Server:
        log = tmp_path_factory.mktemp("server") / "log"
        path = [str(TESTS), str(Path(wsgidb.__file__).parents[1])]
        settings = {"TEST_URL": database.url(), "TEST_POOL_SIZE": str(POOL_SIZE), **environ}
        return Server(name, "servers.app:application", log, path, None, recycle, **settings)

    return start
