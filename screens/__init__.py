"""The Textual app: a thin client of the controller that renders its state and sends commands.

Installed as `meshtui.screens`. Imports of siblings are relative, so that the mapping of this
folder into the package is seen in one place only. A screen is added by one file and one line
in `registry`.
"""
