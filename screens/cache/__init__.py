"""The model cache: what is in it, what goes on with it, and what can be done about it."""
