"""Pure functions over types: no clock, no files, no network, no randomness."""
