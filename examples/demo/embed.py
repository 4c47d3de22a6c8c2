"""Embeddings without a network: WordLlama's static token vectors, read from the files of its package.

A text's vector is the mean of its tokens' vectors, brought to length 1 (the package's own pooling and `norm=True`).
The package's own loader would ask a model hub first, so its two files are read directly, and nothing of it is
imported: weights/l2_supercat_256.safetensors holds `embedding.weight` (32,000 x 256, float16), and
tokenizers/l2_supercat_tokenizer_config.json is a tokenizer of the `tokenizers` library.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

DIMENSIONS = 256

Vectors = npt.NDArray[np.float32]  # one row a text


def embed(texts: Sequence[str]) -> Vectors:
    """Unit vectors of DIMENSIONS. Raises FileNotFoundError if the package `wordllama` is not installed."""
    tokenizer, weights = _model()
    vectors = np.empty((len(texts), DIMENSIONS), np.float32)
    for row, encoded in enumerate(tokenizer.encode_batch(list(texts), add_special_tokens=False)):
        vectors[row] = weights[encoded.ids].mean(axis=0) if encoded.ids else 0.0
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(lengths > 0, lengths, 1.0)
    return vectors


@cache
def _model() -> tuple[Any, Vectors]:
    """(tokenizer, token vectors)."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    weights_file, tokenizer_file = package_files()
    weights = load_file(weights_file)["embedding.weight"]
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer, weights.astype(np.float32)


def package_files() -> tuple[Path, Path]:
    """(weights, tokenizer) of the installed package. Raises FileNotFoundError if it is not installed."""
    spec = importlib.util.find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the package `wordllama` is not installed; `make setup` installs it")
    package = Path(next(iter(spec.submodule_search_locations)))
    return package / "weights/l2_supercat_256.safetensors", package / "tokenizers/l2_supercat_tokenizer_config.json"
