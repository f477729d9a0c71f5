"""PgBouncer on loopback, in front of a PostgreSQL server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from support.datadir import hand_over
from support.ports import bind
from support.postgresql import PASSWORDS, PostgreSQL, identity
from support.waiting import until

CONFIGURATION = """\
[databases]
{database} = host=127.0.0.1 port={target}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir = {directory}
auth_type = {auth_type}
auth_file = {directory}/users
admin_users = guest
pidfile = {directory}/pid
pool_mode = {pool_mode}
default_pool_size = {pool_size}
max_client_conn = 200
server_login_retry = 1
query_wait_timeout = 3
"""


def find_program(name: str) -> str:
    """A program of Debian's package of that name; without it a loud skip, and a failure in CI."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    if found := shutil.which(name, path=path):
        return found
    message = f"no {name} here: install it (Debian: apt-get install {name})"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


class PgBouncer:
    """A pooler with at most `pool_size` connections to the server; a context manager, running within the block.

    It knows the users of `PASSWORDS`; ``guest`` is its administrator, too."""

    def __init__(self, server: PostgreSQL, pool_mode: str = "transaction", pool_size: int = 10) -> None:
        self.program = find_program("pgbouncer")
        self.server = server
        self._reserved = bind()
        self.port: int = self._reserved.getsockname()[1]
        self.directory = Path(tempfile.mkdtemp(prefix="wsgidb-", dir="/tmp"))
        self.settings = {"pool_mode": pool_mode, "pool_size": pool_size}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PgBouncer:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._reserved.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def start(self) -> None:
        file = self.directory / "pgbouncer.ini"
        places: dict[str, object] = {"target": self.server.port, "port": self.port, "directory": self.directory}
        places |= {"database": "test", "auth_type": "trust"}
        file.write_text(CONFIGURATION.format(**places, **self.settings))
        users = "".join(f'"{user}" "{password}"\n' for user, password in PASSWORDS.items())
        (self.directory / "users").write_text(users)
        hand_over(self.directory)
        with (self.directory / "log").open("ab") as out:
            # Should this process be killed, the kernel ends the pooler.
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", self.program, str(file)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd="/", **identity(),
            )  # fmt: skip
        until(self._listens, 10, "PgBouncer to listen")

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"PgBouncer ended: {self.log}"
        try:
            self._admin().close()
        except psycopg.OperationalError:
            return False
        return True

    def _admin(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            f"host=127.0.0.1 port={self.port} user=guest dbname=pgbouncer sslmode=disable", autocommit=True
        )

    def command(self, text: str) -> list[tuple[Any, ...]]:
        """Run a command of its administrator, such as SHOW POOLS or PAUSE."""
        admin = self._admin()
        try:
            # Its console knows the simple protocol only, which psycopg uses for no parameters.
            cursor = psycopg.ClientCursor(admin)
            cursor.execute(text)
            return cursor.fetchall() if cursor.description else []
        finally:
            admin.close()

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def restart(self) -> None:
        """At once: clients see a reset."""
        self.kill()
        self.start()

    def url(self, user: str = "guest", query: str = "") -> str:
        parts = urlsplit(self.server.url(user))
        login = parts.netloc.rpartition("@")[0]
        return parts._replace(netloc=f"{login}@127.0.0.1:{self.port}", query=query).geturl()
