"""The adapters that are served: loaded, named, replaced and watched."""
