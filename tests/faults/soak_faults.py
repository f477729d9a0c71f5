"""What is done to a soak's server, at random: each returns what undoes it."""

from __future__ import annotations

from collections.abc import Callable

from faults.soak import THREADS, Soak
from faults.soak_rows import Fault

Heal = Callable[[], None]


def nothing() -> None:
    pass


def kill_all(soak: Soak) -> Heal:
    soak.kill(soak.sessions())
    return nothing


def kill_one(soak: Soak) -> Heal:
    soak.kill(soak.sessions()[:1])
    return nothing


def restart(soak: Soak) -> Heal:
    soak.server.stop()

    def heal() -> None:
        soak.server.start()
        soak._log_in()

    return heal


def crash(soak: Soak) -> Heal:
    soak.server.kill()

    def heal() -> None:
        soak.server.start()
        soak._log_in()

    return heal


def freeze(soak: Soak) -> Heal:
    soak.server.freeze()
    return soak.server.thaw


def lock_out(soak: Soak) -> Heal:
    soak.admin("ALTER USER app@'%' ACCOUNT LOCK")
    soak.kill(soak.sessions())
    return lambda: soak.admin("ALTER USER app@'%' ACCOUNT UNLOCK")


def grant_two(soak: Soak) -> Heal:
    soak.admin("ALTER USER app@'%' WITH MAX_USER_CONNECTIONS 2")
    soak.kill(soak.sessions())
    return lambda: soak.admin("ALTER USER app@'%' WITH MAX_USER_CONNECTIONS 0")


def read_only(soak: Soak) -> Heal:
    soak.admin("SET GLOBAL read_only = 1")
    return lambda: soak.admin("SET GLOBAL read_only = 0")


REFUSED = frozenset({"503"})
FAULTS = (
    Fault(kill_all, THREADS, REFUSED),
    Fault(kill_one, 1),
    Fault(restart, 2 * THREADS, REFUSED),  # twice: a connection may be made while it shuts down
    Fault(crash, THREADS, REFUSED),
    Fault(freeze, THREADS, REFUSED),
    Fault(lock_out, THREADS, REFUSED),
    Fault(grant_two, THREADS, REFUSED),
    Fault(read_only, 0, frozenset({"error 1290"})),
)
