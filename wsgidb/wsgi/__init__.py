"""The middleware: everything that knows the WSGI protocol (PEP 3333)."""
