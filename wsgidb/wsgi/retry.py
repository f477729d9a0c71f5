"""The option retry: a request is repeated whose transaction is known to be undone.

    serve ─ an attempt: a lease with an Outcome ─ the application ─ commit or rollback ─ is it sent?
      └──── no, and nothing remains of it: environ as it was, a pause, the next attempt

The record of the lease decides, not the exception: frameworks turn that into a page.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from ..config.settings import Settings
from ..database import Database
from ..drivers.outcome import Outcome
from ..errors import ConfigError, TransactionLost
from ..lease.proxy import ConnectionProxy, settle
from ..lease.state import first_use_of, has_acquired, slot_of
from ..strategies import Request, Slot, named
from .exchange import CommitFailed, Environ, HeldExchange, StartResponse, Veto
from .replay import Replay
from .response import Stream
from .timing import TimedExchange

log = logging.getLogger("wsgidb")

ATTEMPT = "wsgidb.attempt"
"""The key of environ with the number of the attempt, from 1 on."""
REPEATABLE = ("GET", "HEAD", "PUT", "DELETE")
"""The methods whose requests may be repeated, unless retry_if decides."""
PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""How many seconds pass before the second attempt, at most; before each further one it is twice as long."""

Serve = Callable[[Environ, Any, "Attempt | None"], Any]


class Repeat(Exception):
    """Nothing remains of an attempt, and nothing of it was sent: it is to be repeated."""


class Attempt:
    """One attempt at a request: its lease, and whether it may be repeated."""

    def __init__(
        self, lease: Callable[[Request], ConnectionProxy], replay: Replay | None, has_time: Callable[[], bool]
    ) -> None:
        self._lease = lease
        self._has_time = has_time
        self._replay = replay
        self._conn: ConnectionProxy | None = None
        self._exchange: RepeatableExchange | None = None
        self.request: Request | None = None
        self.outcome: Outcome | None = None
        self.reason: str | None = None
        """Why it is to be repeated, once that is decided."""
        self.over = False
        """Whether it must not be repeated any more: it was committed, or may have been, or is being sent."""

    # -- what the middleware makes of it

    def lease(self, request: Request) -> ConnectionProxy:
        """Make the request's lease, with a record of its outcome. Blocks and raises as that does."""
        self.request = request
        conn = self._conn = self._lease(request)
        first = first_use_of(conn)
        if first is not None:
            first.acquire = self._acquire
        else:
            self._record(conn, slot_of(conn))
        return conn

    def _acquire(self, request: Request | None) -> Slot:
        assert self._conn is not None, "the lease was made"
        first = first_use_of(self._conn)
        assert first is not None, "this is its first use"
        slot = first.engine.acquire(request)
        self._record(self._conn, slot)
        return slot

    def _record(self, conn: ConnectionProxy, slot: Slot | None) -> None:
        assert slot is not None, "the lease has just begun"
        self.outcome = slot.activity.outcome = Outcome(slot.activity, conn, slot.engine.driver)

    def exchange(
        self, held: type[HeldExchange], environ: Environ, conn: ConnectionProxy, server: Any, veto: Veto | None
    ) -> HeldExchange:
        """Make the object that the application gets as start_response, where `held` is its class without retry."""
        made = REPEATABLE_CLASSES[held](environ, conn, server, veto)
        made.attempt = self
        self._exchange = made
        return made

    # -- its end

    def connection_is_lost(self) -> bool:
        """Whether the connection is found to be lost just before the COMMIT, which then need not be sent in vain: what
        becomes of one that gets no reply, only the server knows. Never blocks."""
        slot = None if self._conn is None else slot_of(self._conn)
        if slot is None or self.outcome is None or not slot.activity.touched or not slot.check(0):
            return False
        driver = slot.engine.driver
        if isinstance(driver.inspect(slot.raw), str) or not driver.readable_is_dead(slot.raw):
            return False  # it has rows that were not read, or something else to tell
        self.outcome.lose("the connection was lost before COMMIT was sent")
        return True

    def decide(self, environ: Environ, commit_error: BaseException | None) -> None:
        """Decide once and for all, when the lease is settled without success. Raises Repeat."""
        self.reason = self._undone(environ, commit_error)
        self.over = self.reason is None
        if self.reason is not None:
            raise Repeat

    def failed(self, environ: Environ) -> bool:
        """Whether it may be repeated after an exception has ended it. Never blocks."""
        if self.reason is None and not self.over:
            self.reason = self._undone(environ, None)
        return self.reason is not None

    def has_failed(self, environ: Environ) -> bool:
        """Whether it is about to send a stream that is an error page. If nothing remains of the transaction, there is
        no need to wait for its end. Never blocks."""
        exchange = self._exchange
        return exchange is not None and (exchange.status or "").startswith("5") and self.failed(environ)

    def _undone(self, environ: Environ, commit_error: BaseException | None) -> str | None:
        """Why the request can be repeated without any harm, as far as is known; None if it cannot."""
        outcome = self.outcome
        if self.over or outcome is None or outcome.committed:
            return None
        if self._exchange is not None and self._exchange.sent:
            return None
        if self._replay is not None and not self._replay.complete:
            return None
        for other in environ.values():  # what was done with another database is not undone
            if isinstance(other, ConnectionProxy) and other is not self._conn and has_acquired(other):
                return None
        if commit_error is None or isinstance(commit_error, TransactionLost):  # no COMMIT was sent
            reason = outcome.reason
        else:
            reason = repr(commit_error) if outcome.undid_commit(commit_error) else None
        return reason if reason is not None and self._has_time() else None


