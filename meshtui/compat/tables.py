"""What the engines' versions can run: the tables of `config/architectures/`.

The tables are made from the real packages by `scripts/make_vllm_tables.py`.
"""

from functools import cache

import msgspec

from meshtui.settings.shipped import data_names, json_data, release


class VllmTable(msgspec.Struct, frozen=True, kw_only=True):
    """What one version of vLLM can run. `quantization` maps a method to ten times the compute
    capability that it needs; `minimum_capability` is what its CUDA wheels need in any case.
    `gptq_desc_act`: whether it takes GPTQ weights that were ordered by activation in groups.
    `tool_parsers` and `reasoning_parsers` are the names that its options take."""

    version: str
    architectures: dict[str, tuple[str, ...]]
    previously_supported: dict[str, str]
    plugins: dict[str, str]
    quantization: dict[str, int | None]
    gptq_desc_act: bool = True
    minimum_capability: int = 75
    tool_parsers: tuple[str, ...] = ()
    reasoning_parsers: tuple[str, ...] = ()

    @property
    def generating(self) -> frozenset[str]:
        """Architectures that can chat."""
        groups = ("text_generation", "multimodal", "through_transformers")
        return self._of(*groups)

    @property
    def pooling(self) -> frozenset[str]:
        """Architectures that embed, rank or classify."""
        return self._of("embedding", "reward", "classification")

    def _of(self, *groups: str) -> frozenset[str]:
        return frozenset(name for group in groups for name in self.architectures.get(group, ()))


class TransformersTable(msgspec.Struct, frozen=True, kw_only=True):
    """What `transformers serve` of one version can generate text with."""

    version: str
    architectures: tuple[str, ...]
    multimodal_model_types: tuple[str, ...]


@cache
def vllm_table(version: str | None) -> VllmTable:
    """The table of the nearest known version: of the same minor release, else the newest one that
    is not newer than the installed one."""
    return msgspec.convert(_nearest("vllm", version), type=VllmTable)


@cache
def transformers_table(version: str | None) -> TransformersTable:
    """As `vllm_table`, for transformers."""
    return msgspec.convert(_nearest("transformers", version), type=TransformersTable)


def _nearest(package: str, version: str | None) -> object:
    names = {
        release(name.removeprefix(f"{package}-")): name
        for name in data_names("architectures")
        if name.startswith(f"{package}-")
    }
    known = sorted(names)
    installed = release(version) if version else ()
    same_minor = [number for number in known if number[:2] == installed[:2]]
    not_newer = [number for number in same_minor or known if number <= installed]
    # Older than all that is known: the oldest is nearest. Unknown: most likely a new one.
    oldest = (same_minor or known)[0]
    chosen = not_newer[-1] if not_newer else oldest if installed else known[-1]
    return json_data(f"architectures/{names[chosen]}")


@cache
def vllm_versions() -> tuple[str, ...]:
    """The releases whose tables are shipped, oldest first."""
    names = [n.removeprefix("vllm-").removesuffix(".json") for n in data_names("architectures")
             if n.startswith("vllm-")]  # fmt: skip
    return tuple(sorted(names, key=release))


@cache
def versions_that_run(architecture: str) -> tuple[str, ...]:
    """The known releases of vLLM that have the architecture, for whatever task, oldest first."""
    return tuple(
        version
        for version in vllm_versions()
        if any(
            architecture in names
            for group, names in vllm_table(version).architectures.items()
            if group != "speculative"
        )
    )
