"""What needs more than one database server."""
