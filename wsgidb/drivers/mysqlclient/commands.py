"""mysqlclient's connection: the commands of its C library that are no statements, and how a session is cleaned.

Each method of the C class that talks to the server is observed here, in replies.py or in connection.py.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import MySQLdb.connections
from MySQLdb import MySQLError, NotSupportedError, ProgrammingError

from ..outcome import ANYTHING
from .replies import Replies
from .statements import COMPLETION_TYPE, ROLE

MULTI_STATEMENTS_ON, MULTI_STATEMENTS_OFF = 0, 1  # enum enum_mysql_set_option of mysql.h

_module: Any = MySQLdb.connections
ENCODINGS: dict[str, str] = _module._charset_to_encoding
"""What Python calls a character set, where that is another name."""


class Commands(Replies):
    """The part of our connection that deals with commands."""

    _other_charset = _other_option = False
    """The application has changed what no statement changes and no ROLLBACK takes back: the library's character set, or
    an option of the server's for this connection."""
    _connected = False
    """Whether connecting is over, and the session is to be set by `_set_session`."""
    _own_settings: dict[str, Any]
    """What the connection was made with."""
    _own_autocommit: bool
    _own_multi_statements: bool
    _rollbacks: tuple[int, int] | None

    def _command(self, command: Any, *args: Any, **arguments: Any) -> Any:
        """Run one of them. It has no result set, and touches no transaction."""
        seen = self._seen
        self._look_for_error()
        seen.noted = False
        seen.busy = seen.incomplete = True  # some commands, like stat, tell no error of theirs
        seen.began = self._clock()
        try:
            found = command(*args, **arguments)
        except Exception as error:
            seen.busy = False  # the reply has come, or nothing was sent
            if isinstance(error, MySQLError):
                self._failed(error)
            raise
        seen.ended(self._clock())
        return found

    def ping(self, *reconnect: Any) -> None:
        if any(reconnect):
            raise NotSupportedError("ping(reconnect=True) would go on in another session, and lose the transaction")
        self._command(super().ping, *reconnect)

    def stat(self) -> Any:
        return self._command(super().stat)

    def dump_debug_info(self) -> None:
        self._command(super().dump_debug_info)

    def kill(self, number: int) -> None:
        self._command(super().kill, number)

    def shutdown(self) -> None:
        self._command(super().shutdown)

    def select_db(self, name: str) -> None:
        self._seen.used = True
        self._command(super().select_db, name)

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        if not self._connected:  # the library knows it from the login, and `_set_session` tells the server
            self.encoding = ENCODINGS.get(charset, charset)
            return
        self._seen.used = self._seen.opaque = self._other_charset = True
        self._command(super().set_character_set, charset, collation)

    def set_server_option(self, option: int) -> Any:
        self._seen.used = self._seen.opaque = self._other_option = True
        return self._command(super().set_server_option, option)

    def change_user(self, *args: Any, **arguments: Any) -> None:
        self._seen.other_user = True
        if self._seen.outcome is not None:
            self._seen.outcome.sends(ANYTHING)  # autocommit is on then
        self._command(super().change_user, *args, **arguments)

    def _take_back_changes(self) -> None:
        """Make the character set and the server's options what they were at first. The library has no deadline for it.
        """
        given = self._own_settings
        if self._other_charset:
            self.set_character_set(given["charset"], given.get("collation"))
        if self._other_option:
            self.set_server_option(MULTI_STATEMENTS_ON if self._own_multi_statements else MULTI_STATEMENTS_OFF)
        self._other_charset = self._other_option = False

    def _clean_up(self) -> None:
        """Roll back, whatever a handler has set completion_type to, and take back what a rollback does not."""
        seen = self._seen
        self.query("ROLLBACK AND NO CHAIN" if COMPLETION_TYPE in seen.may_have_set else "ROLLBACK")
        self._take_back_changes()
        seen.begun = seen.may_have_begun = seen.opaque = False

    def _set_session(self, autocommit: bool | None) -> None:
        """Set what the session is opened with, by one statement; the driver sends one for each setting. With None,
        autocommit is left as it is."""
        given = self._own_settings
        assignments = [f"NAMES {given['charset']}"]
        if given.get("collation"):
            assignments[0] += f" COLLATE {given['collation']}"
        if given.get("sql_mode"):
            assignments.append(f"SESSION sql_mode='{given['sql_mode']}'")
        if autocommit is not None and self.get_autocommit() is not autocommit:
            assignments.append(f"autocommit = {autocommit:d}")
        assert self._seen.deadline is not None
        self._query_before(f"SET {', '.join(assignments)}", *self._seen.deadline)

    def _reset_session(self) -> None:
        """COM_CHANGE_USER to the same user, which rolls back, and what it takes back of connecting. The library has no
        deadline for it: so a server that does not answer is found out by a statement before.

        That statement finds no rows, so that FOUND_ROWS() tells nothing of an earlier one."""
        seen = self._seen
        seen.settled()
        self._rollbacks = None
        self.query("SELECT 1 LIMIT 0")
        self.store_result()
        if ROLE in seen.may_have_set:
            with suppress(ProgrammingError):  # a server without roles
                self.query("SET ROLE NONE")  # COM_CHANGE_USER sets the default role, if there is one
        given = self._own_settings
        super().change_user(given.get("user", ""), given.get("password", ""), given.get("database", ""))
        seen.may_have_set = frozenset()
        self._take_back_changes()
        seen.begun = seen.may_have_begun = seen.opaque = seen.other_user = False
        self._set_session(None if given.get("init_command") else self._own_autocommit)
        if given.get("init_command"):
            self.query(given["init_command"])
            self.store_result()
            while self.next_result() == 0:
                self.store_result()

    def _unseen_ping(self) -> None:
        """The library's own ping has no deadline."""
        assert self._seen.deadline is not None
        self._query_before("DO 0", *self._seen.deadline)
