"""Where things live: the order of the modules, and what each of them alone may know."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

import wsgidb

PACKAGE = Path(wsgidb.__file__).parent

# Each module imports only modules above it. A new module is given its place here.
ORDER = [
    *("errors", "dbapi", "forks"),
    *("config.values", "config.url", "config.databases", "config.option"),
    *("config.connection_options", "config.pool_options", "config.middleware_options", "config.options"),
    *("config.hints", "config.settings", "config.optional", "config"),
    *("strategies.base", "strategies.per_request", "strategies.per_thread", "strategies.thread_local"),
    *("strategies.overload", "strategies.queued", "strategies.pooled"),
    *("strategies.library", "strategies.dbutils", "strategies.sqlalchemy", "strategies.checked", "strategies"),
    *("drivers.outcome", "drivers.activity", "drivers.tracing", "drivers.cursors"),
    *("drivers.states", "drivers.errors", "drivers.hooks", "drivers.base"),
    *("drivers.sockets", "drivers.tls"),
    *("drivers.hosts", "drivers.memory", "drivers.networked", "drivers.generic", "drivers.sqlalchemy_engine"),
    *("drivers.sqlite.statements", "drivers.sqlite.handed_out", "drivers.sqlite.hooks", "drivers.sqlite.transactions"),
    *("drivers.sqlite.cursor", "drivers.sqlite.connection", "drivers.sqlite.driver"),
    *("drivers.mysql.charsets", "drivers.mysql.keeping", "drivers.mysql.observed", "drivers.mysql.procedures"),
    *("drivers.mysql.sessions", "drivers.mysql.positions", "drivers.mysql.arguments", "drivers.mysql.errors"),
    *("drivers.mysql.driver", "drivers.mysql"),
    *("drivers.pymysql.wire", "drivers.pymysql.rows", "drivers.pymysql.session", "drivers.pymysql.commands"),
    *("drivers.pymysql.connection", "drivers.pymysql.tracked", "drivers.pymysql.driver"),
    *("drivers.mysqlclient.record", "drivers.mysqlclient.wire", "drivers.mysqlclient.result"),
    *("drivers.mysqlclient.replies", "drivers.mysqlclient.statements", "drivers.mysqlclient.commands"),
    *("drivers.mysqlclient.connection", "drivers.mysqlclient.driver"),
    *("drivers.mysqlconnector.wire", "drivers.mysqlconnector.replies", "drivers.mysqlconnector.commands"),
    *("drivers.mysqlconnector.session", "drivers.mysqlconnector.connection", "drivers.mysqlconnector.handed_out"),
    "drivers.mysqlconnector.driver",
    *("drivers.psycopg.wire", "drivers.psycopg.session", "drivers.psycopg.statements", "drivers.psycopg.options"),
    "drivers.psycopg.errors",
    *("drivers.psycopg.pooler", "drivers.psycopg.connection", "drivers.psycopg.driver"),
    *("drivers.sqlite", "drivers.pymysql", "drivers.mysqlclient", "drivers.mysqlconnector", "drivers.psycopg"),
    *("drivers", "drivers.sandbox"),
    *("pool.backoff", "pool.durations", "pool.exhausted", "pool.names", "pool.process", "pool.connector"),
    *("pool.validation", "pool.cleaner", "pool.probe", "pool.renewal"),
    *("pool.releasing", "pool.engine", "pool.tokens", "pool.sharing", "pool.leaks", "pool.stats", "pool.snapshot"),
    "pool",
    *("lease.state", "lease.proxy", "lease.classes", "lease.hooks", "lease"),
    *("observe.instruments", "observe.total", "observe.recent", "observe.rows", "observe.board", "observe.drains"),
    "observe.sizes",
    *("observe.publish", "observe.opentelemetry", "observe.telemetry", "observe"),
    *("keywords", "database", "observe.sources", "observe.server", "prometheus"),
    *("status.advice", "status.view", "status.template", "status.app", "status"),
    *("scale.positions", "scale.writes", "scale.replica", "scale.replicas", "scale.second", "scale"),
    *("wsgi.exchange", "wsgi.requests", "wsgi.answers", "wsgi.response", "wsgi.timing", "wsgi.positions"),
    *("wsgi.reading", "wsgi.replay", "wsgi.retry", "wsgi.replicas"),
    *("wsgi.middleware", "wsgi"),
    "wsgidb",
    *("health", "testing", "pytest_plugin", "paste"),
    *("cli.log", "cli.boards", "cli.numbers", "cli.report", "cli.erlang", "cli.load", "cli.sizing"),
    *("cli.options", "cli.check", "cli.status", "cli.drain", "cli.advise", "cli.commands", "cli", "__main__"),
]

# An optional third-party package is imported by one folder or module, and by no other.
THIRD_PARTY = {
    "pymysql": {f"drivers.pymysql.{part}" for part in ("driver", "wire", "rows", "session", "commands")},
    "MySQLdb": {
        f"drivers.mysqlclient.{part}" for part in ("driver", "wire", "result", "replies", "commands", "connection")
    },
    "mysql": {f"drivers.mysqlconnector.{part}" for part in ("driver", "wire", "replies", "session", "connection")},
    "dbutils": {"strategies.dbutils"},
    "sqlalchemy": {"strategies.sqlalchemy"},
    "psycopg": {
        f"drivers.psycopg.{part}"
        for part in ("driver", "options", "errors", "wire", "session", "statements", "pooler", "connection")
    },
    "opentelemetry": {"observe.opentelemetry"},
    "prometheus_client": {"prometheus"},
    "jinja2": {"status.template"},
    "pytest": {"pytest_plugin"},
    "typing_extensions": {"keywords"},  # for type checkers only; it is never imported at run time
}
# What `import wsgidb` takes from the standard library; a module that is loaded when first needed may take more.
AT_START = {
    *("__future__", "abc", "bisect", "collections", "collections.abc", "contextlib", "dataclasses", "difflib", "enum"),
    *("functools", "gc", "importlib", "importlib.util", "io", "logging", "math", "operator", "os", "random", "re"),
    *("sys", "threading", "time", "traceback", "types", "typing", "urllib.parse", "weakref"),
}
LOCKS = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier"}


def module_name(path: Path) -> str:
    """A file's name in `ORDER`."""
    parts = [*path.relative_to(PACKAGE).with_suffix("").parts]
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts) or "wsgidb"


