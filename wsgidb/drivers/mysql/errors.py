"""What an error of a MySQL or MariaDB server means, whichever driver raised it."""

from __future__ import annotations

from typing import Any, ClassVar

from ..errors import Errors
from .observed import DISCONNECTS, NOT_READY, READ_ONLY, READ_ONLY_TRANSACTION, VITESS, ends_transaction


class MySQLErrors(Errors):
    """The part of a MySQL driver that tells errors apart by their numbers."""

    disconnects: ClassVar[frozenset[Any]] = DISCONNECTS
    error: ClassVar[type[Exception]]
    """The class of the driver's own errors."""

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
