"""Which model takes which kind of step: a table with a reason in each row, and the evals that decide what stands in it."""
