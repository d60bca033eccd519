"""Where the processes that the tests start find their modules."""

from pathlib import Path

ROOT = str(Path(__file__).parents[2])
"""The directory to run ``python -m tests.faults.…`` in."""
