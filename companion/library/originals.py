"""The originals: how the file of a document is named in its folder.

A name is made of what the document's row says, so that a moved data folder keeps working. It
does not know who reads or removes a file.
"""

from __future__ import annotations

import os


def original_name(doc_id: str, content_hash: str, name: str) -> str:
    """File name of a document's original; another content has another one."""
    return f"{doc_id}-{content_hash[:16]}{suffix(name)}"


def suffix(name: str) -> str:
    """The end of a file's name, for whoever looks into the folder."""
    return os.path.splitext(name)[1].lower()[:16]
