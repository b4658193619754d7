"""Image sets of the user's own: a path, or the name of any set that tensorflow-datasets has prepared, gives an image set."""
