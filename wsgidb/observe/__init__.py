"""Watching a Database from outside: metrics. Nothing of the pool knows of it, and nothing here can fail a request."""
