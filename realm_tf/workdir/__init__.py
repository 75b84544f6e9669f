"""The directory of one run."""
