"""Image sets too large for memory, read image by image."""
