"""Parts of `workbench calibrate`: every head alone, lists on held-out samples, the result and how it is shown."""
