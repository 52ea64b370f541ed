"""Independent prompts at half price: a file of rows and a template become batches, and each row gets exactly one outcome.

A run is a log of its own (`log`), folded into a state (`state`); a pure function says what is next (`decide`), and the
shell does it (`run`). What is written before each call makes a run resumable at any point, by anybody who can read the log.
"""
