"""The command line: `python -m wsgidb`."""
