"""How gunicorn serves the guest book: `gunicorn --chdir examples/guestbook 'guests:create_app()'`."""

bind = "127.0.0.1:8000"  # behind nginx or another proxy that has the certificate
workers = 2
worker_class = "gthread"
threads = 8  # with WSGIDB_POOL_SIZE=8 nobody waits for a connection; the server then needs 2 × 8 of them
preload_app = True  # wsgidb opens no connection before the fork, and none of the parent's is used after it
