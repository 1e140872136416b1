"""What a plugin imports (docs/plugins.md)."""

from service.runtime.parts import Host, OwnBodyReader, Plugin, Runtime, Served

__all__ = ["Host", "OwnBodyReader", "Plugin", "Runtime", "Served"]
