"""What a request may change in the session or in the driver's object, and how it is put back for the next one."""

from __future__ import annotations

from contextlib import suppress
from functools import wraps
from operator import attrgetter
from typing import Any

from mysql.connector.constants import ServerCmd
from mysql.connector.errors import Error, OperationalError

from ..mysql.observed import UNKNOWN
from ..mysql.sessions import may_set_next_transaction
from ..states import Clock
from .commands import Commands

SENT = ("_charset_id", "_autocommit", "_time_zone", "_sql_mode", "_init_command", "_database")
"""Attributes whose values the driver sends to the server after connecting."""
HELD = ("_user", "_password", "_client_flags", "_use_unicode", "_allow_local_infile_in_path", "_converter_class")
"""Attributes that methods of the connection change in the driver's object, without telling the server."""
CHANGING = (
    *("query_attrs_append", "query_attrs_clear", "query_attrs_remove", "set_allow_local_infile_in_path"),
    *("set_client_flags", "set_converter_class", "set_login", "set_unicode"),
)
"""The methods that do that. Where a lease sets a property instead, it is the lease that puts that back."""
CACHE = "_cache_field_types"
"""The attribute in which a converter caches what it has found out about types."""

_held = attrgetter(*HELD)


class Session(Commands):
    """Records what a request changes, and puts it back."""

    _own_sent: dict[str, Any] | None = None
    """The values of `SENT` after connecting."""
    _own_held: tuple[Any, ...] = ()
    """The values of `HELD` after connecting."""
    _own_converter: dict[str, Any] | None = None
    """The attributes of the converter after connecting."""
    _own_attributes: dict[str, Any] | None = None
    """The query attributes after connecting. They are sent with each statement to a server that supports them."""
    _own_role: Any = None
    """The session's role after connecting, with reset=session."""
    _next_set: bool
    """Whether a statement may have set characteristics of the next transaction only."""
    _reconfigured: bool
    _changed: bool
    """Whether one of `CHANGING` was called, so that it takes a closer look to tell whether the connection is altered.
    """

    def _begin_record(self, clock: Clock) -> None:
        super()._begin_record(clock)
        self._next_set = self._reconfigured = self._changed = False

    def _remember_session(self) -> None:
        """Record how the session has to be for each request."""
        self._next_set = self._changed = False
        self._own_sent = {name: getattr(self, name) for name in SENT}
        self._own_held = _held(self)
        self._own_attributes = dict(self._query_attrs)
        self._own_converter = dict(vars(self.converter))

    # -- the driver's object

    def _altered(self) -> bool:
        """Whether something in the driver's object is not as it was. Never blocks."""
        if self._changed and (_held(self) != self._own_held or self._query_attrs != self._own_attributes):
            return True
        set_now = self.converter.__dict__
        if set_now == self._own_converter:
            return False
        own = {**(self._own_converter or {}), CACHE: set_now.get(CACHE)}
        if set_now != own:
            return True
        self._own_converter = own  # a converter makes a new cache for its first row
        return False

    def _put_back(self) -> None:
        """Put back what was changed in the driver's object. Never blocks."""
        if not self._altered():
            return
        for name, value in zip(HELD, self._own_held, strict=True):
            setattr(self, name, value)
        self._changed = False
        self._query_attrs = dict(self._own_attributes or ())
        # A new converter, because an application may have changed the former one in any way. With reset=rollback the
        # session may have another character set now, which the converter must have too.
        charset = self._character_set.get_info(self._charset_id)[0]
        self.converter = self._converter_class(charset, self._use_unicode)
        self.converter.str_fallback = self._converter_str_fallback
        self.converter.set_charset(charset, character_set=self._character_set)
        self._own_converter = dict(vars(self.converter))

    def config(self, **options: Any) -> None:
        self._reconfigured = self._changed = self._own_sent is not None
        super().config(**options)

    # -- the next transaction

    def _receive(self, read_timeout: Any = None) -> Any:
        self._next_set = True  # of several statements only the first one was looked at
        return super()._receive(read_timeout)

    def cmd_stmt_prepare(self, statement: Any, *args: Any, **options: Any) -> Any:
        self._next_set = self._next_set or may_set_next_transaction(statement)
        return super().cmd_stmt_prepare(statement, *args, **options)

    # -- the session

    def _look_at_session(self) -> Any:
        """Ask for the current database, and for the role if the server has roles. As this is a statement that returns
        one row, FOUND_ROWS() tells nothing of earlier statements afterwards."""
        try:
            return self.info_query("SELECT DATABASE(), CURRENT_ROLE()")
        except Error as error:
            if error.sqlstate is None:
                raise
        return self.info_query("SELECT DATABASE(), NULL")

    def _reset_session(self) -> None:
        """Send COM_RESET_CONNECTION (MySQL 5.7.3, MariaDB 10.2.4), and what the driver sends after connecting.

        The server keeps the current database and, on MariaDB, the role. There is no way back to no database, and
        another role must not be kept. Raises OperationalError in these two cases."""
        assert self._own_sent is not None
        self._unreported = None
        with suppress(Error):
            self._read_rest()
        self._handle_ok(self._send_cmd(ServerCmd.RESET_CONNECTION))
        self._seen.settled()
        for name, value in self._own_sent.items():
            setattr(self, name, value)
        self._put_back()
        if self._database:
            self.cmd_init_db(self._database)
        self._post_connection()
        database, role = self._look_at_session()
        if database is not None and not self._database:
            raise OperationalError(errno=UNKNOWN, msg="a database was selected, and none can be unselected")
        if role != self._own_role:
            raise OperationalError(errno=UNKNOWN, msg="a role was set, which a reset does not end")
        self._next_set = False

    def _post_connection(self) -> None:
        super()._post_connection()
        self._read_rest()  # of an init_command with several results


def _changing(method: Any) -> Any:
    """One of `CHANGING`, which notes that it was called."""

    @wraps(method)
    def change(self: Session, *args: Any, **options: Any) -> Any:
        self._changed = True
        return method(self, *args, **options)

    return change


for _name in CHANGING:
    setattr(Session, _name, _changing(getattr(Session, _name)))
