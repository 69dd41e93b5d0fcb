"""Checks on what users add to engines' command lines."""

from collections.abc import Iterable

from meshtui.domain.errors import InvalidInput


def check_extra_arguments(arguments: Iterable[str], reserved: Iterable[str]) -> None:
    """Refuses options that meshtui sets itself (an address that others can reach, a key that
    every user of the machine could read in the process list), and their beginnings, which
    argparse takes for them. Raises `InvalidInput`."""
    names = tuple(reserved)
    for argument in arguments:
        option = argument.partition("=")[0].replace("_", "-")
        if option.strip("-") and any(name.startswith(option) for name in names):
            raise InvalidInput(
                f"The extra engine argument {option} is set by meshtui itself.",
                hint="Take it out of the model's extra_engine_args.",
            )


def gguf_file(names: tuple[str, ...], wanted: str | None) -> str:
    """The GGUF file to serve: the only one, or the one whose name holds the wanted quantization
    (`Q4_K_M`, say). Raises `InvalidInput` where that does not settle it."""
    models = [name for name in names if not name.startswith("mmproj")]
    if wanted:
        models = [name for name in models if wanted.lower() in name.lower()] or models
    if len(models) == 1:
        return models[0]
    raise InvalidInput(
        f"The model folder holds {len(models)} GGUF files: {', '.join(models[:8])}.",
        hint="Name the one to use with the model's quantization setting, for example Q4_K_M.",
    )
