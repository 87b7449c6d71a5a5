"""Files become text with places: page, heading, time.

Offers the parent's side. It does not import a single parser: those live in the child, behind
limits, because files come from strangers.
"""

from companion.library.readers.cleaning import clean_name
from companion.library.readers.formats import SUFFIXES
from companion.library.readers.process import ReaderProcess

__all__ = ["SUFFIXES", "ReaderProcess", "clean_name"]
