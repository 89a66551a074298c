"""Formats of published judges as plain functions: text -> what it says. One module a format; no model and no torch in them.

What they share: nothing raises, whatever the text; the last verdict counts; a value is never one that the text does not contain;
and where a part is missing it is None, not a default.
"""
