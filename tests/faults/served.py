"""The application that the fault tests serve: payments into a ledger, and requests that need no database."""

from __future__ import annotations

import dataclasses
import gc
import json
import logging
import os
import signal
import sys
from contextlib import closing, suppress
from typing import Any

import pymysql

from wsgidb import Database, DatabaseMiddleware

logging.basicConfig(level=logging.DEBUG)  # to the server's log, all of it
log = logging.getLogger("served")


def run(conn: Any, sql: str) -> list[tuple[Any, ...]]:
    with closing(conn.cursor()) as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def echo(conn: Any, number: str) -> str:
    return str(run(conn, f"SELECT {int(number)}")[0][0])


TAKE = "UPDATE account SET balance = balance - 1 WHERE id = 1"
GIVE = "UPDATE account SET balance = balance + 1 WHERE id = 2"


def note(number: str) -> str:
    return f"INSERT INTO ledger VALUES ({int(number)})"


def pay(conn: Any, number: str) -> str:
    """Move 1 from one account to the other, and note it: all or nothing."""
    for sql in (TAKE, GIVE, note(number)):
        run(conn, sql)
    conn.commit()
    return number


def careless(conn: Any, number: str) -> str:
    """Pay, and say nothing of an error."""
    try:
        return pay(conn, number)
    except pymysql.Error as error:
        return f"swallowed {error.args[0]}"


def steps(number: str) -> tuple[str, ...]:
    """What `pay` does, by odd numbers in its order and by even ones in another: so that they lock each other out."""
    return (TAKE, GIVE, note(number)) if int(number) % 2 else (GIVE, TAKE, note(number))


def transfer(conn: Any, number: str) -> str:
    """Pay, in either order. What fails before the COMMIT is told from what fails in it."""
    for sql in steps(number):
        run(conn, sql)
    if database.settings.transaction == "manual":
        try:
            conn.commit()
        except pymysql.Error as error:
            raise pymysql.OperationalError(f"{error.args[0]} of COMMIT") from error
    return number


def stubborn(conn: Any, number: str) -> str:
    """Pay, go on after errors that end the transaction, and speak of success."""
    for sql in steps(number):
        try:
            run(conn, sql)
        except pymysql.Error as error:
            if error.args[0] == 1205:  # the end of the statement only: to go on would be a mistake of ours
                raise
    return number


def slow(conn: Any, number: str) -> str:
    """A statement of so many seconds; the session's number is in the answer."""
    (session,) = run(conn, "SELECT CONNECTION_ID()")
    run(conn, f"SELECT SLEEP({int(number)})")
    return str(session[0])


def fork(conn: Any, number: str) -> str:
    """Fork in the middle of a payment. The child ends at once, or does some work and cleans up, or leaves through the
    middleware; the parent goes on when it has ended."""
    run(conn, note(number))
    kind = int(number) % 4
    if pid := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status == 0, f"the child ended with {status}"
        for sql in (TAKE, GIVE):
            run(conn, sql)
        conn.commit()
        return number
    signal.alarm(20)  # which ends a child that hangs
    # Another thread may have been writing to the log at that moment: the stream's lock, which Python does not renew in
    # a child, is then taken for ever.
    logging.disable()
    if kind == 0:
        os._exit(0)
    if kind == 1:
        with database.connection() as own:
            right = echo(own, number) == number
        clean_up()
        os._exit(0 if right else 1)
    if kind == 2:
        sys.exit(0)
    return number


def clean_up() -> None:
    """What an interpreter does at its end."""
    database.close()
    gc.collect()


HANDLERS = {function.__name__: function for function in (echo, pay, careless, transfer, stubborn, slow, fork)}


def handle(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    name, number = environ["PATH_INFO"].strip("/").split("/")
    conn = environ["db.conn"]
    log.debug("%r", conn)
    try:
        status, text = "200 OK", HANDLERS[name](conn, number)
    except pymysql.Error as error:
        log.exception("%r", conn)
        status, text = "500 Internal Server Error", f"error {error.args[0]}"
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text.encode()]


database = Database(os.environ["SERVED_URL"], **json.loads(os.environ["SERVED_OPTIONS"]))
wrapped = DatabaseMiddleware(handle, database)
log.info("%r %r %r", wrapped, database, database.settings)


def application(environ: dict[str, Any], start_response: Any) -> Any:
    """What begins with /plain or /stats needs no connection."""
    name, number = environ["PATH_INFO"].strip("/").split("/")
    if name not in ("plain", "stats"):
        pid, body = os.getpid(), None
        with suppress(SystemExit):  # of a child
            body = wrapped(environ, start_response)
        if os.getpid() != pid:
            clean_up()
            os._exit(0)
        return body
    text = number if name == "plain" else json.dumps(dataclasses.asdict(database.stats()))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text.encode()]
