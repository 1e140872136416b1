"""Linear layers of quantised checkpoints, which pack several weights into one 32-bit integer."""

import json
from pathlib import Path
from typing import Any

_WORD_BITS = 32


def packed_bits(folder: Path) -> tuple[str, int] | None:
    """Method (`awq` or `gptq`) and bits of a weight, from config.json; None for other models."""
    config = json.loads((folder / "config.json").read_bytes())
    found: Any = config.get("quantization_config") if isinstance(config, dict) else None
    if not isinstance(found, dict) or found.get("quant_method") not in ("awq", "gptq"):
        return None
    bits = found.get("bits") or found.get("w_bit")
    if type(bits) is not int or bits < 1 or _WORD_BITS % bits:
        return None
    return found["quant_method"], bits


def unpacked_shape(method: str, bits: int, shape: tuple[int, int]) -> tuple[int, int]:
    """Shape (out, in) of a linear layer whose `qweight` has this shape.

    GPTQ packs along the input, (in / packed, out); AWQ along the output, (in, out / packed)
    (vllm.model_executor.layers.quantization, auto_gptq and auto_awq).
    """
    packed = _WORD_BITS // bits
    rows, columns = shape
    return (columns, rows * packed) if method == "gptq" else (columns * packed, rows)
