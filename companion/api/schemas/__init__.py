"""The shapes of requests and answers, one file for each noun, and only those."""
