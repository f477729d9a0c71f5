"""A configuration of gunicorn's that patches before the application is loaded, for --preload with gevent workers."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()
