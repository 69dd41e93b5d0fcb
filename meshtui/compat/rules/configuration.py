"""Is it a standard Hugging Face repository?"""

from collections.abc import Iterator

from meshtui.compat.rules.quantization import reads_gguf
from meshtui.compat.rules.say import blocker, ok, warning
from meshtui.compat.section import whole_number
from meshtui.compat.setting import Setting
from meshtui.compat.subject import Subject
from meshtui.domain.finding import Finding
from meshtui.domain.text import one_line
from meshtui.settings.shipped import toml_data

RULE = "configuration"
_SIZES = (
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
)


def configuration(subject: Subject, setting: Setting) -> Iterator[Finding]:
    """`config.json` with `architectures`, or `model_index.json` of a diffusion pipeline; and
    small files beside it that hold something else than they should."""
    if subject.broken_configuration:
        yield blocker(
            RULE,
            subject.broken_configuration,
            "Download the model again, or ask its authors to repair the file.",
        )
    elif subject.is_pipeline:
        kind = subject.json("model_index.json").get("_class_name")
        name = one_line(kind, 80) if isinstance(kind, str) else "a pipeline"
        yield ok(RULE, f"model_index.json, {name} of diffusers")
    elif not subject.has("config.json"):
        yield _without_config(subject, setting)
    elif not subject.configuration.architectures:
        yield blocker(
            RULE,
            "config.json names no architecture, so no engine knows how to load the model.",
            "Look for a repository of the same model that has a complete config.json.",
        )
    else:
        yield ok(RULE, f"config.json, {one_line(subject.configuration.architectures[0], 80)}")
    if not subject.broken_configuration:
        if senseless := tuple(_senseless(subject)):
            yield warning(
                RULE,
                f"config.json has no possible number for {', '.join(senseless)}: the default of "
                "the class is counted with, if there is one.",
                "Download the model again, or ask its authors to repair the file.",
            )
        for name, reason in [*subject.broken.items(), *subject.unreadable.items()]:
            if name != "config.json":
                yield warning(
                    RULE,
                    f"{name} cannot be used: {one_line(reason)}",
                    "Download the model again; engines may refuse it as it is.",
                )


def _senseless(subject: Subject) -> Iterator[str]:
    """Sizes that are something else than a number that a model can have. Some models have one a
    layer."""
    configuration = subject.configuration
    for name in _SIZES:
        for section in dict.fromkeys((configuration.top, configuration.text)):
            value = section.raw.get(name)
            if value is None or isinstance(value, list):
                continue
            if whole_number(value) is None or value < 0:
                yield name
                break


def _without_config(subject: Subject, setting: Setting) -> Finding:
    if subject.has("adapter_config.json"):
        base = subject.json("adapter_config.json").get("base_model_name_or_path")
        of = f" of {one_line(base, 100)}" if isinstance(base, str) else ""
        return blocker(
            RULE,
            f"This is an adapter{of}, not a model of its own.",
            "Deploy the base model; adapters are not served yet.",
        )
    if subject.has("params.json"):
        other = toml_data("families.toml")["repackaged"].get(subject.name.partition("@")[0])
        return blocker(
            RULE,
            "The repository is in Mistral's own format: params.json and no config.json.",
            f"Use {other}, the same model in the Hugging Face format."
            if other
            else "Look for a repackaged repository of the same model that has a config.json.",
        )
    if reason := subject.unreadable.get("config.json"):
        return blocker(RULE, f"config.json cannot be read: {one_line(reason)}")
    if (gguf := subject.paths(".gguf")) and reads_gguf(setting).possible:
        return warning(
            RULE,
            "There is no config.json: the engine takes what the GGUF file says of the model.",
            "Name a tokenizer in the engine's arguments if it does not start.",
        )
    if gguf:
        return blocker(
            RULE,
            f"The repository holds GGUF files only ({one_line(gguf[0], 80)}), without config.json.",
            "Use the repository that it was converted from.",
        )
    return blocker(
        RULE,
        "There is no config.json: this is no model in the Hugging Face format.",
        "Check the name, or look for a repository that was made for transformers.",
    )
