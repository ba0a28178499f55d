"""A made model is a real one: the hub's own libraries open it, and nothing half-made is left."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import pickle
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads import errors
from workloads.errors import (
    ModelError,
    ModelFolderTaken,
    ModelLibrariesMissing,
    ModelUnwritable,
    UnknownPreset,
)
from workloads.model_maker import MARKER, ensure_model, make_model
from workloads.model_shape import PRESETS, ModelShape
from workloads.params import MadeModel

SMALL = ModelShape(
    vocab_size=512,
    hidden_size=64,
    intermediate_size=96,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    max_position_embeddings=256,
)


def _hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(make_model(tmp_path_factory.mktemp("models") / "tiny").path)


@pytest.mark.parametrize(
    ("preset", "num_parameters", "size_bytes"),
    [
        ("tiny-llama", 4_999_424, 9_998_848),
        ("mini-llama", 31_597_056, 63_194_112),
        ("small-llama", 254_313_472, 508_626_944),
    ],
)
def test_presets_have_the_sizes_they_are_known_for(
    preset: str, num_parameters: int, size_bytes: int
) -> None:
    assert PRESETS[preset].num_parameters == num_parameters
    assert PRESETS[preset].size_bytes == size_bytes


def test_parameters_are_counted_as_the_arithmetic_of_a_llama_has_it() -> None:
    attention = 64 * 64 * 2 + 64 * 32 * 2  # q and o; k and v with 2 of 4 heads
    layer = attention + 3 * 64 * 96 + 2 * 64
    assert SMALL.num_parameters == 2 * 512 * 64 + 2 * layer + 64


def test_same_seed_same_bytes_in_another_process_other_seed_other_bytes(tmp_path: Path) -> None:
    here = make_model(tmp_path / "a", SMALL, seed=7)
    code = (
        "import sys; from workloads.model_maker import make_model\n"
        "from workloads.model_shape import ModelShape\n"
        f"make_model(sys.argv[1], {SMALL!r}, seed=7)"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "b")], check=True, cwd=root)
    other = make_model(tmp_path / "c", SMALL, seed=8)
    assert _hashes(tmp_path / "a") == _hashes(tmp_path / "b")
    assert _hashes(tmp_path / "a").items() >= dict(here.files).items()
    assert here.files["model.safetensors"] != other.files["model.safetensors"]
    assert here.files["tokenizer.json"] != other.files["tokenizer.json"]


def test_the_hub_libraries_load_it_whole_and_it_generates(tiny: Path, one_thread: None) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        tiny, output_loading_info=True
    )
    assert not any(report.values())
    assert model.dtype == torch.bfloat16
    shape = PRESETS["tiny-llama"]
    assert sum(p.numel() for p in model.parameters()) == shape.num_parameters
    spread = model.model.layers[0].self_attn.q_proj.weight.float().std().item()
    assert spread == pytest.approx(0.02, rel=0.05)

    torch.manual_seed(0)
    prompt = torch.arange(300, 332).unsqueeze(0)
    output = model.generate(prompt, max_new_tokens=200, do_sample=True, temperature=1.0)
    made = output[0, 32:].tolist()
    assert len(made) == 200  # no token ends it
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    assert len(set(made)) > 50
    texts = [tokenizer.decode([token]) for token in made]
    assert all(texts)
    assert not any("\ufffd" in text for text in texts)
    assert not set(made) & set(tokenizer.all_special_ids)


@pytest.mark.parametrize("text", ["Hello, world! 12", "ü € 日本 \U0001f600", "\n\t a  b ", ""])
def test_text_survives_the_tokenizer(tiny: Path, text: str) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(0 <= token < PRESETS["tiny-llama"].vocab_size for token in ids)


def test_chat_template_frames_each_message(tiny: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == (
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    ids = tokenizer.encode(text)
    assert ids.count(3) == 3  # <|im_start|> is one token
    assert ids.count(4) == 2


def test_trained_words_are_single_tokens(tiny: Path) -> None:
    """A believable tokenizer: well over two bytes per token on text like its training's."""
    from tokenizers import Tokenizer

    from workloads.model_text import sentences, words

    tokenizer = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    sample = list(sentences(50, words(2 * 4096, 0), seed=99))[:50]
    num_tokens = sum(len(tokenizer.encode(text).ids) for text in sample)
    assert sum(len(text.encode()) for text in sample) / num_tokens > 2.5


def test_weights_may_be_cut_into_shards_anywhere(tmp_path: Path) -> None:
    from safetensors import safe_open

    make_model(tmp_path / "one", SMALL)
    make_model(tmp_path / "many", SMALL, max_shard_bytes=50_000)
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    shards = sorted({*index["weight_map"].values()})
    assert len(shards) > 3
    assert index["metadata"]["total_size"] == SMALL.size_bytes
    pytest.importorskip("torch")

    def tensors(folder: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for path in folder.glob("*.safetensors"):
            with safe_open(path, framework="pt") as file:
                found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return found

    one, many = tensors(tmp_path / "one"), tensors(tmp_path / "many")
    assert one.keys() == many.keys() == SMALL.tensors().keys() == index["weight_map"].keys()
    for name, size in SMALL.tensors().items():
        assert tuple(one[name].shape) == size
        assert one[name].equal(many[name])


def test_bfloat16_is_rounded_to_nearest_even() -> None:
    torch = pytest.importorskip("torch")
    from workloads.model_weights import _encode

    values = np.random.default_rng(5).standard_normal(10_000, dtype=np.float32) * 0.02
    values[:4] = [0.0, -0.0, 1.00390625, 1.01171875]  # the last two lie half-way
    ours = np.frombuffer(_encode(values, "bfloat16"), dtype="<i2")
    theirs = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy()
    assert np.array_equal(ours, theirs)


def test_float32_models_are_made_too(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from dataclasses import replace

    made = make_model(tmp_path / "m", replace(SMALL, dtype="float32"))
    assert made.shape.size_bytes == 2 * SMALL.size_bytes
    assert transformers.AutoConfig.from_pretrained(made.path).dtype is not None
    model = transformers.AutoModelForCausalLM.from_pretrained(made.path)
    assert str(model.dtype) == "torch.float32"


def test_second_call_reuses_the_folder_untouched(tmp_path: Path) -> None:
    first = make_model(tmp_path / "m", SMALL)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "m").iterdir()}
    second = make_model(tmp_path / "m", SMALL)
    assert not first.reused
    assert second.reused
    assert second.files == first.files
    assert before == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "m").iterdir()}


