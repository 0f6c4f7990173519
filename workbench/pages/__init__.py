"""One offline page with inline pictures: no library, no network."""
