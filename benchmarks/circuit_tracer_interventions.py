"""Time circuit-tracer's `feature_intervention`, in an environment of its own: it wants a transformers older than this package's.

    PYTHON benchmarks/circuit_tracer_interventions.py CHECKOUT CASE.json

`benchmarks/interventions.py --circuit-tracer` writes the case (model, transcoders, single ablations with the margins that are expected) and
starts this file with `--circuit-tracer-python`. It prints one line of JSON: interventions, seconds, largest difference of an effect.
Nothing of this package is imported.
"""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def main() -> int:
    """Load both, do the interventions until the time is over, print what they took."""
    checkout, case = sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    sys.path.insert(0, checkout)
    import torch

    torch.set_num_threads(case["threads"])
    torch.set_grad_enabled(False)
    model = replacement_model(Path(case["model"]), {int(k): v for k, v in case["transcoders"].items()})
    before: dict[int, float] = {}
    worst, start, done = 0.0, time.perf_counter(), 0
    for number, prompt, layer, position, feature, expected in case["ablations"]:
        tokens = torch.tensor(case["prompts"][prompt]["tokens"])
        if prompt not in before:
            before[prompt] = margin(model(tokens)[0, -1], case["prompts"][prompt])
            if number == 0:
                start = time.perf_counter()
        logits, _ = model.feature_intervention(tokens, [(layer, position, feature, 0.0)], freeze_attention=False, return_activations=False)
        effect = margin(logits[0, -1], case["prompts"][prompt]) - before[prompt]
        worst, done = max(worst, abs(effect - expected)), done + 1
        if time.perf_counter() - start > case["seconds"]:
            break
    print(json.dumps({"n": done, "seconds": time.perf_counter() - start, "difference": worst}))
    return 0


def margin(logits: Any, prompt: dict[str, Any]) -> float:
    """Return logit(correct) - max over contrasts."""
    return float(logits[prompt["correct"]] - logits[prompt["contrasts"]].max())


def replacement_model(folder: Path, transcoders: dict[int, str]) -> Any:
    """Build its model from a folder of a newer transformers: the configuration is read by hand, the weights as they are."""
    from circuit_tracer.replacement_model import ReplacementModel  # type: ignore[import-not-found]
    from circuit_tracer.transcoder.single_layer_transcoder import load_transcoder_set  # type: ignore[import-not-found]
    from safetensors.torch import load_file
    from transformer_lens import HookedTransformerConfig  # type: ignore[import-not-found]
    from transformer_lens.pretrained.weight_conversions.qwen3 import convert_qwen3_weights  # type: ignore[import-not-found]
    from transformers import Qwen3Config, Qwen3ForCausalLM

    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    theta = raw.get("rope_theta") or raw["rope_parameters"]["rope_theta"]
    config = Qwen3Config(
        **{k: v for k, v in raw.items() if k not in ("rope_parameters", "dtype", "transformers_version")}, rope_theta=theta
    )
    plain = Qwen3ForCausalLM(config)
    weights = {k: v for path in sorted(folder.glob("*.safetensors")) for k, v in load_file(path).items()}
    missing, unexpected = plain.load_state_dict(weights, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise SystemExit(f"weights do not fit: missing {missing}, unexpected {unexpected}")
    plain.tie_weights()
    hooked = HookedTransformerConfig(
        d_model=config.hidden_size,
        d_head=config.head_dim,
        n_heads=config.num_attention_heads,
        n_key_value_heads=config.num_key_value_heads,
        d_mlp=config.intermediate_size,
        n_layers=config.num_hidden_layers,
        n_ctx=256,
        eps=config.rms_norm_eps,
        d_vocab=config.vocab_size,
        act_fn=config.hidden_act,
        normalization_type="RMS",
        positional_embedding_type="rotary",
        rotary_base=int(theta),
        rotary_adjacent_pairs=False,
        rotary_dim=config.head_dim,
        final_rms=True,
        gated_mlp=True,
        default_prepend_bos=False,
        use_qk_norm=True,
        original_architecture="Qwen3ForCausalLM",
        device="cpu",
    )
    loaded = load_transcoder_set(
        transcoders,
        scan="local",
        feature_input_hook="mlp.hook_in",
        feature_output_hook="mlp.hook_out",
        lazy_encoder=False,
        lazy_decoder=False,
    )
    model = ReplacementModel.from_config(hooked, loaded)
    state = model.state_dict()
    renamed = {}
    for key, value in convert_qwen3_weights(plain, hooked).items():
        name = next(
            (k for k in (key, key.replace(".mlp.", ".mlp.old_mlp."), key.replace("unembed.", "unembed.old_unembed.")) if k in state), None
        )
        if name is None:
            raise SystemExit(f"circuit-tracer's model has no place for {key}")
        renamed[name] = value
    model.load_state_dict(renamed, strict=False)
    model.tokenizer = SimpleNamespace(
        all_special_ids=[0], padding_side="right"
    )  # prompts begin with the prepended token: nothing is added to them
    return model.eval()


if __name__ == "__main__":
    sys.exit(main())
