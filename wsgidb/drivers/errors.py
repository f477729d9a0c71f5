"""The part of the driver contract that is about errors: what each means for the connection and the transaction."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ..config.settings import Settings
from .states import NOT_WRITABLE


class Errors(ABC):
    """Tells the errors of a driver's statements apart. None of its methods ever blocks."""

    settings: Settings

    @abstractmethod
    def is_disconnect(self, error: BaseException) -> bool:
        """Whether this error of a statement means that the connection is gone. Never blocks."""

    def commit_was_refused(self, error: BaseException) -> bool:
        """Whether this error of a COMMIT means that the server has rolled the transaction back and that the connection
        is as good as before. Never blocks."""
        return False

    def is_read_only(self, error: BaseException) -> bool:
        """Whether this error of a statement means that the whole server takes no writes, or is not ready for any
        statement. After a failover another server may be. Never blocks."""
        return False

    def refused_write(self, error: BaseException) -> bool:
        """Whether the session has refused a statement because it would have written. Never blocks."""
        return self.is_read_only(error)

    def is_not_ready(self, error: BaseException) -> bool:
        """Whether this error, which `is_read_only` knows, means that the server is not ready for any statement. Never
        blocks."""
        return False

    def doubt(self, error: BaseException) -> None:
        """Note that the server may have become unfit, by an error that `is_read_only` knows. Never blocks."""

    def is_conflict(self, error: BaseException) -> bool:
        """Whether with this error of a statement the server gives a transaction up in favour of another one, as in a
        deadlock. If it is repeated, it may well succeed. Never blocks."""
        return False

    def undoes(self, error: BaseException) -> bool:
        """Whether nothing remains of a transaction that had this error and was not committed, although it may well
        succeed if it is repeated. Never blocks."""
        return self.is_conflict(error) or self.is_disconnect(error) or self.is_read_only(error)

    def undid_commit(self, error: BaseException) -> bool:
        """Whether the same holds for this error of a COMMIT. A lost connection proves nothing there. Never blocks."""
        return self.is_conflict(error)

    def unfit(self, error: BaseException) -> str | None:
        """Why a connection must not be kept after this error of a statement, or None if it may be. Never blocks."""
        if self.is_disconnect(error):
            return "connection lost"
        if self.settings.discard_read_only and self.is_read_only(error):
            return NOT_WRITABLE
        return None
