"""Files and folders that others may have changed, and files that are written whole or not at all."""
