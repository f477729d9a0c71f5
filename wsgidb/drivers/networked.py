"""What all drivers with a network do alike: connecting to the first fit one of several hosts, and asking a server
whether it is still fit."""

from __future__ import annotations

import time
from abc import abstractmethod
from contextlib import suppress
from typing import Any, ClassVar, NamedTuple

from ..config.settings import Settings
from ..errors import ConfigError
from .base import Driver
from .hooks import HookError
from .hosts import ANY, BALANCE, PREFER_STANDBY, TARGET, NoHostError, Place, Server, UnfitServerError, chosen, places
from .memory import Memory
from .states import Clock

FAIR_SHARE = 0.9
"""A time-out after less than this share of the time that a host may be given is not counted as its failure."""

PROBE = 0.5
"""The most seconds that a connection waits for a host that failed, while there are others."""

OPEN, FOUND, IN_VAIN = "open", "found", "in vain"


class Doubt:
    """What a statement's error said about its server, where target_session_attrs asks for nothing better.

    It is open until the next connection was opened, which was asked. Either a fit server was found then, or there is
    none now, so that further connecting would be in vain."""

    def __init__(self, writes: bool) -> None:
        self.writes = writes
        """Whether the server takes writes is in doubt, and not only whether it is ready."""
        self.state = OPEN


class Plan(NamedTuple):
    """Where the next connection may lead to, and what is asked for."""

    places: list[Place]
    target: str
    shuffle: bool


