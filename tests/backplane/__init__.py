"""Several servers that share their channels through a real Redis."""
