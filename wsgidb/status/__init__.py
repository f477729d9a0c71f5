"""The status page: a WSGI application that shows who uses the connections, and what should be changed.

    from wsgidb.status import StatusApp

    status = StatusApp(database)    # mount it, or use the option `status` of the middleware

It needs Jinja2 (``pip install 'wsgidb[status]'``).
"""

from .app import StatusApp, from_this_machine

__all__ = ["StatusApp", "from_this_machine"]
