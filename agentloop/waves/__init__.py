"""Whole sessions in waves: many of them wait for the model, and one batch asks for all, at half price."""
