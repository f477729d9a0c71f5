"""How to find out that a procedure has gone on after the server had rolled its transaction back.

A procedure's own handler (DECLARE CONTINUE HANDLER) may swallow a deadlock, after which the reply shows no error. The
server is asked before and after: a transaction that is not open any more was rolled back by the server if there was a
rollback, and if no BEGIN, COMMIT or ROLLBACK of the procedure's was run. MySQL has no @@in_transaction; there it cannot
be found out.
"""

from __future__ import annotations

from typing import Any

QUESTION = """SELECT @@in_transaction,
 CAST(SUM(IF(variable_name = 'HANDLER_ROLLBACK', variable_value, 0)) AS INT),
 CAST(SUM(IF(variable_name LIKE 'COM%', variable_value, 0)) AS INT)
 FROM information_schema.session_status
 WHERE variable_name IN ('HANDLER_ROLLBACK', 'COM_BEGIN', 'COM_COMMIT', 'COM_ROLLBACK')"""
"""Whether a transaction is open; how many rollbacks there were, of statements too; how many statements that end one."""


def rolled_back(before: Any, after: Any) -> bool:
    """Whether the server has rolled the transaction back between these two answers, each a row."""
    (was_open, rollbacks, ends), (is_open, more_rollbacks, more_ends) = map(int, before), map(int, after)
    return bool(was_open and not is_open and more_rollbacks > rollbacks and more_ends == ends)
