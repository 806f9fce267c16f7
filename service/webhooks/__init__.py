"""Webhooks: the end of a job told to a URL of its caller's, by a process of its own."""
