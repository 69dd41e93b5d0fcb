"""Servers and the runtimes that they run on."""
