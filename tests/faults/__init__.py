"""What hostile, slow and broken peers do, against a Pinghub in a process of its own.

Every test measures, and asserts a bound on what it measured; the figures are printed as one
table at the end of the run. ``PINGHUB_FAULTS=full`` runs the long forms.
"""
