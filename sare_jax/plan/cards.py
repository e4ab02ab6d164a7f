"""Graphics cards that a run is planned for without one: the vendor's facts, and XLA's view of them."""

import dataclasses
import difflib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sare_jax import files
from sare_jax.errors import UserError

FACTS = Path(__file__).with_name("cards.json")
PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")
INSTALL = "pip install -r requirements.txt -r requirements/gpu.txt"


@dataclass(frozen=True)
class Card:
    """A graphics card.

    Attributes:
      name: as the driver calls it.
      capability: CUDA's compute capability, `major.minor`.
      memory_mib: MiB that `nvidia-smi` reports.
      bandwidth: bytes a second of the card's memory.
      dense: most operations a second of matrix products without sparsity, summed in float32.
      dense_dtype: number format of these products; bfloat16 where the card has it.
      link: bytes a second to other cards, in each direction.
      link_name: what that link is.
      cores: streaming multiprocessors.
      l2: bytes of the second cache.
      clock_ghz: highest clock rate.
      threads_per_core: most threads that a multiprocessor holds.
      shared_per_core: bytes of shared memory of a multiprocessor.
      shared_optin: bytes of it that one block may have.
      fpus_per_core: float32 units of a multiprocessor.
    """

    name: str
    capability: str
    memory_mib: int
    bandwidth: float
    dense: float
    dense_dtype: str
    link: float
    link_name: str
    cores: int
    l2: int
    clock_ghz: float
    threads_per_core: int
    shared_per_core: int
    shared_optin: int
    fpus_per_core: int

    @property
    def memory(self) -> int:
        """Bytes of memory."""
        return self.memory_mib << 20

    def target_config(self) -> str:
        """XLA's `GpuTargetConfigProto` of the card, as text: what its compiler asks a driver for."""
        major, minor = self.capability.split(".")
        numbers = {
            "threads_per_block_limit": 1024,
            "threads_per_warp": 32,
            "shared_memory_per_block": 49152,
            "shared_memory_per_core": self.shared_per_core,
            "shared_memory_per_block_optin": self.shared_optin,
            "threads_per_core_limit": self.threads_per_core,
            "core_count": self.cores,
            "fpus_per_core": self.fpus_per_core,
            "block_dim_limit_x": 2**31 - 1,
            "block_dim_limit_y": 65535,
            "block_dim_limit_z": 65535,
            "memory_bandwidth": int(self.bandwidth),
            "l2_cache_size": self.l2,
            "clock_rate_ghz": self.clock_ghz,
            "device_memory_size": self.memory,
            "registers_per_core_limit": 65536,
            "registers_per_block_limit": 65536,
        }
        info = " ".join(f"{key}: {value}" for key, value in numbers.items())
        return (
            f"gpu_device_info {{ {info} cuda_compute_capability {{ major: {major} minor: {minor} }} }}\n"
            'platform_name: "CUDA"\n'
            "dnn_version_info { major: 9 minor: 10 patch: 2 }\n"
            f'device_description_str: "{self.name}"\n'
        )


def names() -> list[str]:
    """The cards that are known."""
    return list(files.read_json(FACTS))


def card_named(name: str) -> Card:
    """A card by its short name.

    Raises:
      UserError: it is not known; the known ones are listed.
    """
    facts = files.read_json(FACTS)
    if name not in facts:
        begins = [known for known in facts if known.startswith(name.lower())]
        close = begins or difflib.get_close_matches(name.lower(), facts, n=1)
        advice = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"--plan_gpu: {name!r} is not known; {advice}known are {', '.join(facts)}")
    known = {field.name for field in dataclasses.fields(Card)}
    return Card(**{key: value for key, value in facts[name].items() if key in known})


def require_dtype(card: Card, dtype: str) -> None:
    """Refuses bfloat16 on cards whose matrix units do not have it; their compiler fails on it.

    Raises:
      UserError: names the setting and the way out.
    """
    if dtype == "bfloat16" and card.dense_dtype != dtype:
        raise UserError(
            f"config.model.dtype: {card.name} has no products in bfloat16; set float32, for which a model of "
            "2B has room there, or take a card since Ampere"
        )


def has_wheels() -> bool:
    """Whether JAX's CUDA plugin is installed, with which a program is compiled for a card."""
    return any(importlib.util.find_spec(plugin) for plugin in PLUGINS)


def described(card: Card, count: int) -> Sequence[Any]:
    """As many devices of a card, for which programs can be compiled but not run; there need not be one.

    Raises:
      UserError: JAX's CUDA wheels are not installed, or too old for this.
    """
    from jax.experimental import topologies

    if not has_wheels():
        raise UserError(f"--plan_gpu: the card's compiler comes with JAX's CUDA wheels: {INSTALL}")
    # The plugin would ask a driver, which need not be there, whether its libraries are new enough.
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    try:
        topology = topologies.get_topology_desc(
            platform="cuda",
            topology_name="",
            target_config=card.target_config(),
            topology=f"1x1x{count}",
        )
    except Exception as error:  # jaxlib has no narrower type
        line = str(error).strip().splitlines()[0][:200]
        raise UserError(
            f"--plan_gpu: these CUDA wheels describe no card ({line}); renew them: {INSTALL}"
        ) from None
    return topology.devices
