"""Work while nobody needs the machine."""
