"""Artifacts that many comparisons share; written once."""

from __future__ import annotations

from pathlib import Path

import pytest
from compared_networks import SEEDS, seeded, trained, write


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("compared") / "original"
    write(trained(), directory)
    return directory


@pytest.fixture(scope="session")
def differing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The directory of each seeded difference; written when it is first asked for."""

    class Written(dict[str, Path]):
        def __missing__(self, name: str) -> Path:
            directory = tmp_path_factory.mktemp("compared") / "seeded"
            write(seeded(name), directory, without=SEEDS[name].without)
            self[name] = directory
            return directory

    return Written()
