"""The Connections screen: where models may run, with which stack, and which ones."""