def test_an_empty_folder_is_filled_and_nothing_else_is_left(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    make_model(tmp_path / "m", SMALL)
    assert [p.name for p in tmp_path.iterdir() if p.name != "windtunnel-home"] == ["m"]


def test_a_folder_with_anything_else_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "thesis.txt").write_text("years of work")
    with pytest.raises(ModelFolderTaken, match=r"m already holds thesis\.txt"):
        make_model(tmp_path / "m", SMALL)
    assert (tmp_path / "m" / "thesis.txt").read_text() == "years of work"


def test_another_or_a_damaged_model_is_refused(tmp_path: Path) -> None:
    make_model(tmp_path / "m", SMALL)
    with pytest.raises(ModelFolderTaken, match="another or a damaged made model"):
        make_model(tmp_path / "m", SMALL, seed=1)
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelFolderTaken, match="another or a damaged made model"):
        make_model(tmp_path / "m", SMALL)


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("")
    with pytest.raises(ModelFolderTaken, match="not a folder"):
        make_model(tmp_path / "m", SMALL)
    with pytest.raises(ModelUnwritable, match="cannot write a model into"):
        make_model(tmp_path / "m" / "below", SMALL)


def test_a_model_larger_than_the_disk_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    huge = ModelShape(
        vocab_size=1_000_000,
        hidden_size=65_536,
        intermediate_size=262_144,
        num_layers=20_000,
        num_heads=512,
        num_kv_heads=512,
        max_position_embeddings=256,
    )
    with pytest.raises(ModelUnwritable, match=r"needs [\d,]+ bytes; .* has [\d,]+ free"):
        make_model(tmp_path / "m", huge)
    assert not (tmp_path / "m").exists()


def _make_with_files_limited_to(limit_bytes: int, folder: str, answer: Any) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    try:
        make_model(folder, SMALL)
    except ModelUnwritable as error:
        answer.send(str(error))
    else:
        answer.send("written")


def test_a_write_that_fails_midway_leaves_nothing(tmp_path: Path) -> None:
    """The kernel refuses the weights' write, as it does on a full disk."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_make_with_files_limited_to, args=(100_000, str(tmp_path / "m"), theirs)
    )
    process.start()
    assert ours.poll(60)
    message = ours.recv()
    process.join(30)
    assert process.exitcode == 0
    assert "File too large" in message
    assert "file system with room" in message
    assert [p.name for p in tmp_path.iterdir() if p.name != "windtunnel-home"] == []


def _make(folder: str, answer: Any) -> None:
    answer.send(make_model(folder, SMALL).files)


def test_two_that_make_the_same_model_at_once_both_get_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    makers = [context.Process(target=_make, args=(str(tmp_path / "m"), theirs)) for _ in range(2)]
    for maker in makers:
        maker.start()
    first, second = (ours.recv() for _ in makers if ours.poll(60))
    for maker in makers:
        maker.join(30)
    assert first == second
    assert [p.name for p in tmp_path.iterdir() if p.name != "windtunnel-home"] == ["m"]


def test_ensure_model_names_the_folder_by_its_recipe(tmp_path: Path) -> None:
    path = Path(ensure_model(tmp_path / "models", MadeModel(preset="tiny-llama", seed=3)))
    assert path.parent == tmp_path / "models"
    assert path.name.startswith("tiny-llama-seed3-")
    assert json.loads((path / MARKER).read_text())["recipe"]["seed"] == 3
    assert ensure_model(tmp_path / "models", MadeModel(preset="tiny-llama", seed=3)) == str(path)


def test_unknown_preset_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UnknownPreset, match="'huge-llama'; there are: tiny-llama, mini-llama"):
        make_model(tmp_path / "m", "huge-llama")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 66}, "whole, even head size"),
        ({"num_kv_heads": 3}, "multiple of num_kv_heads = 3"),
        ({"vocab_size": 200}, "at least 261"),
        ({"num_layers": 0}, "num_layers = 0"),
        ({"dtype": "int8"}, "accepted: bfloat16, float32"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    from dataclasses import asdict

    with pytest.raises(ModelError, match=message):
        ModelShape(**{**asdict(SMALL), **change})


def test_missing_library_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ModelLibrariesMissing, match=r"pip install 'windtunnel\[models\]'"):
        make_model(tmp_path / "m", SMALL)


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ],
)
def test_errors_survive_pickling(kind: type[Exception]) -> None:
    again = pickle.loads(pickle.dumps(kind("what was asked; what was found")))
    assert type(again) is kind
    assert str(again) == "what was asked; what was found"
