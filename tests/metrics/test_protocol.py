"""The line that stands next to a score."""

from __future__ import annotations

import json

from atrous.metrics import Protocol


def test_plain_protocol() -> None:
    protocol = Protocol("voc", "val", 16, precision="bf16-mixed", checkpoint="best.ckpt")
    assert str(protocol) == "voc val · OS 16 · scale 1 · no flip · whole image · no CRF · bf16-mixed · best.ckpt"


def test_everything_switched_on() -> None:
    protocol = Protocol(
        "cityscapes", "test", 8, scales=(0.5, 1.0, 1.75), flip=True, window=(513, 769), crf="CRF 4/67/3"
    )
    assert str(protocol) == "cityscapes test · OS 8 · scales 0.5, 1, 1.75 · flip · window 513×769 · CRF 4/67/3"


def test_round_trip_through_json() -> None:
    protocol = Protocol(
        "camvid",
        "val",
        None,
        scales=(0.75, 1.0),
        window=(360, 480),
        stretched=(257, 321),
        padded=(513, 1025),
        trimap_width=4,
        precision="32-true",
    )
    assert "stretched to 257×321 · padded to 513×1025 · trimap of 4 px · no CRF" in str(protocol)
    assert Protocol.from_dict(json.loads(json.dumps(protocol.to_dict()))) == protocol


def test_a_protocol_written_before_a_field_existed() -> None:
    """Checkpoints and summaries keep protocols; the newer fields then mean what the older version did."""
    protocol = Protocol("voc", "val", 16)
    newer = ("padded", "stretched", "precision")
    older = {name: value for name, value in protocol.to_dict().items() if name not in newer}
    assert Protocol.from_dict(older) == protocol


def test_shrunk_images_are_said() -> None:
    protocol = Protocol("camvid", "val", 16, shrink=2)
    assert str(protocol).startswith("camvid val · at 1/2 of the size · OS 16")
    assert Protocol.from_dict(protocol.to_dict()) == protocol
    before = protocol.to_dict()
    del before["shrink"]  # files from before it
    assert Protocol.from_dict(before).shrink == 1
