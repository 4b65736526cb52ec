"""No test of a config downloads or unpacks anything."""

import pytest


@pytest.fixture(autouse=True)
def offline(data_here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def reject(*arguments: object, **more: object) -> None:
        raise RuntimeError("no network in tests")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", reject)
