"""Where verdicts are kept."""

from plaudit.store.store import Record, RewardEntry, Store, default_store_url

__all__ = ["Record", "RewardEntry", "Store", "default_store_url"]
