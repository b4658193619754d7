"""Text corpora: token streams in parallel columns, which are read segment by segment."""

from jdarts.data.text.catalogue import SOTU, TEXTS
from jdarts.data.text.corpus import END, UNKNOWN, TextCorpus, corpus_of_lines, unigram_perplexity
from jdarts.data.text.loading import load_text
from jdarts.data.text.preparation import prepare_text
from jdarts.data.text.streams import TextSegment, columns, segment, segment_lengths

__all__ = [
    "END",
    "SOTU",
    "TEXTS",
    "UNKNOWN",
    "TextCorpus",
    "TextSegment",
    "columns",
    "corpus_of_lines",
    "load_text",
    "prepare_text",
    "segment",
    "segment_lengths",
    "unigram_perplexity",
]
