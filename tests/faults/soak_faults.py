"""What is done to a soak's server, at random: each returns what undoes it."""

from __future__ import annotations

from collections.abc import Callable

from faults.soak import Soak

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


FAULTS = (kill_all, kill_one, restart, crash, freeze, lock_out, grant_two, read_only)