TREES = {module_name(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
PACKAGES = {module_name(path.parent / "__init__.py") for path in PACKAGE.rglob("__init__.py")}


def imports(name: str, at_once: bool = False) -> Iterator[str]:
    """All modules that a module imports, `at_once` or also when first needed, by their full names."""
    full = name if name == "wsgidb" else f"wsgidb.{name}"
    package = (full if name in PACKAGES else full.rpartition(".")[0]).split(".")
    for node in TREES[name].body if at_once else ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield inner if inner.removeprefix("wsgidb.") in TREES else module


def users(*names: str) -> set[str]:
    """The modules whose code names one of these: as a name, an attribute, or an argument."""

    def named(node: ast.AST) -> str | None:
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.Attribute):
            return node.attr
        if isinstance(node, ast.alias):
            return node.name
        return node.arg if isinstance(node, ast.arg) else None

    return {name for name, tree in TREES.items() if any(named(node) in names for node in ast.walk(tree))}


def test_every_module_has_its_place() -> None:
    """Layout: a new module is named in ORDER, and no name there is left over."""
    assert sorted(TREES) == sorted(ORDER)


@pytest.mark.parametrize("name", sorted(TREES))
def test_a_module_imports_only_modules_above_it(name: str) -> None:
    """Layout: so there are no circles, and what stands above can be read without what stands below."""
    inner = {module.removeprefix("wsgidb.") for module in imports(name) if module.partition(".")[0] == "wsgidb"}
    assert inner <= set(ORDER[: ORDER.index(name)])


def test_a_third_party_package_is_imported_in_one_module() -> None:
    """Layout: its absence can then be answered in one place."""
    found: dict[str, set[str]] = {}
    for name in TREES:
        for module in imports(name):
            top = module.partition(".")[0]
            if top != "wsgidb" and top not in sys.stdlib_module_names:
                found.setdefault(top, set()).add(name)
    assert found == THIRD_PARTY


def test_error_codes_of_a_server_live_with_its_driver() -> None:
    """Layout: no number that could be one is written anywhere else."""
    numbers = {
        (name, node.value)
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and type(node.value) is int and 1000 <= node.value < 5000
    }
    assert {name.partition(".")[0] for name, _ in numbers} == {"drivers"}


def test_locks_live_where_state_is_shared() -> None:
    """Layout, S1: in the stores and the state of a process, and a first use has one of its request's own. psycopg's
    connection has a lock of psycopg's, which is replaced where a lease has left it locked."""
    assert users(*LOCKS) == {
        *("strategies.queued", "strategies.thread_local", "strategies.dbutils", "strategies.checked"),
        *("pool.process", "pool.names", "pool.leaks", "pool.tokens", "lease.state", "drivers.psycopg.connection"),
        *("observe.board", "observe.drains", "observe.opentelemetry", "observe.sources", "status.app"),
    }


def test_wsgidb_starts_no_threads() -> None:
    """S8: upkeep happens at acquire and release."""
    starters = ("Thread", "Timer", "ThreadPoolExecutor", "start_new_thread", "start_new", "spawn")
    assert users(*starters) == set()


def test_the_time_of_day_is_read_nowhere() -> None:
    """Layout: times are monotonic seconds, so that nothing happens when the clock is set."""
    read = {
        node.attr
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "time"
    }
    assert read == {"monotonic", "sleep"}
    imported = {module for name in TREES for module in imports(name)}
    assert {module for module in imported if module.partition(".")[0] in ("time", "datetime")} == {"time"}


def test_the_environment_is_read_in_one_module() -> None:
    """Layout: an option's name in the environment comes from the table."""
    assert users("environb", "getenv", "putenv") == set()
    readers = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "environ" and getattr(node.value, "id", "") == "os"
    }
    assert readers == {"config.settings"}


