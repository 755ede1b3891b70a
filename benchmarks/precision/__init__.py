"""Half precision on labelled photos: `make precision`."""
