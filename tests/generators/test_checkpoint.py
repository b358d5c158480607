"""Checkpoints: what was written is read, everything else is refused by name and version."""

import hashlib
import json

import pytest
import torch

from generators import checkpoint
from generators.checkpoint import CheckpointError

TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor([1, 2])}


@pytest.fixture
def written(tmp_path):
    checkpoint.write(tmp_path / "here", "flow", 2, {"options": {"k": 3}}, TENSORS)
    return tmp_path / "here"


def test_what_was_written_is_read(written):
    state, tensors = checkpoint.read(written, "flow", 2)
    assert state["options"] == {"k": 3}
    assert set(tensors) == {"a", "b"}
    assert torch.equal(tensors["b"], TENSORS["b"])


def test_the_same_state_gives_the_same_bytes(written, tmp_path):
    checkpoint.write(tmp_path / "again", "flow", 2, {"options": {"k": 3}}, dict(reversed(TENSORS.items())))
    for name in (checkpoint.STATE, checkpoint.WEIGHTS):
        assert (written / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_state_without_weights(tmp_path):
    checkpoint.write(tmp_path, "folder", 1, {"path": "x"})
    assert checkpoint.read(tmp_path, "folder", 1)[1] == {}
    assert not (tmp_path / checkpoint.WEIGHTS).exists()


def _newer(folder):
    state = json.loads((folder / "generator.json").read_text())
    (folder / "generator.json").write_text(json.dumps({**state, "format": 7}))


def _older(folder):
    state = json.loads((folder / "generator.json").read_text())
    (folder / "generator.json").write_text(json.dumps({**state, "format": 1}))


def _flipped(folder):
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(bytes(data))


def _cut(folder):
    data = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "generator.json").unlink(), ("no checkpoint", "generator.json")),
        (lambda f: (f / "generator.json").write_text('{"name": "flow"'), ("damaged", "line 1", "another copy")),
        (lambda f: (f / "generator.json").write_bytes(b"\xff"), ("damaged", "UTF-8", "another copy")),
        (lambda f: (f / "generator.json").write_text("[" * 100_000), ("damaged", "another copy")),
        (lambda f: (f / "generator.json").write_text("[]"), ("damaged", "name", "another copy")),
        (lambda f: (f / "generator.json").write_text('{"name": "flow"}'), ("damaged", "format", "another copy")),
        (lambda f: (f / "generator.json").write_text('{"name": "gan", "format": 2}'), ("'gan'", "'flow'")),
        (_newer, ("format 7", "2 at most", "update")),
        (_older, ("old format 1", "2 is needed")),
        (lambda f: (f / "weights.safetensors").unlink(), ("weights.safetensors", "another copy")),
        (_flipped, ("sha256",)),
        (_cut, ("damaged",)),
    ],
)
def test_anything_else_is_refused_by_name_and_version(written, damage, words):
    damage(written)
    with pytest.raises(CheckpointError) as error:
        checkpoint.read(written, "flow", 2)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)
    assert "Error(" not in str(error.value)


def test_a_folder_that_is_not_there_is_said_to_be_missing(tmp_path):
    with pytest.raises(CheckpointError, match="gone is no checkpoint: there is no such folder"):
        checkpoint.read(tmp_path / "gone", "flow", 2)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_not_finite_are_refused_by_file_and_tensor(tmp_path, value, kind):
    spoilt = torch.arange(6.0).to(kind)
    spoilt[4] = value
    checkpoint.write(tmp_path, "flow", 2, {}, {**TENSORS, "layers.0.weight": spoilt})
    with pytest.raises(
        CheckpointError, match=r"weights\.safetensors is damaged: tensor layers\.0\.weight holds numbers"
    ):
        checkpoint.read(tmp_path, "flow", 2)


def test_only_nan_may_stand_for_an_unknown_value_and_only_where_that_is_said(tmp_path):
    checkpoint.write(tmp_path / "nan", "flow", 2, {}, {"known": torch.tensor([1.0, torch.nan])})
    _, tensors = checkpoint.read(tmp_path / "nan", "flow", 2, gaps=("known",))
    assert tensors["known"].isnan().tolist() == [False, True]
    checkpoint.write(tmp_path / "inf", "flow", 2, {}, {"known": torch.tensor([torch.inf, torch.nan])})
    with pytest.raises(CheckpointError, match="not finite"):
        checkpoint.read(tmp_path / "inf", "flow", 2, gaps=("known",))


def test_what_does_not_fit_is_said_in_one_line(tmp_path):
    with pytest.raises(CheckpointError) as error, checkpoint.fitting(tmp_path, "flow"):
        torch.nn.Linear(2, 2).load_state_dict({})
    said = str(error.value)
    assert f"the weights of {tmp_path} do not fit" in said
    assert "take another copy" in said
    assert "\n" not in said


def test_a_pickle_is_never_opened(written, tmp_path):
    """A weights file that is a pickle is refused before anything of it runs."""
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    torch.save(Evil(), written / "weights.safetensors")
    state = json.loads((written / "generator.json").read_text())
    state["weights_sha256"] = hashlib.sha256((written / "weights.safetensors").read_bytes()).hexdigest()
    (written / "generator.json").write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.read(written, "flow", 2)
    assert not marker.exists()
