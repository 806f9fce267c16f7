"""Retention: what no job needs any longer is removed from the blob store, by a process of its own."""
