"""The lease: the proxy that a handler sees in place of the driver's connection."""
