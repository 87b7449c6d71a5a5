"""Everything that matters in one file, and the way back."""
