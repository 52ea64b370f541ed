"""Data that ships with agentloop: the dated table of models and prices."""
