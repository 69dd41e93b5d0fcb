"""Plain data that every part shares: no input or output, only the standard library and msgspec.

Types are frozen `msgspec.Struct`s, so the same declaration is the value in memory, the JSON on
the controller's socket, the TOML on disk and the JSON schema. Import them from their modules.
"""
