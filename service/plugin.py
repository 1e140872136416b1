"""The names that plugins may import (docs/plugins.md)."""

from service.runtime.parts import Host, OwnBodyReader, Plugin, Runtime, Served
from service.settings.adapters import PluginSection

__all__ = ["Host", "OwnBodyReader", "Plugin", "PluginSection", "Runtime", "Served"]
