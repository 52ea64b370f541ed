"""Frozen data: what stands in a log, what a request carries, what a bill counts."""
