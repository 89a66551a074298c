"""Plain functions as rewards, in a user's own file."""


def wants_topic(response: str, topic: str) -> float:
    """A rule that cannot do without a column of its own."""
    return float(len(response) + len(topic))
