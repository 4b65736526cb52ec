import io

import numpy
import pytest

from backlit.data.readers import Reader


def test_each_reader_reads_standard_input_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[io.BytesIO] = []

    def read_stdin() -> bytes:
        content = io.BytesIO()
        numpy.save(content, numpy.full((3, 28, 28), len(reads), numpy.uint8))
        reads.append(content)
        return content.getvalue()

    monkeypatch.setattr("backlit.data.readers.read_stdin", read_stdin)
    for number in range(2):
        ((rows, images),) = Reader((1, 28, 28), 10).batches(["-"])
        assert len(rows) == 3
        assert set(images.flatten().tolist()) == {number}
    assert len(reads) == 2
