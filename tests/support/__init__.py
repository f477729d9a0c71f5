"""What the tests stand on: a real server, a hostile network, a fake driver and a clock.

Nothing in here imports the package under test, so that a bug there cannot make its own test pass.
"""
