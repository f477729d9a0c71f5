"""The rows of an unbuffered result, which are read from the socket one by one, as a cursor asks for them."""

from __future__ import annotations

from typing import Any

from pymysql.err import Error

from .wire import Base

read_packet = Base._read_packet


class Rows:
    """Stands in for the connection in PyMySQL's result: it reads rows on behalf of the lease that asked for them."""

    __slots__ = ("_conn", "_lease")

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self._lease = conn._seen.lease

    def _read_packet(self) -> Any:
        """Read the next packet. Raises ConnectionReturned if the lease has ended.

        This is `Activity.call` with one call less, as it is paid for by every row."""
        conn = self._conn
        seen = conn._seen
        lease = self._lease
        seen.users.append(lease)
        try:
            if seen.lease is not lease:
                raise seen.refusal()
            try:
                return read_packet(conn)
            except Error as error:
                conn._note_error(error, error.args[0] if error.args else None, among_rows=True)
                raise
            except BaseException:
                conn._force_close()  # what is left of the packet would be taken for the next one
                raise
        finally:
            seen.users.remove(lease)
            if seen.closing:
                seen.close_if_unused()
