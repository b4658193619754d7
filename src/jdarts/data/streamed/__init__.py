"""Image sets that no memory holds, read image by image."""
