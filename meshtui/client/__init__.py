"""The typed asynchronous client of the controller: the only door for screens and commands.

Importing it is cheap: the HTTP library is loaded when a connection is made, in a thread.
"""

from meshtui.client.api import ControllerClient, VersionMismatch

__all__ = ["ControllerClient", "VersionMismatch"]
