"""The options of the pool of one Database: how many connections it keeps, for how long, and how that is seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import values
from .option import YEAR, option

STRATEGIES = ("per-request", "thread-local", "pooled", "dbutils-persistent", "dbutils-pooled", "sqlalchemy")


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """How connections are kept and seen."""

    strategy: Any = option(
        "pooled",
        values.named(*STRATEGIES),
        "How connections are kept between requests: in a pool, one per thread, or not at all.",
    )
    strategy_args: Any = option(
        {}, values.arguments, "Further arguments for the pool of the strategy's library (DBUtils or SQLAlchemy)."
    )
    pool_size: int = option(
        10,
        values.number(least=1, most=100_000, whole=True),
        "The largest number of connections of one process, including those that are being opened. The strategies "
        "per-request, thread-local and dbutils-persistent have no such limit.",
        unit="connections",
    )
    host_connections: int | None = option(
        None,
        values.number(least=1, most=100_000, whole=True, none=True),
        "The largest number of connections of all processes of this machine together that have the same board and the "
        "same name of the pool. A request waits where pool_size would allow one more, but this does not "
        "(docs/deployment.md).",
        unit="connections",
    )
    max_lifetime: float | None = option(
        1800.0,
        values.number(above=0, most=YEAR, none=True),
        "The age after which a connection is closed when it is not in use. It varies by up to 10 % at random, so that "
        "connections that were opened together are not replaced together.",
        unit="seconds",
    )
    max_idle: float | None = option(
        600.0,
        values.number(above=0, most=YEAR, none=True),
        "The time after which a connection that was not used is closed.",
        unit="seconds",
    )
    ping_after: float | None = option(
        1.0,
        values.number(least=0, most=YEAR, none=True),
        "The idle time after which a connection is pinged before it is used, at the cost of a round trip. 0 means "
        "always, none means never.",
        unit="seconds",
    )
