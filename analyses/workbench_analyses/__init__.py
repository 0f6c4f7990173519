"""Analyses: one file a research question, composed from the core."""