class Networked(Driver):
    """A driver whose url may have several hosts."""

    takes_hosts = True
    can_ask = True
    usual_port: ClassVar[int]
    """The port of a host that has none in the url."""
    socket_argument: ClassVar[str | None] = None
    """The driver's argument for the path of a Unix socket, if it is not the host."""
    login_proves_ready: ClassVar[bool] = True
    """Whether a server that accepts a login is ready for statements."""

    def __init__(self, settings: Settings, clock: Clock = time.monotonic) -> None:
        super().__init__(settings, clock)
        self._memory = Memory(settings, clock)
        self._plan: Plan | None = None  # the same for all connections, unless connect_args is called for each
        self._target = ANY
        self._doubt: Doubt | None = None

    def _check_hosts(self, arguments: dict[str, Any]) -> None:
        """Raise ConfigError for mistakes in the hosts and in the options that choose among them."""
        if not callable(self.settings.connect_args):
            arguments = {**arguments, **self.settings.connect_args}
        places(arguments, self.usual_port, self.socket_argument)
        for name in (TARGET, BALANCE):
            if name in arguments:
                chosen(name, arguments[name])
        self._target = arguments.get(TARGET, ANY)

    @abstractmethod
    def _given(self, deadline: float) -> dict[str, Any]:
        """The driver's arguments for one more connection: those of the url and of connect_args."""

    @abstractmethod
    def _open(self, arguments: dict[str, Any], deadline: float) -> Any:
        """Open a connection to one host, which the arguments name: log in, set autocommit, run init_sql. Other
        connections get the same arguments, so they must not be changed. May block until the deadline. Any exception
        means that there is no connection and that nothing was left open."""

    @abstractmethod
    def _look(self, conn: Any, deadline: float, new: bool) -> Server:
        """What the server says about itself, by one round trip at most; about a `new` connection it may have told at
        the login. May block until the deadline. Raises the driver's error, also if the server is not ready."""

    # -- may block until the deadline

    def connect(self, deadline: float) -> Any:
        """A connection to the first host that gives a fit one. Each host gets its share of the time that is left, and
        one that failed lately comes last. Raises the only host's error, or NoHostError."""
        plan = self._plan
        if plan is None:
            plan = self._planned(self._given(deadline))
            if not callable(self.settings.connect_args):
                self._plan = plan
        self._target = plan.target
        doubt = self._doubt if self._doubt is not None and self._doubt.state is OPEN else None
        several = len(plan.places) > 1
        target, spare_target = self._wanted(several, doubt)
        asks = target != ANY or doubt is not None or (several and not self.login_proves_ready)
        if not (several or asks):
            return self._open(plan.places[0].arguments, deadline)
        conn, fit = self._connect(plan.places, deadline, target if asks else None, spare_target, plan.shuffle)
        if doubt is not None:
            doubt.state = FOUND if fit else IN_VAIN
        return conn

    def _planned(self, arguments: dict[str, Any]) -> Plan:
        """The hosts in the arguments, and the options that choose among them, which no driver gets. Raises ConfigError.
        """
        target = chosen(TARGET, arguments.pop(TARGET, ANY))
        shuffle = chosen(BALANCE, arguments.pop(BALANCE, "disable")) == "random"
        return Plan(places(arguments, self.usual_port, self.socket_argument), target, shuffle)

    def _wanted(self, several: bool, doubt: Doubt | None) -> tuple[str, bool]:
        """What to ask of a server, and whether to take another one where there is none like that."""
        if self._target == PREFER_STANDBY:
            return ("standby", True) if several else (ANY, False)
        if self._target == ANY and doubt is not None and doubt.writes:
            return "read-write", True
        return self._target, False

    def _connect(
        self, found: list[Place], deadline: float, target: str | None, second_choice: bool, shuffle: bool
    ) -> tuple[Any, bool]:
        """A connection, and whether its server is what was asked for. With `second_choice` it may be another one.
        Without a `target` nothing is asked."""
        memory, several = self._memory, len(found) > 1
        errors: dict[str, Exception] = {}
        spare = None
        try:
            order, start = memory.ordered(found, shuffle) if several else found, self.clock()
            for position, place in enumerate(order):
                began = self.clock()
                trouble = memory.trouble(place)
                again = trouble is not None and began < trouble.until
                if (began >= deadline and several) or (again and spare is not None):
                    break
                share = (deadline - began) / (len(order) - position)
                if spare is not None:
                    share = min(share, (deadline - start) / len(order))
                if trouble is not None and not again:
                    share = min(share, PROBE)
                    trouble.until = began + share  # for others it comes last until this attempt has ended
                until = began + share
                try:
                    conn = self._open(place.arguments, until)
                    reason = None if target is None else self._unfit(conn, until, target)
                    if reason is not None and not second_choice:
                        self._drop(conn)
                        host = "" if several else f"{place.name}: "
                        raise UnfitServerError(f"{host}{reason} (target_session_attrs={self._target})")
                except (ConfigError, HookError):  # no fault of the host
                    raise
                except Exception as error:
                    if not several:
                        raise
                    errors[place.name] = error
                    fair = share >= FAIR_SHARE * self._longest() / len(order)
                    if fair or trouble is not None or self.clock() < until:
                        memory.failed(place, f"{type(error).__name__}: {error}", again)
                    continue
                if several:
                    self.activity(conn).host = place.name
                    memory.answered(place)
                    memory.note_second_choice(place, reason is not None)
                if reason is None:
                    if several and not shuffle:
                        memory.note_use(place)
                    if spare is not None:
                        self._drop(spare)
                    return conn, True
                if spare is None:
                    spare = conn
                else:
                    self._drop(conn)
        except BaseException:
            if spare is not None:
                self.abandon(spare)
            raise
        if spare is not None:
            return spare, False
        raise _failure(found, errors)

    def _drop(self, conn: Any) -> None:
        """Close a good connection that is not wanted."""
        with suppress(Exception):
            self.close(conn)

    def _longest(self) -> float:
        return min(self.settings.connect_timeout, self.settings.acquire_timeout)

    def _unfit(self, conn: Any, deadline: float, target: str) -> str | None:
        """Why a new connection's server is not what is asked for, or None. An exception leaves nothing open."""
        try:
            return self._look(conn, deadline, new=True).unfit(target)
        except BaseException:
            with suppress(Exception):
                self.abandon(conn)
            raise

    def fitness(self, conn: Any, deadline: float) -> str | None:
        seen = self.activity(conn)
        classify, seen.classify = seen.classify, None  # an error of this question is no sign of a new failover
        errors = seen.errors
        try:
            server = self._look(conn, deadline, new=False)
        except Exception as error:
            if not self.is_not_ready(error):
                raise
            return f"{type(error).__name__}: {error}"
        finally:
            seen.classify, seen.errors = classify, errors
        target, doubt = self._target, self._doubt
        if target in (ANY, PREFER_STANDBY):
            in_doubt = doubt is not None and doubt.writes and doubt.state is not IN_VAIN
            target = "read-write" if in_doubt else ANY
        return server.unfit(target)

    # -- never block

    def unfit(self, error: BaseException) -> str | None:
        """To a server that is wanted read-only, a refused write says nothing about it."""
        wanted = self._target in ("read-only", "standby", PREFER_STANDBY)
        if wanted and self.is_read_only(error) and not self.is_not_ready(error):
            return None
        return super().unfit(error)

    def doubt(self, error: BaseException) -> None:
        before = self._doubt
        undecided = before is not None and before.state is OPEN and before.writes
        self._doubt = Doubt(writes=undecided or not self.is_not_ready(error))


def _failure(found: list[Place], errors: dict[str, Exception]) -> NoHostError:
    """The error for all hosts, in the order of the url, so that the same failures make the same text."""
    reasons = []
    for place in found:
        error = errors.get(place.name)
        reasons.append(f"{place.name}: " + (f"{type(error).__name__}: {error}" if error else "no time was left"))
    failure = NoHostError("; ".join(reasons))
    failure.exceptions = tuple(errors.values())
    return failure
