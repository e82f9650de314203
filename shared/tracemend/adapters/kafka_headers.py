"""Records with header names that are no UTF-8: read as unreadable ones instead of stopping their partition.

Any producer may write such names. kafka-python decodes them strictly and calls the whole batch corrupt, again and
again, so that one record would hold up everything behind it. It takes no class for batches from outside; `tolerate`
puts ours in its place, once for the process, and `kafka_clients` calls it for every consumer.
"""

from __future__ import annotations

from functools import cache
from typing import Any

UNREADABLE = "tm_unreadable"
"""Header of a record that could not be read, whose body is all that it held: key, value and headers, as encoded."""


@cache
def tolerate() -> None:
    """From now on consumers of this process get an unreadable record where kafka-python gives up."""
    from kafka.record import memory_records
    from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
    from kafka.record.util import decode_varint

    class TolerantBatch(DefaultRecordBatch):  # type: ignore[misc]  # kafka-python has no types
        _pos: int

        def _read_msg(self) -> Any:
            try:
                return super()._read_msg()
            except UnicodeDecodeError:
                length, start = decode_varint(self._buffer, self._pos)
                _, pos = decode_varint(self._buffer, start)  # attributes, of which there are none
                elapsed_ms, pos = decode_varint(self._buffer, pos)
                number, pos = decode_varint(self._buffer, pos)
                self._pos = start + length
                return DefaultRecord(
                    length,
                    self.base_offset + number,
                    self.first_timestamp + elapsed_ms,
                    self.timestamp_type,
                    None,
                    bytes(self._buffer[pos : self._pos]),
                    [(UNREADABLE, b"header_not_utf8")],
                )

    memory_records.DefaultRecordBatch = TolerantBatch
