"""No password is in what error trackers and debug pages show of an error: the local variables of its frames."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from support.clock import Clock
from support.fakedb import FakeDB
from support.ports import bind
from wsgidb import Database, DatabaseUnavailable

SECRET = "geheim"
SCHEMES = ["mysql+pymysql", "mysql+mysqldb", "mysql+mysqlconnector", "postgresql+psycopg"]


def shown(error: BaseException) -> str:
    """What a debug page shows, but for this file's own frames."""
    found = traceback.TracebackException.from_exception(error, capture_locals=True)
    lines: list[str] = []
    chain: traceback.TracebackException | None = found
    while chain is not None:
        for frame in chain.stack:
            if frame.filename != __file__:
                lines += (frame.locals or {}).values()
        lines += chain.format_exception_only()
        chain = chain.__cause__ or chain.__context__
    return "\n".join(lines)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("where", ["url", "connect_args", "callable"])
def test_a_failed_connect_shows_no_password(scheme: str, where: str) -> None:
    """Wherever the password comes from; and whatever frames the driver has left."""
    with bind() as reserved:
        address = f"127.0.0.1:{reserved.getsockname()[1]}/shop"
        options: dict[str, Any] = {}
        if where == "url":
            url = f"{scheme}://app:{SECRET}@{address}"
        else:
            url = f"{scheme}://app@{address}"
            given = {"password": SECRET}
            options["connect_args"] = given if where == "connect_args" else lambda: given
        with Database(url, **options) as database:
            with pytest.raises(DatabaseUnavailable) as caught:
                database.lease()
            assert SECRET not in shown(caught.value)


def test_a_failing_creator_shows_no_password(fakedb: FakeDB) -> None:
    """Its own frames are emptied, too."""

    def creator(password: str) -> Any:
        secret = password
        raise FakeDB.OperationalError(f"refused, with {len(secret)} letters")

    with Database(creator=creator, connect_args={"password": SECRET}) as database:
        with pytest.raises(DatabaseUnavailable) as caught:
            database.lease()
        assert SECRET not in shown(caught.value)


def test_a_slow_callable_is_not_the_servers_fault(fakedb: FakeDB, clock: Clock) -> None:
    """C5: nothing can interrupt it, but the error names it, and no back-off keeps the next request from connecting."""
    slow = True

    def arguments() -> dict[str, Any]:
        if slow:
            clock.advance(4)
        return {}

    with Database(creator=fakedb.connect, connect_args=arguments, acquire_timeout=1, clock=clock) as database:
        with pytest.raises(DatabaseUnavailable, match=r"^cannot connect: the callable of connect_args took 4\.0 s"):
            database.lease()
        assert fakedb.opened == 0
        slow = False
        with database.connection():
            assert fakedb.opened == 1
