"""The WSGI protocol (PEP 3333), and nothing else."""
