"""A private PostgreSQL server that a test may stop, kill, freeze and start again."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import pytest
from filelock import FileLock

from support.datadir import hand_over, private_cache, run_as
from support.mariadb import tls_files
from support.ports import bind
from support.waiting import until

# Ends the server and removes its directory when this process died without doing so. The look at the command line is
# for a recycled pid. QUIT is PostgreSQL's immediate shutdown, at which it frees its shared memory.
GUARD = """
cat; pid=$(head -n 1 "$0/data/postmaster.pid" 2>/dev/null)
[ -n "$pid" ] && grep -qa -- "$0/data" "/proc/$pid/cmdline" && kill -CONT "$pid" && kill -QUIT "$pid" && sleep 1
rm -rf -- "$0"
"""

PASSWORDS = {"root": "", "guest": "", "app": "p@ss/w%rd:x"}
USERS = (
    "CREATE ROLE guest LOGIN",
    f"CREATE ROLE app LOGIN PASSWORD '{PASSWORDS['app']}'",
    "CREATE DATABASE test",
)
GRANTS = (
    "GRANT ALL ON SCHEMA public TO guest, app",
    "ALTER DEFAULT PRIVILEGES FOR ROLE root IN SCHEMA public GRANT ALL ON TABLES TO guest, app",
)
HBA = """
local all all trust
host all app 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
host replication root 127.0.0.1/32 trust
"""
# A commit reaches the operating system at once, so it survives SIGKILL; it need not reach the disk.
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": 0,
    "max_connections": 60,
    "shared_buffers": "8MB",
    "dynamic_shared_memory_type": "mmap",
    "autovacuum": "off",
    "jit": "off",
    "deadlock_timeout": "50ms",
    "client_connection_check_interval": "50ms",  # a statement ends when its client is gone
}


def find_program(name: str) -> str:
    """A program of the server; without it a loud skip, and a failure in CI, where skipping would hide everything."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    path = os.pathsep.join([*map(str, versions), os.environ.get("PATH", ""), "/usr/local/pgsql/bin"])
    if found := shutil.which(name, path=path):
        return str(Path(found).resolve())
    message = f"no {name} here: install a PostgreSQL server (Debian: apt-get install postgresql)"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def identity() -> dict[str, Any]:
    """Arguments for subprocesses that refuse to run as root."""
    user = run_as()
    return {} if user is None else {"user": user, "group": "nogroup", "extra_groups": []}


def run(*command: str, **options: Any) -> None:
    done = subprocess.run(command, text=True, capture_output=True, timeout=120, cwd="/", **identity(), **options)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")


def make_datadir(postgres: str, datadir: Path) -> None:
    """A fresh cluster with database ``test`` and users. initdb takes a second, so it is done once, and copied."""
    initdb = find_program("initdb")
    stamp = f"{postgres}{Path(postgres).stat().st_mtime_ns}{USERS}{GRANTS}{HBA}"
    cache = private_cache()
    kept = cache / f"pgdata-{hashlib.sha256(stamp.encode()).hexdigest()[:16]}"
    with FileLock(f"{kept}.lock", timeout=120):
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir="/tmp", prefix="wsgidb-") as name:
                fresh = Path(name) / "data"
                hand_over(Path(name))
                encoding = ("--encoding=UTF8", "--locale=C", "--wal-segsize=1")
                run(initdb, f"--pgdata={fresh}", "--username=root", "--auth=trust", "--no-sync", *encoding)
                (fresh / "pg_hba.conf").write_text(HBA)
                for database, statements in (("postgres", USERS), ("test", GRANTS)):
                    run(postgres, "--single", "-D", str(fresh), database, input="\n".join(statements) + "\n")
                _copy(fresh, Path(f"{kept}.{os.getpid()}"))
                os.rename(f"{kept}.{os.getpid()}", kept)
    _copy(kept, datadir)


def _copy(source: Path, target: Path) -> None:
    """With owners and permissions. A thousand files: cp is ten times as quick as shutil."""
    subprocess.run(["cp", "-a", "--", str(source), str(target)], check=True, timeout=120)


