"""The original files of image sets, as their authors publish them: finding, downloading and reading."""
