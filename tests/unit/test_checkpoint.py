"""Files are whole or absent, and damaged ones are refused."""

import pytest
import torch
from maskalign.checkpoint import load_tensors, load_weights, save_tensors
from maskalign.files import atomic, read_json, write_text
from torchvision.models import mnasnet0_5

TENSORS = {"w": torch.arange(40.0).view(5, 8), "mask": torch.tensor([True, False, True])}


def test_tensors_come_back_with_their_metadata(tmp_path):
    save_tensors(tmp_path / "a.safetensors", TENSORS, {"status": "completed"})
    tensors, metadata = load_tensors(tmp_path / "a.safetensors")
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[k], TENSORS[k]) for k in TENSORS)
    assert metadata == {"status": "completed"}


def test_any_flipped_bit_is_found(tmp_path):
    """In the header, in a tensor, in the metadata: never other content than was written."""
    file = tmp_path / "a.safetensors"
    save_tensors(file, TENSORS, {"status": "completed", "epoch": "3"})
    whole = file.read_bytes()
    for bit in range(0, 8 * len(whole), 3):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.safetensors: is damaged \(") as error:
            load_tensors(file)
        assert "\n" not in str(error.value)


def test_any_truncation_is_found(tmp_path):
    file = tmp_path / "a.safetensors"
    save_tensors(file, TENSORS)
    whole = file.read_bytes()
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"is damaged \("):
            load_tensors(file)


def test_a_file_without_a_checksum_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file(TENSORS, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="checksum differs"):
        load_tensors(tmp_path / "a.safetensors")


@pytest.mark.parametrize("text", ["", "{", '{"a": 1', "\ufeff{}"])
def test_a_damaged_json_file_is_one_line(tmp_path, text):
    (tmp_path / "r.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"r\.json: is damaged \(") as error:
        read_json(tmp_path / "r.json")
    assert "\n" not in str(error.value)


def test_a_failed_write_leaves_what_was_there(tmp_path):
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with pytest.raises(OSError, match="full"), atomic(file, tmp_path / "b.txt") as temporary:
        temporary.write_text("new", encoding="utf-8")
        raise OSError("full")
    assert [f.name for f in tmp_path.iterdir()] == ["a.txt"]
    assert file.read_text() == "old"


def test_what_was_there_is_kept(tmp_path):
    for text in ("1", "2", "3"):
        with atomic(tmp_path / "a.txt", tmp_path / "before.txt") as temporary:
            temporary.write_text(text)
    assert [(tmp_path / f).read_text() for f in ("a.txt", "before.txt")] == ["3", "2"]


def test_weights_of_a_file_are_loaded_into_a_module_that_checks_their_version(tmp_path):
    """The stem of MNASNet's first version was another, so it refuses weights without a version."""
    nets = [mnasnet0_5(num_classes=3) for _ in range(2)]
    save_tensors(tmp_path / "a.safetensors", nets[0].state_dict())
    tensors, _ = load_tensors(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="version"):
        nets[1].load_state_dict(dict(tensors))
    load_weights(nets[1], tensors)
    assert all(torch.equal(v, tensors[k]) for k, v in nets[1].state_dict().items())
    del tensors["classifier.1.bias"]
    with pytest.raises(RuntimeError, match=r"Missing key.*classifier\.1\.bias"):
        load_weights(nets[1], tensors)
