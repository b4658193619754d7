"""Cells as text, and the sizes of networks of them; `python -m jdarts.describe` is the command."""

from jdarts.describe.convolutional import Description, describe
from jdarts.describe.recurrent import RecurrentDescription, describe_recurrent

__all__ = ["Description", "RecurrentDescription", "describe", "describe_recurrent"]
