"""Everything that measures a reward: agreement, order and length preferences, and the report that shows them."""
