"""Tasks: prompts whose spans are labelled by construction, never searched."""
