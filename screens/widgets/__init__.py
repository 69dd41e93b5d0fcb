"""Widgets that know nothing of models and servers."""