class RepeatableExchange(HeldExchange):
    """A response of an attempt that may be repeated as long as nothing of it was sent."""

    __slots__ = ("attempt",)
    attempt: Attempt

    def _settle(self) -> bool:
        try:
            success = super()._settle()
        except CommitFailed as failed:
            self.attempt.decide(self.environ, failed.__cause__)
            raise
        if success:
            self.attempt.over = True
        else:
            self.attempt.decide(self.environ, None)
        return success

    def _end(self, success: bool) -> None:
        if success and self.attempt.connection_is_lost():
            settle(self.conn, success=False)
            raise TransactionLost("cannot commit: the connection was lost")
        super()._end(success)


class TimedRepeatableExchange(TimedExchange, RepeatableExchange):
    """The same, with the header Server-Timing, which tells of the last attempt."""

    __slots__ = ()


REPEATABLE_CLASSES = {HeldExchange: RepeatableExchange, TimedExchange: TimedRepeatableExchange}


class Retry:
    """Serves the requests of a middleware, and repeats those that it may."""

    def __init__(self, settings: Settings, database: Database, clock: Callable[[], float]) -> None:
        """Never blocks. Raises ConfigError if the driver cannot tell what becomes of a transaction."""
        if not database.tells_outcome:
            raise ConfigError(
                "retry: needs one of wsgidb's own drivers, as a creator's cannot tell what is undone",
                entry="config-contradiction",
            )
        self._settings = settings
        self._database = database
        self._clock = clock
        self._may_repeat = settings.retry_if or _is_repeatable

    def serve(self, serve: Serve, environ: Environ, server: StartResponse) -> Any:
        """Serve a request by one attempt or several. Each of them is what `serve` does with environ and the server's
        start_response. Raises what the last one raises."""
        environ[ATTEMPT] = 1
        if not self._may_repeat(environ):
            return serve(environ, server, None)
        until = self._clock() + self._settings.acquire_timeout
        replay = None
        if "wsgi.input" in environ:
            replay = environ["wsgi.input"] = Replay(environ["wsgi.input"])
        before = dict(environ)
        number = 0
        while True:
            number += 1
            environ[ATTEMPT] = number
            attempt = Attempt(self._lease(number, until), replay, partial(self._has_time, number, until))
            attempt.over = number > self._settings.retry
            try:
                body = serve(environ, server, attempt)
                if not (isinstance(body, Stream) and attempt.has_failed(environ)):
                    attempt.over = True  # the server begins to send it
                    return body
                body.close()
            except Repeat:
                pass
            except Exception:
                if not attempt.failed(environ):
                    raise
            environ.clear()
            environ.update(before)
            if replay is not None:
                replay.rewind()
            of = named(attempt.request)
            log.info("%s: attempt %d is undone, and the request is repeated: %s", of, number, attempt.reason)
            self._database.count_retry()
            time.sleep(random.uniform(0.5, 1) * _longest_pause(number))  # the attempt's connection is given back

    def _lease(self, number: int, until: float) -> Callable[[Request], ConnectionProxy]:
        if self._settings.acquire == "first-use":
            return self._database.lease_on_first_use
        return self._database.lease if number == 1 else partial(self._database.lease, deadline=until)

    def _has_time(self, number: int, until: float) -> bool:
        """Whether another attempt can begin within acquire_timeout of the first one."""
        return self._clock() + _longest_pause(number) < until


def _longest_pause(number: int) -> float:
    """How many seconds may pass after this attempt."""
    return min(PAUSE * 2.0 ** (number - 1), LONGEST_PAUSE)


def _is_repeatable(environ: Environ) -> bool:
    return environ.get("REQUEST_METHOD") in REPEATABLE
