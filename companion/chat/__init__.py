"""One turn of a conversation: search, think, answer, keep."""