def test_start_response_is_known_to_the_wsgi_side_only() -> None:
    """Layout: the rest could serve another protocol."""
    allowed = {"wsgi.middleware", "wsgi.exchange", "wsgi.answers", "wsgi.replicas", "health", "status.app"}
    assert {"wsgi.middleware"} <= users("start_response") <= allowed


def test_importing_the_package_imports_no_driver_and_nothing_of_others() -> None:
    """Layout: the core needs nothing but the driver that the url names, and of the standard library `AT_START`."""
    code = (
        "import sys; before = set(sys.modules); import wsgidb; new = set(sys.modules) - before\n"
        "print(sorted(name for name in new if name.partition('.')[0] not in sys.stdlib_module_names))\n"
        "print(sorted(new & {'sqlite3', 'ssl', 'socket', 'ctypes', 'asyncio'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=PACKAGE.parent
    )
    loaded, heavy = (set(ast.literal_eval(line)) for line in done.stdout.splitlines())
    assert {name for name in loaded if name.partition(".")[0] != "wsgidb"} == set()
    parts = ("activity", "base", "cursors", "errors", "hooks", "outcome", "states", "tracing")
    loaded_drivers = {name for name in loaded if name.startswith("wsgidb.drivers.")}
    assert loaded_drivers <= {f"wsgidb.drivers.{name}" for name in parts}
    assert heavy == set()
    taken = {module for name in loaded for module in imports(name.removeprefix("wsgidb."), at_once=True)}
    assert {module for module in taken if not module.startswith("wsgidb")} == AT_START


def test_types_are_shipped() -> None:
    """The installed package, which under tox is the wheel, says that it is typed."""
    assert files("wsgidb").joinpath("py.typed").is_file()
