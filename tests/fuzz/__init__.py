"""Hostile bytes against everything that reads bytes of others; see `__main__`."""
