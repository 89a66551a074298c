"""Reading only: files, folders, hub sets and standard input, in any recognised layout, as a stream of `Row`s."""

from plaudit.data.fields import FieldMap
from plaudit.data.files import read_records, read_rows
from plaudit.data.row import Row, rows_to_batch
from plaudit.data.stream import RowStream

__all__ = ["FieldMap", "Row", "RowStream", "read_records", "read_rows", "rows_to_batch"]
