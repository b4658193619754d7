"""Search methods as values: what they put into the plug-in points of a search, one table for each point."""
