"""Leaves: independent tasks of one session, each done by a session of its own."""
