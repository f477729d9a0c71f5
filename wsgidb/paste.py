"""Configuration by PasteDeploy: ``use = egg:wsgidb`` in a ``[filter:…]`` or ``[filter-app:…]`` section.

The section's keys are the options described in docs/options.md. If they give neither url nor creator, the environment
is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .wsgi.middleware import App, DatabaseMiddleware


def filter_factory(global_conf: dict[str, str], **local_conf: Any) -> Callable[[App], DatabaseMiddleware]:
    """The entry point ``paste.filter_factory``. `local_conf` is the section; `global_conf`, which is the file's
    [DEFAULT] section, is ignored. The function that it returns raises ConfigError."""

    def wrap(app: App) -> DatabaseMiddleware:
        return DatabaseMiddleware(app, **local_conf)

    return wrap


def filter_app_factory(app: App, global_conf: dict[str, str], **local_conf: Any) -> DatabaseMiddleware:
    """The entry point ``paste.filter_app_factory``, with the same arguments. Raises ConfigError."""
    return DatabaseMiddleware(app, **local_conf)
