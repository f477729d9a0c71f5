"""What an error says about a name that is not an option: the nearest option, or what another library means by it."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import ConfigError
from .options import OPTIONS
from .values import nearest

IN_URL = "it is a part of the {url}: driver://user:password@host:port/name"
IN_QUERY = "options of the driver go into the query of the {url}, or into {connect_args}"
CHECKED = "every connection is checked before it is used; {ping_after} says when that takes a round trip"
SEVERAL = "several hosts go into the {url}, with commas between them: host1:port1,host2:port2"
BY_STATEMENT = "use {init_sql} with a statement that sets it"
LOG = "wsgidb logs to the logger wsgidb, whose level is set by Python's logging"
NO_ENGINE = "it is about statements that SQLAlchemy makes; wsgidb hands out the driver's own connections"
NO_MINIMUM = "connections are opened when they are needed; {pool_size} is the largest number of them"

ELSEWHERE = {
    # SQLAlchemy's
    "max_overflow": "no connections are opened beyond {pool_size}",
    "pool_pre_ping": CHECKED,
    "pre_ping": CHECKED,
    "pool_recycle": "use {max_lifetime}",
    "recycle": "use {max_lifetime}",
    "pool_timeout": "use {acquire_timeout}",
    "pool_reset_on_return": "use {reset}",
    "poolclass": "use {strategy}",
    "pool": "use {strategy}",
    "pool_use_lifo": "use {strategy_args} with {strategy}=sqlalchemy",
    "isolation_level": f"{BY_STATEMENT}, and {{transaction}} for autocommit",
    "sqlalchemy_database_uri": "use {url}",
    "sqlalchemy_engine_options": "give its entries by their own names here",
    **dict.fromkeys(("echo", "echo_pool", "logging_name", "pool_logging_name"), LOG),
    **dict.fromkeys(("execution_options", "future", "json_serializer", "json_deserializer"), NO_ENGINE),
    **dict.fromkeys(("paramstyle", "query_cache_size", "hide_parameters"), NO_ENGINE),
    # Django's
    "conn_max_age": "use {max_lifetime}; for 0 use {strategy}=per-request",
    "conn_health_checks": CHECKED,
    "atomic_requests": "use {transaction}=request",
    "autocommit": "use {transaction}=autocommit",
    **dict.fromkeys(("time_zone", "timezone", "transaction_isolation"), BY_STATEMENT),
    "options": IN_QUERY,
    "test": "wsgidb.testing.SandboxDatabase takes its place in tests",
    "disable_server_side_cursors": "a cursor is on the server only where the handler asks for one",
    **dict.fromkeys(("engine", "name", "user", "password", "host", "port"), IN_URL),
    # DBUtils' and those of other pools
    **dict.fromkeys(("maxconnections", "maxcached", "max_connections", "maxconn"), "use {pool_size}"),
    **dict.fromkeys(("max_size", "size", "connection_limit"), "use {pool_size}"),
    **dict.fromkeys(("mincached", "min_size", "minconn", "minconnections"), NO_MINIMUM),
    "maxusage": "use {max_lifetime}",
    "setsession": "use {init_sql}",
    "blocking": "use {acquire_timeout} and {max_waiting}",
    "ping": CHECKED,
    "timeout": "use {acquire_timeout}, {connect_timeout} or {read_timeout}",
    "max_idle_time": "use {max_idle}",
    "reset_session": "use {reset}=session",
    # the drivers'
    **dict.fromkeys(("uri", "dsn", "conninfo", "database_url"), "use {url}"),
    **dict.fromkeys(("username", "passwd", "database", "db", "dbname"), IN_URL),
    **dict.fromkeys(("charset", "client_encoding", "cursorclass", "row_factory"), IN_QUERY),
    **dict.fromkeys(("unix_socket", "local_infile", "target_session_attrs", "load_balance_hosts"), IN_QUERY),
    **dict.fromkeys(("hosts", "servers", "failover", "failover_hosts"), SEVERAL),
    "init_command": "use {init_sql}",
    **dict.fromkeys(("ssl", "sslmode", "ssl-mode", "ssl_disabled", "usessl", "sslaccept"), "use {ssl_mode}"),
    **dict.fromkeys(("reconnect", "autoreconnect", "auto_reconnect"), "wsgidb connects again by itself"),
}
"""By name in lower case. An option in braces becomes what the user would write, such as WSGIDB_POOL_SIZE."""


def elsewhere(name: str, shown: Callable[[str], str] = str) -> str | None:
    """What to use in place of an option of another library, or None if the name is not one. `shown` turns the name of
    an option into what the user would write, such as the name of an environment variable."""
    hint = ELSEWHERE.get(name.lower())
    return hint and hint.format_map({option: shown(option) for option in OPTIONS})


def unknown(name: str, shown: Callable[[str], str] = str) -> ConfigError:
    """The error for a name that is not an option of wsgidb."""
    hint = elsewhere(name, shown)
    if hint is not None:
        return ConfigError(f"unknown option {shown(name)!r}: {hint}")
    near = nearest(name.lower().removeprefix("sqlalchemy_"), OPTIONS, shown=shown)
    return ConfigError(f"unknown option {shown(name)!r}" + (near or f"; known: {', '.join(OPTIONS)}"))


def unknown_to_driver(name: str, known: set[str], driver: str) -> ConfigError:
    """The error for a name in the url's query or in connect_args that is not an option of the driver."""
    if name.lower() in OPTIONS:
        return ConfigError(
            f"{name}: is an option of wsgidb and not of {driver}; give it as a keyword argument or environment "
            "variable, not in the url or connect_args",
            entry="config-driver-options",
        )
    if ELSEWHERE.get(name.lower()) not in (None, IN_URL, IN_QUERY):
        return ConfigError(f"{name}: {driver} has no such option; {elsewhere(name)}", entry="config-driver-options")
    encoding = next((each for each in ("charset", "client_encoding") if each in known), None)
    ours = {} if encoding is None else dict.fromkeys({"charset", "client_encoding", "encoding"} - {encoding}, encoding)
    return ConfigError(
        f"{name}: {driver} has no such option{nearest(name, known, ours)}", entry="config-driver-options"
    )


def refuse_owned(name: str, owned: dict[str, str]) -> None:
    """Raise ConfigError for an option of the driver for which wsgidb has an option of its own."""
    if name in owned:
        instead = f"use wsgidb's option {owned[name]}" if owned[name] else "wsgidb needs it for itself"
        raise ConfigError(
            f"{name}: cannot be given in the url or connect_args; {instead}", entry="config-driver-options"
        )
