"""Write the numbers of the real detectron2 anew: ``python -m tests.framework.make_golden`` where it is installed."""

import json

import torch

from tests.framework import engines, model_cases


def main() -> None:
    """Write golden/model_<case>.json for every case."""
    torch.set_num_threads(1)
    engine = engines.load(engines.DETECTRON2)
    for case in model_cases.CASES:
        path = model_cases.GOLDEN / f"model_{case}.json"
        path.write_text(json.dumps(_rounded(model_cases.compute(engine, case)), separators=(",", ":")) + "\n")
        print(f"{path.name}: {path.stat().st_size} bytes")


def _rounded(value):
    """Eight significant digits: what a float32 holds."""
    if isinstance(value, float):
        return float(f"{value:.8g}")
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    return [_rounded(entry) for entry in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
