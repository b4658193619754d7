"""Search for a recurrent cell on text; `python -m jdarts.language.search` is its command."""

from jdarts.language.search.config import LanguageSearchConfig
from jdarts.language.search.loop import search_language
from jdarts.language.search.summary import LanguageSearchResult
from jdarts.runs import Interrupted

__all__ = ["Interrupted", "LanguageSearchConfig", "LanguageSearchResult", "search_language"]
