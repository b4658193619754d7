"""Search for convolutional cells on images; `python -m jdarts.search` is its command."""

from jdarts.runs import Interrupted
from jdarts.search.config import SearchConfig
from jdarts.search.loop import search
from jdarts.search.seeds import search_seeds
from jdarts.search.summary import SearchResult

__all__ = ["Interrupted", "SearchConfig", "SearchResult", "search", "search_seeds"]
