"""The compatibility checker: does a model run, where, and in how much memory."""
