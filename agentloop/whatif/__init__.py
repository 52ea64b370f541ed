"""The same sessions under other policies, models, lifetimes and gaps: what they would cost, and what they would lose."""
