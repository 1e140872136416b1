"""Records of batches in a SQLite file and a folder, for the processes of one machine."""
