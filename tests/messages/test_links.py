"""The link at the end of each error of wsgidb: where it is shown, and where it is not."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback

import pytest

from strategies.kit import Worker
from support.clock import Clock
from support.fakedb import FakeDB
from support.wsgi import Call
from wsgidb import ConfigError, Database, DatabaseMiddleware, DatabaseUnavailable, PoolOverloaded, PoolTimeout
from wsgidb.cli.commands import main
from wsgidb.errors import SITE, WsgiDBError, plain
from wsgidb.health import health

PAGE = "https://wsgidb.readthedocs.io/page/troubleshooting.html"
DOWN = FakeDB.OperationalError("down")


def test_an_error_without_an_entry_of_its_own() -> None:
    """The link is that of its class; the arguments and the repr have none."""
    error = PoolTimeout("too late")
    assert str(error) == f"too late ({PAGE}#pool-timeout)"
    assert (error.text, error.args, repr(error)) == ("too late", ("too late",), "PoolTimeout('too late')")
    assert error.link == f"{PAGE}#pool-timeout"


def test_an_error_of_somebody_else() -> None:
    """A class of one's own has the entry of its base; plain() leaves other errors as they are."""

    class Ours(WsgiDBError):
        pass

    assert str(Ours("no")) == f"no ({PAGE}#errors)"
    assert (plain(Ours("no")), plain(ValueError("no"))) == ("no", "no")


@pytest.mark.parametrize("error", [ConfigError("no", entry="config-tls"), PoolOverloaded("no"), WsgiDBError()])
def test_copies_are_the_same(error: WsgiDBError) -> None:
    """An error that has come from another process, as in a queue of tasks, says the same."""
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert (type(other), str(other), other.args) == (type(error), str(error), error.args)


def test_the_last_line_of_a_traceback() -> None:
    """A terminal makes a link of it."""
    with pytest.raises(ConfigError) as caught:
        Database("sqlite:///shop.db", pool_size="many")  # type: ignore[arg-type]
    last = traceback.format_exception(caught.value)[-1]
    assert last.startswith("wsgidb.errors.ConfigError: pool_size: takes a whole number")
    assert last.endswith(f", got 'many' ({PAGE}#config-options)\n")


def test_a_value_that_cannot_be_read_keeps_its_entry() -> None:
    """The parser of the url knows better than that of the options which entry it is."""
    with pytest.raises(ConfigError) as caught:
        Database("mysql://127.0.0.1:port/shop")
    assert caught.value.link == f"{PAGE}#config-url"


def test_the_command_line_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever has mistyped an option can look it up."""
    assert main(["check", "sqlite:///shop.db", "--option", "pool_sice=5"]) == 2
    assert capsys.readouterr().err.endswith(f"({PAGE}#config-options)\n")


def test_one_link_is_enough(fakedb: FakeDB, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """An error that quotes another one has one link, at its end; the log and the statistics have none."""
    with Database(creator=fakedb.connect, clock=clock, pool_size=1, acquire_timeout=0.01) as database:
        with database.connection():
            late = Worker(database.lease)
            with pytest.raises(PoolTimeout) as caught:
                late.outcome()
            assert str(caught.value).count(SITE) == 1
        database.drain(over=0)
        fakedb.fail("connect", ConfigError("no", entry="config-tls"))
        with pytest.raises(DatabaseUnavailable) as refused:
            database.check()
        assert str(refused.value) == f"cannot connect: ConfigError: no ({PAGE}#config-tls)"
        logged = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        events = [event.text for event in database.stats().events]
    assert len(logged) > 1
    assert len(events) > 1
    assert [text for text in logged + events if SITE in text] == []


def test_a_client_does_not_see_it(fakedb: FakeDB, clock: Clock) -> None:
    """Neither a response of wsgidb nor a health check has a link, or tells what is wrong."""
    with Database(creator=fakedb.connect, clock=clock) as database:
        fakedb.fail("connect", DOWN)
        answer = Call(DatabaseMiddleware(lambda environ, start_response: [], database))
        assert (answer.status, answer.body) == ("503 Service Unavailable", [b"Service Unavailable\n"])
        assert health(database).reason == "not connecting again yet; last failure to connect: OperationalError"
