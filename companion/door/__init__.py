"""What stands before the page and the interface: a guard against other sites, and a gate for people."""
