"""Tests of Pinghub; ``python -m twisted.trial tests`` runs them all."""
