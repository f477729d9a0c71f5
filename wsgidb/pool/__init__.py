"""The pool: what acquires, validates and releases connections, and the state of one process."""
