"""The memory of a batch run grows with its rows, but does not hold them."""

from pathlib import Path

import pytest

from tests.bench.memory import peak_bytes

FEW, MANY = 1_000, 20_000
BYTES_A_ROW = 1_500
"""What a row may add to the peak. Its fields, its request and its answer together are three times that in memory."""


@pytest.mark.slow
def test_the_peak_grows_by_what_is_known_of_a_row_and_not_by_what_it_says(tmp_path: Path) -> None:
    few, many = (peak_bytes("-m", "tests.bench.batch_rows", str(n), str(_made(tmp_path / str(n)))) for n in (FEW, MANY))

    assert many - few < (MANY - FEW) * BYTES_A_ROW


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
