"""The commonest mistake in sizing: all processes together may open more connections than the server grants."""

from __future__ import annotations

import logging
from typing import Any

from .board import read

log = logging.getLogger("wsgidb")


def check(engine: Any, directory: str) -> None:
    """Warn if all processes on the board together may open more connections than the server grants.

    It asks on a connection of its own, as its failure must not harm a request. Blocks up to connect_timeout, and then
    for one round trip. Never raises an Exception."""
    settings, driver = engine.settings, engine.driver
    if driver.limit_query is None or settings.most_connections is None or settings.host_connections is not None:
        return
    try:
        rows = read(directory)[0].get(engine.name, [])
        allowed = _allowed(driver, engine.clock() + settings.connect_timeout)
    except Exception as error:
        log.debug("%s: the server cannot be asked", settings.address, exc_info=error)
        return
    wanted = sum(row.stats.limit or 0 for row in rows)
    if wanted > allowed:
        line = "%s: %d processes may open %d connections (pool_size), and the server grants %d (max_connections)"
        log.warning(line, settings.address, len(rows), wanted, allowed)


def _allowed(driver: Any, deadline: float) -> int:
    conn = driver.connect(deadline)
    try:
        with driver.limited(conn, deadline):
            cursor = conn.cursor()
            cursor.execute(driver.limit_query)
            ((allowed,),) = cursor.fetchall()
            cursor.close()
    except BaseException:
        driver.abandon(conn)
        raise
    driver.close(conn)
    return int(allowed)
