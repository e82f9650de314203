"""How much memory the transformers engine takes for free where it runs on processors."""

from __future__ import annotations

from pathlib import Path

from tracemend.adapters.transformers_loading import available_bytes


def test_what_the_file_cache_would_give_back_counts_as_available(tmp_path: Path) -> None:
    table = tmp_path / "meminfo"
    table.write_text("MemTotal:       24000000 kB\nMemFree:          100000 kB\nMemAvailable:   17000000 kB\n")
    assert available_bytes(table) == 17_000_000 * 1024


def test_a_kernel_that_does_not_say_is_asked_for_its_free_pages(tmp_path: Path) -> None:
    assert available_bytes(tmp_path / "absent") > 0
