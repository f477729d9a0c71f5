"""PyMySQL's connection to a primary with replicas: it learns from the server's replies what it has written.

With autocommit, a statement that returns rows has no such reply. Whether it has written is then asked for at the end of
the lease.
"""

from __future__ import annotations

from typing import Any

from ..mysql.observed import AUTOCOMMIT, IN_TRANSACTION
from ..mysql.positions import STATE_CHANGED, told
from ..states import Clock, Position
from .connection import Connection


class Tracked(Connection):
    """Notes the position of each COMMIT."""

    _position: Position
    """What the server has told since that was last taken."""
    _untold: bool
    """Whether something may have been committed since then, or since it last told, of which no reply tells."""

    def _begin_record(self, clock: Clock) -> None:
        super()._begin_record(clock)
        self._position = {}
        self._untold = False

    def _read_query_result(self, unbuffered: bool = False) -> Any:
        affected = super()._read_query_result(unbuffered)
        result = self._result
        if not result.field_count:
            if self.server_status & STATE_CHANGED:
                self._note_position(result.message)
        elif self.server_status & (AUTOCOMMIT | IN_TRANSACTION) == AUTOCOMMIT:
            self._untold = True
        return affected

    def _read_ok_packet(self) -> Any:
        packet = super()._read_ok_packet()
        if packet.server_status & STATE_CHANGED:
            self._note_position(packet.message)
        return packet

    def _note_position(self, data: bytes) -> None:
        position = told(data)
        if position:
            self._position |= position
            self._untold = False

    def _note_error(self, error: BaseException, code: Any, among_rows: bool = False) -> None:
        self._untold = True  # a procedure may have committed before it failed
        super()._note_error(error, code, among_rows)

    def _take_position(self) -> tuple[Position, bool]:
        """What was told, and whether something was not."""
        taken = self._position, self._untold
        self._position, self._untold = {}, False
        return taken
