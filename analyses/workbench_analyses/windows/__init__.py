"""Parts of the fit of windows."""
