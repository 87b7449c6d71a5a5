"""What we remember: sessions, documents, passages, vectors and settings in one SQLite file.

Takes and gives domain values; rows never leave this folder. It does not know who asks, what
a vector means, or where an answer is shown.
"""
