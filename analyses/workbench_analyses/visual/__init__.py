"""The visual scan in parts: what is shown, its work and its views."""
