"""No password is in what error trackers and debug pages show of an error: the local variables of its frames."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from support.clock import Clock
from support.fakedb import FakeDB
from support.mariadb import PASSWORDS
from support.ports import bind
from wsgidb import Database, DatabaseUnavailable

SECRET = "geheim"
SCHEMES = ["mysql+pymysql", "mysql+mysqldb", "mysql+mysqlconnector", "postgresql+psycopg"]


def shown(error: BaseException) -> str:
    """What a debug page shows, except for the tests' own variables."""
    found = traceback.TracebackException.from_exception(error, capture_locals=True)
    lines: list[str] = []
    chain: traceback.TracebackException | None = found
    while chain is not None:
        for frame in chain.stack:
            if not frame.name.startswith("test_"):
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


@pytest.mark.server
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("broken", ["login", "init_sql"])
def test_a_refused_login_shows_no_password(request: pytest.FixtureRequest, scheme: str, broken: str) -> None:
    """Nor does a server that answers: with a refusal, or to statements after the login."""
    server = request.getfixturevalue("postgresql" if "postgresql" in scheme else "mariadb")
    _, _, rest = server.url("app", password=SECRET if broken == "login" else None).partition("://")
    password = SECRET if broken == "login" else PASSWORDS["app"]
    options: Any = {} if broken == "login" else {"init_sql": ["SELECT nonsense"]}
    with Database(f"{scheme}://{rest}", **options) as database:
        with pytest.raises(DatabaseUnavailable) as caught:
            database.lease()
        assert password not in shown(caught.value)


class Interrupted(BaseException):
    """As a worker's timer raises it."""


def test_an_interrupted_connect_shows_no_password() -> None:
    """It is no DatabaseUnavailable, but is shown all the same."""

    def creator(password: str) -> Any:
        raise Interrupted

    with Database(creator=creator, connect_args={"password": SECRET}) as database:
        with pytest.raises(Interrupted) as caught:
            database.lease()
        assert SECRET not in shown(caught.value)


def test_all_errors_behind_it_show_no_password() -> None:
    """Errors that a driver raises while it handles another one, or hides by another cause."""

    def inner(password: str) -> None:
        raise ValueError("inner")

    def creator(password: str) -> Any:
        try:
            inner(password)
        except ValueError:
            raise OSError("outer") from LookupError("another cause")

    with (
        Database(creator=creator, connect_args={"password": SECRET}) as database,
        pytest.raises(DatabaseUnavailable) as caught,
    ):
        database.lease()
    outer = caught.value.__cause__
    assert isinstance(outer, OSError)
    assert isinstance(outer.__context__, ValueError)
    assert SECRET not in shown(outer.__context__)


def test_the_applications_own_errors_keep_their_variables(fakedb: FakeDB) -> None:
    """An application that handles an error when it asks for a connection finds that error as it was."""

    def find(order: str) -> None:
        raise LookupError("no such order")

    def handle(database: Database) -> None:
        try:
            find("17")
        except LookupError:
            with pytest.raises(DatabaseUnavailable):
                database.lease()
            raise

    fakedb.fail("connect", FakeDB.OperationalError("down"))
    with Database(creator=fakedb.connect) as database:
        with pytest.raises(LookupError) as caught:
            handle(database)
        assert caught.traceback[-1].frame.f_locals == {"order": "17"}


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
