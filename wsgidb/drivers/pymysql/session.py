"""What a session is opened with, and how it gets back to that."""

from __future__ import annotations

from typing import Any

from pymysql.constants import COMMAND, CR
from pymysql.err import Error, OperationalError

from ..mysql.observed import COM_RESET_CONNECTION
from .wire import Wire


class Session(Wire):
    """The part of our connection that resets the session between requests."""

    _own_charset: str
    _own_collation: str | None
    _own_encoding: str
    """The character set of connecting; set_character_set() keeps an application's in the attributes without "own"."""
    _own_autocommit: bool
    _own_assignments: tuple[str, ...] = ()
    """What else is set at the beginning, as SET takes it."""
    _own_role: str | None = None
    """The role of connecting, as SET ROLE takes it, if there was one."""
    _other_role = "SELECT 1 LIMIT 0"
    """A statement that finds a row if another role is set."""

    def _log_in(self, line: Any, autocommit: bool) -> None:
        """Do with the socket what PyMySQL's connect() does first; `_set_session` does the rest."""
        self._own_charset, self._own_collation, self._own_encoding = self.charset, self.collation, self.encoding
        self._own_autocommit = autocommit
        self._closed = False
        self._sock, self._rfile = line, line.makefile("rb")
        self._next_seq_id = 0
        self._get_server_information()
        try:
            self._request_authentication()
        except OSError as error:  # of TLS, which has taken the socket
            self._force_close()
            raise OperationalError(2003, f"cannot connect to {self.host}:{self.port} ({error})") from error

    def _set_session(self) -> None:
        """Set what the session is opened with, by one statement; PyMySQL sends one for each setting. With an
        init_command, autocommit is set after that, as with PyMySQL."""
        names = f"NAMES {self._own_charset}" + (f" COLLATE {self._own_collation}" if self._own_collation else "")
        assignments = [names, *self._own_assignments]
        if self.sql_mode is not None:
            assignments.append(f"sql_mode = {self.escape(self.sql_mode)}")
        if self.init_command is None and self.get_autocommit() is not self._own_autocommit:
            assignments.append(f"autocommit = {self._own_autocommit:d}")
        self._execute_command(COMMAND.COM_QUERY, f"SET {', '.join(assignments)}")
        self._read_ok_packet()
        self.charset, self.collation, self.encoding = self._own_charset, self._own_collation, self._own_encoding

    def _run_init_command(self) -> None:
        if self.init_command is not None:
            with self.cursor() as cursor:  # which reads all of its results
                cursor.execute(self.init_command)
        self.autocommit(self._own_autocommit)  # says nothing where it is so already

    def _remember_role(self) -> None:
        """Note the role that the session was opened with, for resets to go back to it. Two round trips."""
        try:
            self.query("SELECT CURRENT_ROLE()")
        except Error:
            if self._sock is None:
                raise
            return  # a server without roles
        role = self._result.rows[0][0]  # None on MariaDB, NONE on MySQL, which also quotes the names
        self._own_role = role if role is None or role == "NONE" or "`" in role else f"`{role}`"
        self._other_role = f"SELECT 1 FROM DUAL WHERE NOT CURRENT_ROLE() <=> {self.escape(role)}"
        self._restore_role()

    def _restore_role(self) -> None:
        """Go back to the session's own role, which neither COM_RESET_CONNECTION nor COM_CHANGE_USER does on MariaDB.

        It is asked for by a statement that finds no rows, so that FOUND_ROWS() tells nothing of an earlier one."""
        self.query(self._other_role)
        if self._result.rows:
            self.query(f"SET ROLE {self._own_role or 'NONE'}")
            self.query(self._other_role)

    def _reset_session(self) -> None:
        """Send COM_RESET_CONNECTION (MySQL 5.7.3, MariaDB 10.2.4), and apply again what it takes back of connecting.

        The current database is not part of it (on MariaDB it stays as it is), and where the url names none, there
        is no way back to none."""
        self._execute_command(COM_RESET_CONNECTION, b"")
        self._read_ok_packet()
        self._seen.settled()
        self._set_session()
        if self.db is not None:
            self.select_db(self.db)
        elif self._selected_database() is not None:
            raise OperationalError(CR.CR_UNKNOWN_ERROR, "a database was selected, and none can be unselected")
        self._restore_role()
        self._run_init_command()

    def _selected_database(self) -> Any:
        self.query("SELECT DATABASE()")
        return self._result.rows[0][0]
