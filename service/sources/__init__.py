"""Sources of files, for adapters and models alike: addresses, reading, resumable downloads."""
