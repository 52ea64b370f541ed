"""Figures that a user can measure: `make bench`."""
