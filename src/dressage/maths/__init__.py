"""Pure functions: no I/O, nothing of ours but each other."""
