"""The hosts of a url and of connect_args, and the options that choose among them.

The names of the two options, their values, and how lists of hosts and ports are written are those of libpq:
https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..config import values
from ..config.url import Host, Url
from ..errors import ConfigError

ANY, PREFER_STANDBY = "any", "prefer-standby"
TARGET, BALANCE = "target_session_attrs", "load_balance_hosts"
CHOICES = {
    TARGET: values.choice(ANY, "read-write", "read-only", "primary", "standby", PREFER_STANDBY),
    BALANCE: values.choice("disable", "random"),
}
"""The options that choose among hosts."""

TARGETS = {
    "read-write": ("read_only", False, "the server is read-only"),
    "read-only": ("read_only", True, "the server is not read-only"),
    "primary": ("standby", False, "the server is a standby"),
    "standby": ("standby", True, "the server is not a standby"),
}
"""What the values of target_session_attrs ask for, and what is said of a server that is otherwise."""


class Server(NamedTuple):
    """What a server says about itself. One that is not ready for statements says so by an error."""

    read_only: bool
    standby: bool

    def unfit(self, target: str) -> str | None:
        """Why the server is not what target_session_attrs asks for, or None if it is."""
        name, wanted, otherwise = TARGETS.get(target, ("", None, None))
        return otherwise if name and getattr(self, name) is not wanted else None


class UnfitServerError(Exception):
    """A server that answers, but is not what target_session_attrs asks for."""


class NoHostError(Exception):
    """None of several hosts gave a connection. The text has the reason of each."""

    exceptions: tuple[Exception, ...] = ()
    """The hosts' errors."""


class Place(NamedTuple):
    """One host."""

    name: str
    """What errors and log lines call it."""
    arguments: dict[str, Any]
    """The driver's arguments for it."""


def in_arguments(url: Url) -> dict[str, Any]:
    """The url's hosts and ports as arguments of a driver: with commas, as libpq has them."""
    if not any(each.port for each in url.hosts):
        return {"host": ",".join(each.name for each in url.hosts) or None, "port": None}
    ports = ",".join(str(each.port or "") for each in url.hosts)
    return {
        "host": ",".join(each.name for each in url.hosts) or None,
        "port": ports if len(url.hosts) > 1 else url.hosts[0].port,
    }


def chosen(name: str, value: Any) -> str:
    """The value of one of `CHOICES`. Raises ConfigError."""
    try:
        return str(CHOICES[name](value))
    except (ValueError, TypeError) as error:
        hint = error.args[0] if error.args else ""
        raise ConfigError(
            f"{name}: takes {CHOICES[name].takes}{values.quoted(value)}{hint}", entry="config-url"
        ) from None


def places(arguments: dict[str, Any], usual_port: int, socket_argument: str | None = None) -> list[Place]:
    """The hosts in a driver's arguments, which are left as they are. `socket_argument` is the name of the one for a
    Unix socket's path, if there is one. Raises ConfigError for lists that do not match."""
    given = [name for name in ("host", "hostaddr", "port") if arguments.get(name) is not None]
    lists = {name: str(arguments[name]).split(",") for name in given}
    names = lists.get("host") or lists.get("hostaddr") or [""]
    if socket_argument is not None and arguments.get(socket_argument):
        if len(names) > 1:
            instead = "give the socket's path as one of them, with %2F for /"
            raise ConfigError(f"{socket_argument}: cannot be given beside several hosts; {instead}", entry="config-url")
        return [Place(str(arguments[socket_argument]), arguments)]
    addresses, ports = lists.get("hostaddr", []), lists.get("port", [])
    if addresses and len(addresses) != len(names):
        raise ConfigError(
            f"hostaddr: takes one address for each host, got {len(addresses)} for {len(names)}", entry="config-url"
        )
    if len(ports) > 1 and len(ports) != len(names):
        raise ConfigError(
            f"port: takes one port, or one for each host, got {len(ports)} for {len(names)}", entry="config-url"
        )
    found = []
    for position, name in enumerate(names):
        if not name and len(names) > 1:
            raise ConfigError(f"host: host {position + 1} of {len(names)} is empty", entry="config-url")
        own: dict[str, Any] = {"host": name} if "host" in lists else {}
        if addresses:
            own["hostaddr"] = addresses[position]
        port = _port(ports[min(position, len(ports) - 1)]) if ports else None
        if ports:
            own["port"] = port
        shown = str(Host(name, port or usual_port)).replace("%2F", "/")
        if socket_argument is not None and name.startswith("/"):
            own, shown = {"host": None, "port": None, socket_argument: name}, name
        found.append(Place(shown, {**arguments, **own}))
    if len({each.name for each in found}) < len(found):
        raise ConfigError("host: two of the hosts are the same", entry="config-url")
    return found


def _port(text: str) -> int | None:
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"port: takes whole numbers{values.quoted(text)}", entry="config-url") from None
