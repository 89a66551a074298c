"""Shared prefixes, computed once."""
