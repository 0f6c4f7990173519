"""Parts of the choice of a cut."""
