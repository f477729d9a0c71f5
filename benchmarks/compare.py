"""What a change costs: two trees of wsgidb side by side, in one process.

    git worktree add /tmp/before main
    python benchmarks/compare.py /tmp/before                             # with this tree, on servers that it starts
    python benchmarks/compare.py /tmp/before --only "psycopg .* pass"    # some of the operations

Both trees are imported as packages of other names, so that they share the interpreter, the processor, its clock rate
and its caches. They are measured in turn, in batches of less than a millisecond, by the CPU time of the thread. So the
median of the ratios of neighbouring batches is good to about 2 %, also on a machine that does other work; execute,
commit and rollback with a server are good to about 5 %, as they include the work of the kernel. Where a tree has the
option `telemetry`, it is off.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from operator import methodcaller
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any

from checkout import ENVIRON, app, start_response
from figures import table
from serving import database  # which makes the tests' `support` importable
from support.postgresql import PostgreSQL

HERE = Path(__file__).parents[1]
STRATEGIES, TRANSACTIONS = ("pooled", "thread-local"), ("manual", "autocommit", "request")
ROWS = 300
MANY = {
    "mysql": f"SELECT seq, 'a city' FROM seq_1_to_{ROWS}",
    "postgresql": f"SELECT n, 'a city' FROM generate_series(1, {ROWS}) n",
    "sqlite": f"WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {ROWS}) SELECT n, '' FROM s",
}
Batch = Callable[[], float]
"""Runs an operation some times. Returns the CPU seconds that one took."""


def batch(operation: Callable[[], object], times: int) -> Batch:
    repeat = range(times)

    def run() -> float:
        began = thread_time()
        for _ in repeat:
            operation()
        return (thread_time() - began) / times

    return run


class Tree:
    """One of the trees, with what is open for the present operation."""

    def __init__(self, package: str) -> None:
        self._package: Any = importlib.import_module(package)
        self.open = ExitStack()

    def database(self, url: str, **options: Any) -> Any:
        if url.startswith("mysql"):
            options["ssl_mode"] = "disabled"
        try:
            made = self._package.Database(url, pool_size=2, telemetry=False, **options)
        except self._package.ConfigError:  # a tree that has no such option
            made = self._package.Database(url, pool_size=2, **options)
        return self.open.enter_context(made)

    def connection(self, url: str, transaction: str) -> Any:
        return self.open.enter_context(self.database(url, transaction=transaction).connection())

    def a_pass(self, url: str, transaction: str, strategy: str) -> Batch:
        made = self.database(url, transaction=transaction, strategy=strategy)
        wrapped = self._package.DatabaseMiddleware(app, made)
        return batch(lambda: wrapped(ENVIRON.copy(), start_response), 50)

    def cursor(self, url: str, transaction: str) -> Batch:
        return batch(self.connection(url, transaction).cursor, 100)

    def cursor_and_close(self, url: str, transaction: str) -> Batch:
        conn = self.connection(url, transaction)
        return batch(lambda: conn.cursor().close(), 100)

    def execute(self, url: str, transaction: str) -> Batch:
        options = {"buffered": True} if "mysqlconnector" in url else {}  # its other cursors leave rows unread
        run = self.connection(url, transaction).cursor(**options).execute
        return batch(lambda: run("SELECT 1"), 5)

    def statement(self, url: str, transaction: str) -> Batch:
        conn = self.connection(url, transaction)

        def operation() -> None:
            cursor = conn.cursor()
            cursor.execute("SELECT 1")
            cursor.fetchall()
            cursor.close()

        return batch(operation, 5)

    def fetch(self, url: str, transaction: str) -> Batch:
        cursor = self.connection(url, transaction).cursor()
        sql = MANY[url.partition(":")[0].partition("+")[0]]

        def run() -> float:
            cursor.execute(sql)
            fetchone = cursor.fetchone
            began = thread_time()
            while fetchone() is not None:
                pass
            return (thread_time() - began) / ROWS

        return run

    def commit(self, url: str, transaction: str) -> Batch:
        conn = self.connection(url, transaction)
        return batch(lambda: conn.commit(), 10)

    def rollback(self, url: str, transaction: str) -> Batch:
        conn = self.connection(url, transaction)
        return batch(lambda: conn.rollback(), 10)


Prepare = Callable[[Tree], Batch]


def operations(urls: dict[str, str]) -> Iterator[tuple[str, Prepare]]:
    """The name of each operation, and what prepares it in a tree."""
    for driver, url in urls.items():
        for transaction in TRANSACTIONS:
            for strategy in STRATEGIES:
                yield f"{driver} {transaction} {strategy} pass", methodcaller("a_pass", url, transaction, strategy)
            for name, method in {
                "cursor()": "cursor",
                "cursor() and close()": "cursor_and_close",
                "execute": "execute",
                "cursor(), execute, fetchall, close()": "statement",
                "fetchone, a row": "fetch",
                "commit() of nothing": "commit",
                "rollback() of nothing": "rollback",
            }.items():
                yield f"{driver} {transaction} {name}", methodcaller(method, url, transaction)


def compare(before: Tree, after: Tree, prepare: Prepare, rounds: int) -> list[float]:
    """The fastest batch of each tree, in µs, and the median of the ratios of batches that are neighbours."""
    with before.open, after.open:
        one, other = prepare(before), prepare(after)
        pairs = [(one(), other()) for _ in range(20)]  # CPython specializes what runs often
        gc.collect()
        gc.disable()
        try:
            for number in range(rounds):
                first, second = (one, other) if number % 2 else (other, one)
                times = first(), second()
                pairs.append(times if number % 2 else times[::-1])
        finally:
            gc.enable()
    return [1e6 * min(mine) for mine in zip(*pairs, strict=True)] + [median(new / old for old, new in pairs[20:])]


@contextmanager
def trees(before: Path, after: Path) -> Iterator[tuple[Tree, Tree]]:
    with tempfile.TemporaryDirectory() as folder:
        for name, tree in (("before", before), ("after", after)):
            (Path(folder) / f"wsgidb_{name}").symlink_to(tree.resolve() / "wsgidb")
        sys.path.insert(0, folder)
        yield Tree("wsgidb_before"), Tree("wsgidb_after")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("before", type=Path, help="the tree to compare with")
    parser.add_argument("after", type=Path, nargs="?", default=HERE, help="this tree, unless another one is given")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--only", default="", help="a regular expression for the names of operations")
    given = parser.parse_args()
    rows = []
    with database() as mariadb, PostgreSQL() as postgresql, tempfile.TemporaryDirectory() as folder:
        place = mariadb.url().partition("://")[2]
        urls = {name: f"mysql+{name}://{place}" for name in ("pymysql", "mysqldb", "mysqlconnector")}
        urls |= {"psycopg": postgresql.url(), "sqlite": f"sqlite:///{folder}/compared.db"}
        with trees(given.before, given.after) as (before, after):
            for name, prepare in operations(urls):
                if re.search(given.only, name):
                    old, new, ratio = compare(before, after, prepare, given.rounds)
                    rows.append([name, f"{old:.2f}", f"{new:.2f}", f"{ratio:.3f}"])
    print(table(["operation", "before, µs", "after, µs", "median ratio"], rows))


if __name__ == "__main__":
    main()
