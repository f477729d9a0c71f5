"""What the drivers of MySQL and MariaDB have in common: their options, and what is done with a connection."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

from ...config import values
from ...config.hints import refuse_owned, unknown_to_driver
from ...config.settings import Settings
from ...errors import ConfigError, TransactionLost
from ..activity import Activity
from ..base import SERVER_OPTIONS, Clock, Position, State
from ..hosts import CHOICES, Server, chosen, in_arguments
from ..networked import Networked
from . import positions
from .charsets import character_set
from .observed import DISCONNECTS, NOT_READY, READ_ONLY, READ_ONLY_TRANSACTION, UNKNOWN, VITESS, ends_transaction

IN_URL = frozenset(("user", "password", "passwd", "host", "port", "database", "db"))
OWNED = {
    "autocommit": "transaction",
    "connect_timeout": "connect_timeout",
    "read_timeout": "read_timeout",
    "write_timeout": "write_timeout",
    "ssl": "ssl_mode",
    "ssl_mode": "ssl_mode",
    "ssl_ca": "ssl_ca",
    "ssl_cert": "ssl_cert",
    "ssl_key": "ssl_key",
    "ssl_disabled": "ssl_mode",
    "ssl_key_password": "ssl_key",
    "ssl_verify_cert": "ssl_mode",
    "ssl_verify_identity": "ssl_mode",
}
"""Options that drivers have, and that wsgidb has one of its own for."""
ALIASES = {"db": "database", "passwd": "password"}
"""Older names of options, which some drivers take."""

QUESTION = "SELECT @@read_only, @@innodb_read_only FROM (SELECT 1) AS one"
"""What a server is asked about itself. The second variable is that of a reader of Aurora. A Galera node that is not
ready answers pings and statements without a table, also those on information_schema; this one is refused, although it
reads nothing, opens no transaction and takes no privilege."""


class MySQLDriver(Networked):
    """A driver whose connections are `Observed`."""

    usual_port = 3306
    socket_argument = "unix_socket"
    login_proves_ready = False
    clears_sessions = True
    tells_outcome = True
    limit_query = "SELECT @@max_connections"
    replicates = True
    read_only = positions.READ_ONLY
    options: ClassVar[frozenset[str]] = SERVER_OPTIONS
    owned: ClassVar[dict[str, str]] = OWNED
    parameters: ClassVar[Mapping[str, Callable[[str], Any] | None]]
    """What the driver can be given, by name, and how a url's text becomes it, if a text can."""
    disconnects: ClassVar[frozenset[Any]] = DISCONNECTS
    error: ClassVar[type[Exception]]
    """The class of the driver's own errors."""

    def __init__(self, settings: Settings, clock: Clock = time.monotonic) -> None:
        super().__init__(settings, clock)
        url = settings.url
        assert url is not None, "made for urls only"
        if not url.host and "unix_socket" not in url.query:
            raise ConfigError(f"url: {url} names no host (and its query no unix_socket)")
        given = {
            "user": url.user,
            "password": url.password,
            **in_arguments(url),
            "database": url.name or None,
            **{name: self._converted(name, text) for name, text in url.query.items()},
        }
        self._arguments: dict[str, Any] = given
        if not callable(settings.connect_args):
            self._checked(settings.connect_args)
        self._check_hosts(given)
        self._whole_session = settings.reset == "session"
        self._tls_required = settings.ssl_mode not in ("disabled", "preferred")

    def _tls_off(self, arguments: Mapping[str, Any]) -> bool:
        """Whether a connection with these arguments does without TLS: nobody listens in on a Unix socket."""
        mode = self.settings.ssl_mode
        return mode == "disabled" or (mode == "preferred" and bool(arguments.get("unix_socket")))

    def _converted(self, name: str, text: str) -> Any:
        """A url query's value as the driver wants it."""
        if name in IN_URL:
            raise ConfigError(f"{name}: belongs before the url's question mark")
        self._check_name(name)
        if name in CHOICES:
            return chosen(name, text)
        convert = self.parameters[name]
        if convert is None:
            raise ConfigError(f"{name}: is no text; give it by connect_args")
        try:
            return character_set(text) if name == "charset" else convert(text)
        except ConfigError:
            raise
        except ValueError:
            takes = "bool" if convert is values.boolean else getattr(convert, "__name__", "text")
            raise ConfigError(f"{name}: takes {takes}, got {text!r}") from None

    def _check_name(self, name: str) -> None:
        refuse_owned(name, self.owned)
        known = {*self.parameters, *IN_URL, *CHOICES}
        if name not in known:
            raise unknown_to_driver(name, known, self.name)

    def _checked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        for name, value in arguments.items():
            self._check_name(name)
            if name == "charset" and isinstance(value, str):
                character_set(value)
        return arguments

    def _given(self, deadline: float) -> dict[str, Any]:
        """The driver's arguments for one more connection."""
        checked = self._checked(self.connect_args(deadline))
        return {**self._arguments, **{ALIASES.get(name, name): value for name, value in checked.items()}}

    @abstractmethod
    def operational_error(self, code: int, text: str) -> Exception:
        """An error as the driver raises it."""

    # -- may block

    def _run_init_sql(self, conn: Any) -> None:
        self.run(conn, self.settings.init_sql)
        if self.settings.init_sql and not self.autocommit:
            conn.commit()

    def _look(self, conn: Any, deadline: float, new: bool) -> Server:
        with self._own_work(conn, deadline):
            ((*told,),) = conn._ask(QUESTION)
        read_only = any(_text(value) not in ("0", "OFF") for value in told)
        return Server(read_only, read_only)

    def ping(self, conn: Any, deadline: float) -> None:
        seen = conn._seen
        statements, seconds = seen.statements, seen.seconds
        with conn._within(deadline, self.clock):
            if self.settings.ping_query is not None:
                self.run(conn, (self.settings.ping_query,))
            else:
                conn._unseen_ping()
        seen.statements, seen.seconds = statements, seconds

    def rollback(self, conn: Any, deadline: float) -> None:
        with self._own_work(conn, deadline):
            self._roll_back(conn)
            self._restore_autocommit(conn)

    def reset(self, conn: Any, deadline: float) -> None:
        with self._own_work(conn, deadline):
            conn._reset_session()
            self._restore_autocommit(conn)
            self._run_init_sql(conn)
        self.call_on_connect(conn, deadline)
        conn._seen.used = False

    def put_back(self, conn: Any, attributes: Mapping[str, Any], deadline: float) -> None:
        with self._own_work(conn, deadline):
            super().put_back(conn, attributes, deadline)

    def limited(self, conn: Any, deadline: float) -> AbstractContextManager[Any]:
        limit: AbstractContextManager[Any] = conn._within(deadline, self.clock)
        return limit

    def end_hook(self, conn: Any) -> None:
        if conn._seen.touched:
            conn.commit()
        self._restore_autocommit(conn)
        if conn._still_open():
            raise self.operational_error(UNKNOWN, "a transaction is still open")

    def _roll_back(self, conn: Any) -> None:
        conn.rollback()

    @abstractmethod
    def _restore_autocommit(self, conn: Any) -> None:
        """Make it what it was at first, if it is not."""

    @contextmanager
    def _own_work(self, conn: Any, deadline: float) -> Iterator[None]:
        """Statements of wsgidb's own, before the deadline; they are not counted as a handler's."""
        seen = conn._seen
        statements, seconds, used = seen.statements, seen.seconds, seen.used
        with conn._within(deadline, self.clock):
            yield
        if conn._still_open():  # with completion_type=CHAIN each ROLLBACK begins another one
            raise self.operational_error(UNKNOWN, "a transaction is still open")
        seen.settled()
        seen.statements, seen.seconds, seen.used = statements, seconds, used

    def commit(self, conn: Any) -> None:
        seen = conn._seen
        if not seen.touched:
            return
        reason = conn._unusable()
        if reason is not None:
            raise TransactionLost(f"cannot commit: {reason}")
        conn.commit()

    def written(self, conn: Any, deadline: float, ask: bool) -> Position:
        """The server is asked. On MariaDB the answer is about the session, so that one that has written nothing since
        it was last asked is known by it."""
        if not ask:
            return {}
        mariadb = self._is_mariadb(conn)
        ((last,),) = self._ask(conn, positions.LAST[mariadb], deadline)
        if mariadb and last == conn._last_written:
            return {}
        conn._last_written = last
        return positions.parse(last, mariadb)

    def reached(self, conn: Any, deadline: float) -> tuple[str, Position]:
        mariadb = self._is_mariadb(conn)
        ((server, position),) = self._ask(conn, positions.REACHED[mariadb], deadline)
        return str(server), positions.parse(position, mariadb)

    def _ask(self, conn: Any, question: str, deadline: float) -> Any:
        """The rows that answer a question of wsgidb's own, which leaves no trace in the record."""
        seen = conn._seen
        touched, used = seen.touched, seen.used
        with conn._within(deadline, self.clock):
            rows = conn._ask(question)
        seen.touched, seen.used = touched, used
        return rows

    def _is_mariadb(self, conn: Any) -> bool:
        return positions.is_mariadb(conn._greeted_as())

    # -- never block

    def inspect(self, conn: Any) -> State | str:
        state: State | str = conn._state(self.autocommit, self._whole_session)
        return state

    def activity(self, conn: Any) -> Activity:
        seen: Activity = conn._seen
        return seen

    def abandon(self, conn: Any) -> None:
        conn._abandon(conn._seen.busy)

    def is_disconnect(self, error: BaseException) -> bool:
        return isinstance(error, self.error) and bool(error.args) and error.args[0] in self.disconnects

    def commit_was_refused(self, error: BaseException) -> bool:
        return isinstance(error, self.error) and bool(error.args) and ends_transaction(error, error.args[0])

    def is_conflict(self, error: BaseException) -> bool:
        return self.commit_was_refused(error)

    def undid_commit(self, error: BaseException) -> bool:
        """Vitess may have committed on one of several shards."""
        return self.is_conflict(error) and error.args[0] != VITESS

    def refused_write(self, error: BaseException) -> bool:
        in_transaction = isinstance(error, self.error) and error.args[:1] == (READ_ONLY_TRANSACTION,)
        return in_transaction or self.is_read_only(error)

    def is_read_only(self, error: BaseException) -> bool:
        if not isinstance(error, self.error) or len(error.args) < 2:
            return False
        sign = READ_ONLY.get(error.args[0])
        return sign is not None and sign.search(str(error.args[1])) is not None

    def is_not_ready(self, error: BaseException) -> bool:
        return self.is_read_only(error) and error.args[0] in NOT_READY


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, (bytes, bytearray)) else str(value)


def cursor_class(driver: str, module: Any, base: type) -> Callable[[str], Any]:
    """The converter of a cursor class that is given by its name in a url."""

    def convert(text: str) -> Any:
        found = getattr(module, text, None)
        if not (isinstance(found, type) and issubclass(found, base)):
            raise ConfigError(f"cursorclass: {driver} has no cursor class {text!r}")
        return found

    return convert


def converter(default: Any) -> Callable[[str], Any]:
    """The converter of an option with that default."""
    kind = type(default)
    return values.boolean if kind is bool else int if kind is int else str
