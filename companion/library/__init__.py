"""Documents become findable: files are read, cut into passages, indexed and searched."""
