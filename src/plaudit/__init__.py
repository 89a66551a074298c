"""plaudit gives any generator a reward that can be built, trusted and optimised against."""

__version__ = "0.1.0"
