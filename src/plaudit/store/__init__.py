"""Where verdicts are kept."""

from plaudit.store.buffered import BufferedStore
from plaudit.store.copying import Copied, copy_verdicts
from plaudit.store.errors import StoreUnavailable
from plaudit.store.records import Record, RewardEntry
from plaudit.store.store import Store
from plaudit.store.urls import default_store_url

__all__ = [
    "BufferedStore",
    "Copied",
    "Record",
    "RewardEntry",
    "Store",
    "StoreUnavailable",
    "copy_verdicts",
    "default_store_url",
]
