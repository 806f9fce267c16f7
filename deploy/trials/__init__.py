"""Trials: what the docs say of many containers and many hosts, seen to be true on a real machine."""
