"""What is on its way in is counted to the byte, however often it is let go of."""

import pytest

from cytodistill.serve.errors import Busy
from cytodistill.serve.incoming import Incoming


def test_room_is_taken_and_given_back(tmp_path):
    incoming = Incoming(tmp_path / "incoming")
    first, second = incoming.folder / "a", incoming.folder / "b"
    incoming.claim(first, 60, 100)
    incoming.claim(first, 40, 100)
    with pytest.raises(Busy) as told:
        incoming.claim(second, 1, 100)
    assert (told.value.status_code, incoming.size) == (503, 100)
    first.write_bytes(b"a" * 100)
    for _ in range(2):
        incoming.remove(first)
    assert not first.exists()
    incoming.remove(second)
    assert incoming.size == 0
    incoming.claim(second, 100, 100)
