"""Makes a real Hugging Face model folder with random weights, so that an engine has something to
serve where no hub can be reached.

The folder is a Llama of a chosen shape: configuration, byte-level BPE tokenizer trained on text
made by the program, chat template, safetensors. Speed and memory depend on the shape alone, so a
made model measures an engine as a trained one of that shape does; its answers mean nothing.

Two things differ from a trained model, on purpose: special tokens and tokens that are not whole
characters are never sampled. So a request always runs to its asked length, and every output token
is visible text as soon as it is sampled (an engine holds half a character back, which would read
as a late first token).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.errors import ModelError, ModelFolderTaken, ModelLibrariesMissing, ModelUnwritable
from workloads.model_shape import SPECIAL_TOKENS, ModelShape, shape_of
from workloads.model_text import sentences, words
from workloads.model_weights import INIT_STD, write_weights
from workloads.params import MadeModel

MARKER = "windtunnel-model.json"
_MAKER = 1  # part of the recipe: raise it when the same shape and seed give other bytes
_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeModelInfo:
    """What lies in a made folder. ``files`` maps each file's name to its SHA-256.

    ``reused`` is true when the folder was there already.
    """

    path: str
    shape: ModelShape
    seed: int
    num_parameters: int
    size_bytes: int  # of all files
    files: Mapping[str, str] = field(default_factory=dict)
    reused: bool = False


def make_model(
    directory: str | Path,
    preset: str | ModelShape = "tiny-llama",
    seed: int = 0,
    max_shard_bytes: int = 2 * 1024**3,
) -> MadeModelInfo:
    """Write a model folder at ``directory``, or reuse it if the same model is already there.

    The same shape and seed give the same bytes (with the same numpy and tokenizers). The folder
    appears complete or not at all.
    Memory needed: a few times the largest tensor.

    Raises UnknownPreset, ModelFolderTaken, ModelUnwritable, ModelLibrariesMissing.
    """
    shape = shape_of(preset)
    target = Path(directory).expanduser().absolute()
    found = _made_before(target, shape, seed)
    if found is not None:
        return found
    _refuse_if_taken(target)
    _import_tokenizers()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _refuse_if_full(target.parent, shape)
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ModelUnwritable(f"cannot write a model into {target}: {error.strerror}") from error
    try:
        _write_all(draft, shape, seed, max_shard_bytes)
        draft.chmod(0o755)
        draft.rename(target)
        _fsync(target.parent)
    except OSError as error:
        # Another process may have made the same model meanwhile; then ours is not needed.
        found = _made_before(target, shape, seed)
        if found is not None:
            return found
        raise ModelUnwritable(
            f"cannot write {shape.size_bytes:,} bytes of weights into {target}: {error}; "
            "name a folder on a file system with room"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    made = _made_before(target, shape, seed)
    if made is None:
        raise ModelFolderTaken(f"{target} was changed by someone else while it was being written")
    return replace(made, reused=False)


def ensure_model(models_dir: str | Path, model: MadeModel) -> str:
    """The folder of ``model`` under ``models_dir``, made if it is not there; returns its path.

    The folder's name carries a hash of the recipe, so a preset that changes gets a new folder.
    Raises what ``make_model`` raises.
    """
    shape = shape_of(model.preset)
    recipe = json.dumps(_recipe(shape, model.seed), sort_keys=True).encode()
    digest = hashlib.sha256(recipe).hexdigest()[:8]
    path = Path(models_dir) / f"{model.preset}-seed{model.seed}-{digest}"
    return make_model(path, shape, model.seed).path


def _recipe(shape: ModelShape, seed: int) -> dict[str, Any]:
    sizes = {name: value for name, value in asdict(shape).items() if value is not None}
    return {"maker": _MAKER, "shape": sizes, "seed": seed}


def _made_before(target: Path, shape: ModelShape, seed: int) -> MadeModelInfo | None:
    """The folder's marker, if it is of this very model and every file has its size.

    The files are not read: that would bring them into the page cache and turn a cold start warm.
    """
    try:
        marker = json.loads((target / MARKER).read_text())
        if marker["recipe"] != _recipe(shape, seed):
            return None
        sizes = {name: (target / name).stat().st_size for name in marker["files"]}
        if sizes != {name: entry["size_bytes"] for name, entry in marker["files"].items()}:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return MadeModelInfo(
        path=str(target),
        shape=shape,
        seed=seed,
        num_parameters=shape.num_parameters,
        size_bytes=sum(sizes.values()),
        files={name: entry["sha256"] for name, entry in marker["files"].items()},
        reused=True,
    )


def _refuse_if_taken(target: Path) -> None:
    if target.is_dir():
        try:
            held = sorted(entry.name for entry in target.iterdir())
        except OSError as error:
            raise ModelUnwritable(f"cannot read {target}: {error.strerror}") from error
        if held:
            what = "another or a damaged made model" if MARKER in held else ", ".join(held[:4])
            raise ModelFolderTaken(
                f"{target} already holds {what}; name another folder, or remove this one"
            )
    elif target.exists() or target.is_symlink():
        raise ModelFolderTaken(f"{target} is there and is not a folder; name another")


def _refuse_if_full(parent: Path, shape: ModelShape) -> None:
    free = shutil.disk_usage(parent).free
    if free < shape.size_bytes:
        raise ModelUnwritable(
            f"the model needs {shape.size_bytes:,} bytes; {parent} has {free:,} free; "
            "name a folder on a file system with room"
        )


def _import_tokenizers() -> None:
    try:
        import tokenizers
    except ImportError as error:
        raise ModelLibrariesMissing(
            "making a model needs the library 'tokenizers'; install it with: "
            "pip install 'windtunnel[models]'"
        ) from error
    del tokenizers


def _write_all(folder: Path, shape: ModelShape, seed: int, max_shard_bytes: int) -> None:
    """Everything, each file flushed to the disk; the marker, which says it is complete, last."""
    quiet = _write_tokenizer(folder, shape, seed)
    write_weights(folder, shape, seed, quiet, max_shard_bytes)
    _write_json(folder / "config.json", _config(shape))
    _write_json(
        folder / "generation_config.json",
        {"_from_model_config": True, "bos_token_id": 0, "eos_token_id": [1, 4], "pad_token_id": 2},
    )
    files = {}
    for path in sorted(folder.iterdir()):
        _fsync(path)
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        files[path.name] = {"sha256": digest, "size_bytes": path.stat().st_size}
    _write_json(folder / MARKER, {"recipe": _recipe(shape, seed), "files": files})
    _fsync(folder / MARKER)
    _fsync(folder)


def _config(shape: ModelShape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_size,
        "max_position_embeddings": shape.max_position_embeddings,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "initializer_range": INIT_STD,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
        "torch_dtype": shape.dtype,
        "use_cache": True,
    }


def _write_tokenizer(folder: Path, shape: ModelShape, seed: int) -> NDArray[np.bool_]:
    """Train and write the tokenizer; returns which token ids must never be sampled, (vocab,)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # One new word gives at least one merge, so twice as many words as tokens always suffices.
    vocabulary = words(2 * shape.vocab_size, seed)
    text = sentences(max(4000, shape.vocab_size // 2), vocabulary, seed)
    tokenizer.train_from_iterator(text, trainer)
    if tokenizer.get_vocab_size() != shape.vocab_size:
        raise ModelError(
            f"asked for a vocabulary of {shape.vocab_size} tokens; "
            f"training ended at {tokenizer.get_vocab_size()}"
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIAL_TOKENS[0],
            "eos_token": SPECIAL_TOKENS[1],
            "pad_token": SPECIAL_TOKENS[2],
            "additional_special_tokens": list(SPECIAL_TOKENS[3:]),
            "model_max_length": shape.max_position_embeddings,
            "clean_up_tokenization_spaces": False,
            "chat_template": _CHAT_TEMPLATE,
        },
    )
    alone = tokenizer.decode_batch([[index] for index in range(shape.vocab_size)])
    return np.array([not text or "\ufffd" in text for text in alone])


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
