"""What a user's program does with `ort_pipeline.json`, knowing nothing of modelc.

`ort_program.py FOLDER TOKENS OUT.npy PROVIDER_LIBRARY BACKEND`: saves the logits after each of the
comma-separated tokens.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort


class Program:
    def __init__(self, folder: Path, provider_library: str, backend: str) -> None:
        self.form = json.loads((folder / "ort_pipeline.json").read_text())
        provider = self.form["provider"]
        ort.register_execution_provider_library(provider, provider_library)
        [device] = [device for device in ort.get_ep_devices() if device.ep_name == provider]
        options = ort.SessionOptions()
        for key, value in self.form["session_entries"].items():
            options.add_session_config_entry(key, value)
        settings = {**self.form["provider_options"], "backend_path": backend}
        del settings["backend_type"]  # either; the type finds the library only beside ONNX Runtime
        options.add_provider_for_devices([device], settings)
        self.sessions = {
            model["file"]: ort.InferenceSession(str(folder / model["file"]), options)
            for call in self.form["calls"]
            for model in call["models"]
        }
        self.past: dict[str, np.ndarray] = {}
        self.position = 0

    def read(self, tokens: list[int]) -> np.ndarray:
        rows = []
        while tokens:
            fits = [c for c in self.form["calls"] if self.position <= c["context_length"] - c["ar"]]
            enough = [c for c in fits if c["ar"] >= len(tokens)]
            if enough:
                call = min(enough, key=lambda c: (c["ar"], c["context_length"]))
            else:
                call = max(fits, key=lambda c: (c["ar"], -c["context_length"]))
            rows.append(self.step(call, tokens[: call["ar"]]))
            tokens = tokens[call["ar"] :]
        return np.concatenate(rows)

    def step(self, call: dict[str, Any], tokens: list[int]) -> np.ndarray:
        ar, length, count = call["ar"], call["context_length"], len(tokens)
        slots = length - ar
        rotary = self.form["rotary"]
        angles = np.outer(np.arange(self.position, self.position + ar), rotary["frequencies"])
        mask = np.full((ar, length), call["mask"]["hide"])
        mask[:, : self.position] = call["mask"]["attend"]
        mask[:, slots:][np.tri(ar, dtype=bool)] = call["mask"]["attend"]
        values = {
            call["tokens"]: np.array(tokens + [0] * (ar - count)),
            call["mask"]["name"]: mask,
            call["cos"]: rotary["attention_factor"] * np.cos(angles),
            call["sin"]: rotary["attention_factor"] * np.sin(angles),
        }
        axes = {entry["input"]: entry["axis"] for entry in call["cache"]}
        for model in call["models"]:
            feed = {}
            for tensor in model["inputs"]:
                name, shape = tensor["name"], tensor["shape"]
                if name in axes:
                    feed[name] = self.slots(tensor, axes[name], slots)
                    continue
                value = values[name]
                if name in (call["cos"], call["sin"]) and tensor["scale"]:
                    codes = np.trunc(value / tensor["scale"] + tensor["zero_point"])
                    value = codes.clip(0, np.iinfo(tensor["dtype"]).max)
                feed[name] = value.astype(tensor["dtype"]).reshape(shape)
            names = [tensor["name"] for tensor in model["outputs"]]
            values |= zip(names, self.sessions[model["file"]].run(names, feed), strict=True)
        for entry in call["cache"]:
            new = np.moveaxis(values[entry["output"]], entry["axis"], 0)[:count]
            whole = np.moveaxis(self.past[entry["input"]], entry["axis"], 0)
            whole[self.position : self.position + count] = new
        self.position += count
        [logits] = [t for m in call["models"] for t in m["outputs"] if t["name"] == call["logits"]]
        found = values[call["logits"]][0, :count].astype(np.float64)
        if logits["scale"]:
            found = (found - logits["zero_point"]) * logits["scale"]
        return found.astype(np.float32)

    def slots(self, tensor: dict[str, Any], axis: int, count: int) -> np.ndarray:
        """The first `count` slots of one layer's cache, which holds the longest context."""
        longest = max(call["context_length"] for call in self.form["calls"])
        shape = [*tensor["shape"]]
        shape[axis] = longest
        empty = np.full(shape, tensor["zero_point"], tensor["dtype"])
        cache = self.past.setdefault(tensor["name"], empty)
        return np.ascontiguousarray(np.moveaxis(np.moveaxis(cache, axis, 0)[:count], 0, axis))


if __name__ == "__main__":
    folder, tokens, out, library, backend = sys.argv[1:]
    np.save(out, Program(Path(folder), library, backend).read([int(t) for t in tokens.split(",")]))
    os._exit(0)  # the vendor's destructors crash
