"""The largest matrix product and the fastest copy of a device, as a line of JSON.

python -m benchmarks.ceilings bfloat16
"""

import json
import sys
import time

import jax
import jax.numpy as jnp

from benchmarks.step import matmul_peak

ROUNDS = 5


def copy_peak() -> float:
    """Bytes a second, read and written, of adding one to a large array."""
    size = (1 << 26) if jax.default_backend() == "cpu" else (1 << 30)
    add = jax.jit(lambda x: x + 1)
    x = jnp.zeros(size // 4, jnp.float32)
    jax.block_until_ready(add(x))
    start = time.perf_counter()
    for _ in range(ROUNDS):
        x = add(x)
    jax.block_until_ready(x)
    return 2 * size * ROUNDS / (time.perf_counter() - start)


if __name__ == "__main__":
    measure = matmul_peak(jnp.dtype(sys.argv[1]))
    flops = max(measure() for _ in range(ROUNDS))
    print(json.dumps({"flops": flops, "copy_bytes_per_s": copy_peak()}))