class PostgreSQL:
    """One server on loopback: own data, port and socket directory, and superuser ``root`` without a password.

    *settings* are the server's own. With *tls* it has a certificate for 127.0.0.1 and localhost, signed by the
    authority in ``.ca``; otherwise it offers no TLS at all. Users ``guest`` (no password) and ``app`` (a nasty one)
    may make tables in database ``test``. Not started yet; ``with PostgreSQL() as server`` starts and closes it.
    """

    def __init__(self, tls: bool = False, **settings: object) -> None:
        self.postgres = find_program("postgres")
        self._reserved = bind()  # held for as long as this object lives, so that the port is free after a restart
        self.directory = Path(tempfile.mkdtemp(prefix="wsgidb-", dir="/tmp"))
        self.port: int = self._reserved.getsockname()[1]
        self.ca: Path | None = None
        self.settings: dict[str, object] = {**FAST, **settings}
        self._process: subprocess.Popen[bytes] | None = None
        guard = ["/bin/sh", "-c", GUARD, str(self.directory)]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            self._make_data()
            if tls:
                self.ca, cert, key = tls_files(self.directory)
                key.chmod(0o600)
                self.settings |= {"ssl": "on", "ssl_cert_file": cert, "ssl_key_file": key}
                hand_over(key)
            self._hand_over()
        except BaseException:
            self.close()
            raise

    def _make_data(self) -> None:
        make_datadir(self.postgres, self.data)

    def _hand_over(self) -> None:
        """Let the server's user have its directory."""
        if user := run_as():
            shutil.chown(self.directory, user)

    def __enter__(self) -> PostgreSQL:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float = 30) -> None:
        """Start, unless it runs already, and return when it accepts a login."""
        if self.running:
            return
        log = self.directory / "error.log"
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.directory}
        options = [f"--{name}={value}" for name, value in {**settings, **self.settings}.items()]
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [self.postgres, "-D", str(self.data), *options],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd="/", **identity(),
            )  # fmt: skip
        deadline = time.monotonic() + timeout
        while not self._answers():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                why = "ended" if ended else f"did not accept a login in {timeout:g} s"
                self.kill()
                raise RuntimeError(f"PostgreSQL {why}; the end of its log:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.005)

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.Error:
            return False
        return True

    def stop(self) -> None:
        """Shut down politely; clients are told, and everything is on disk when this returns."""
        if self._process is not None and self.running:
            self.thaw()
            self._process.send_signal(signal.SIGINT)  # "fast": it does not wait for clients to go
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def restart(self) -> None:
        """Stop and start, on the same port and with the same data."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """End at once, as a crash or the OOM killer would: clients see their line end without a word."""
        if self._process is not None and self.running:
            self.freeze()  # so that it starts no more of them
            children = _children(self._process.pid)
            self._process.kill()
            for pid in children:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            until(lambda: not any(_alive(pid) for pid in children), what="the server's processes to end")

    def freeze(self) -> None:
        """Hang the server: the kernel still accepts connections, nobody answers."""
        if not self.running:
            raise RuntimeError("only a running server can be frozen")
        until(lambda: {_state(pid) for pid in self._all(signal.SIGSTOP)} <= {"T", "Z", ""}, what="the server to freeze")

    def thaw(self) -> None:
        if self.running:
            self._all(signal.SIGCONT)

    def _all(self, what: signal.Signals) -> list[int]:
        """Signal the server and its processes, one for each session; returns their ids, the server's first."""
        assert self._process is not None, "never started"
        server = self._process.pid
        os.kill(server, what)
        if what == signal.SIGSTOP:  # until it has taken effect the server may start another process
            until(lambda: _state(server) in ("T", "Z", ""), what="the server to stop")
        pids = [server, *_children(server)]
        for pid in pids[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, what)
        return pids

    def close(self) -> None:
        """End the server, whatever state it is in, and remove all it left. Nobody needs its data any more."""
        if self._process is not None and self.running:
            self.thaw()
            self._process.send_signal(signal.SIGQUIT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        self.kill()
        self._free_memory()
        self._reserved.close()
        self._guard.communicate()  # it finds no server, and removes the directory

    def _free_memory(self) -> None:
        """What a server that was killed could not free itself."""
        with suppress(FileNotFoundError, IndexError):
            _, number = (self.data / "postmaster.pid").read_text().splitlines()[6].split()
            subprocess.run(["ipcrm", "-m", number], stderr=subprocess.DEVNULL, check=False)

    def url(self, user: str = "guest", database: str = "test", password: str | None = None, **query: object) -> str:
        """``postgresql+psycopg://user:password@127.0.0.1:port/database?…``, percent-encoded."""
        secret = PASSWORDS.get(user, "") if password is None else password
        login = quote(user, safe="") + (f":{quote(secret, safe='')}" if secret else "")
        tail = f"?{urlencode(query)}" if query else ""
        return f"postgresql+psycopg://{login}@127.0.0.1:{self.port}/{quote(database, safe='')}{tail}"

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """A plain connection of the superuser's, autocommitting."""
        return self._connect(**options)

    def _connect(self, **options: Any) -> psycopg.Connection[Any]:
        where = {"host": "127.0.0.1", "port": self.port, "user": "root", "dbname": "test", "connect_timeout": 10}
        return psycopg.connect(**{"autocommit": True, "sslmode": "disable", **where, **options})

    def query(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        """The rows of one statement, run in database ``test`` by the superuser on a connection of its own."""
        found: list[tuple[Any, ...]] = self._run(sql, args, _rows)
        return found

    def execute(self, sql: str, *args: object) -> int:
        """Run one statement like `query` and return the number of rows it changed."""
        count: int = self._run(sql, args, lambda cursor: cursor.rowcount)
        return count

    def _run(self, sql: str, args: tuple[object, ...], result: Callable[[Any], Any]) -> Any:
        connection: Any = self._connect()
        try:
            return result(connection.execute(sql, args or None))
        finally:
            connection.close()

    def processes(self, user: str) -> list[int]:
        """The ids of all sessions of *user*, in the order they were opened."""
        sql = "SELECT pid FROM pg_stat_activity WHERE usename = %s ORDER BY backend_start"
        return [row[0] for row in self.query(sql, user)]

    def kill_connections(self, user: str) -> int:
        """Terminate all sessions of *user*, wait until they are gone, and return how many there were."""
        ids = set(self.processes(user))
        for number in ids:
            self.query("SELECT pg_terminate_backend(%s)", number)
        until(lambda: not ids.intersection(self.processes(user)), what=f"the sessions of {user} to end")
        return len(ids)


def end_others(rows: Callable[[str], list[tuple[Any, ...]]]) -> None:
    """End the sessions that earlier tests have left on a shared server, and wait until none is left but that of *rows*,
    which runs a statement: until then the server's counters go on. The superuser's sessions end by themselves."""
    others = (
        "SELECT CASE WHEN usename <> 'root' THEN pg_terminate_backend(pid) END FROM pg_stat_activity"
        " WHERE datname = 'test' AND pid <> pg_backend_pid()"
    )
    until(lambda: not rows(others), what="the sessions of earlier tests to end")


def _rows(cursor: Any) -> list[tuple[Any, ...]]:
    return list(cursor) if cursor.description else []


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in listed.read_text().split()] if listed.exists() else []


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _alive(pid: int) -> bool:
    return _state(pid) not in ("", "Z", "X")
