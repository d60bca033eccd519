"""Measurements of Pinghub; each module runs with ``python -m benchmarks.NAME``."""
