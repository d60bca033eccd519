"""Pinghub behind real proxies, started from the very files in ``deploy``."""
