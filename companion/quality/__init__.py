"""How good the search is, on judged test sets."""
