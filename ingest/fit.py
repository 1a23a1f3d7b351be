"""Whether model and transcoders belong together, from config.json and file headers, before any weight is loaded.

In: two local folders, wanted layers. Out: the model's configuration and the opened set, or an error that names the two numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.errors import InputError

if TYPE_CHECKING:
    from ingest.transcoder import TranscoderSet


def check_fit(model: Path, transcoders: Path, layers: Sequence[int] = (), *, dtype: str = "float32") -> tuple[Any, TranscoderSet]:
    """Return the model's configuration and the set (headers read, no matrix).

    Raises:
        InputError: no config.json, a wrong file, a layer that is missing, another d_model, more layers than the model has.
        ModelError: a family without an adapter.
    """
    from transformers import AutoConfig

    from ingest.adapters import adapter_for
    from ingest.transcoder import TranscoderSet

    if not (model / "config.json").exists():
        raise InputError(f"{model.name} has no config.json", hint="give the directory of a model saved by transformers")
    config = AutoConfig.from_pretrained(str(model))
    adapter_for(config.model_type)
    text = config.get_text_config()
    opened = TranscoderSet.open(transcoders, dtype=dtype)
    hint = "give the transcoders that were trained on this model"
    if opened.d_model != text.hidden_size:
        raise InputError(
            f"transcoders {opened.name} have d_model {opened.d_model}, the model {model.name} has {text.hidden_size}", hint=hint
        )
    opened.require(layers)
    if opened.layers[-1] >= text.num_hidden_layers:
        raise InputError(
            f"transcoders {opened.name} have a layer {opened.layers[-1]}, the model {model.name} has {text.num_hidden_layers} layers",
            hint=hint,
        )
    return config, opened
