"""The files in which the authors of image sets publish them: found, downloaded and read."""
