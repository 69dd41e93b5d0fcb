"""The connections that are there from the start."""
