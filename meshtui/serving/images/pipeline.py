"""The one pipeline of the server: loading it with its steps told, and making a picture with it."""

import contextlib
import inspect
import io
import json
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .requests import ImageRequest, Limits

OFFLOADS = ("auto", "none", "model", "sequential")
# Of the loading, the share that reading the components is; moving them to the GPU is the rest.
_READING = 0.9
_UNFINISHED_PX = 256

Say = Callable[[str, float, str], None]


class Cancelled(Exception):
    """Who asked for the picture no longer wants it."""


class OutOfMemory(Exception):
    """The GPU's memory did not suffice for this request; the pipeline goes on working."""


@dataclass(frozen=True)
class Made:
    """One finished picture, packed in its format, and the seed that makes it again."""

    data: bytes
    seed: int


class Pipeline:
    """A loaded pipeline of diffusers. One thread uses it at a time."""

    def __init__(self, loaded: Any, most_px: int) -> None:
        self._pipe = loaded
        self._arguments = inspect.signature(loaded.__call__).parameters
        self.name = type(loaded).__name__
        self.limits = self._limits(most_px)

    def _limits(self, most_px: int) -> Limits:
        pipe = self._pipe
        scale = int(getattr(pipe, "vae_scale_factor", 8) or 8)
        # Pipelines that pack latents take them by twos.
        step_px = scale * 2 if hasattr(pipe, "_pack_latents") else scale
        size = getattr(pipe, "default_sample_size", None) or _sample_size(pipe)
        default_px = size * scale if isinstance(size, int) else 1024
        while default_px * default_px > most_px and default_px > step_px:
            default_px //= 2
        steps = self._arguments.get("num_inference_steps")
        default_steps = steps.default if steps and isinstance(steps.default, int) else 28
        return Limits(
            step_px=step_px,
            default_px=max(step_px, default_px // step_px * step_px),
            most_px=most_px,
            default_steps=default_steps,
            arguments=frozenset(self._arguments),
        )

    def make(
        self,
        request: ImageRequest,
        on_step: Callable[[int], None],
        on_preview: Callable[[bytes], None],
    ) -> Iterator[Made]:
        """The pictures of a request, one after the other, so that memory holds one at a time.

        `on_step` is told the steps done for the picture under way, and may raise `Cancelled`, which
        ends the making at once and leaves the pipeline usable. Raises `OutOfMemory`.
        """
        import torch

        first = request.seed if request.seed is not None else secrets.randbelow(2**32)
        for number in range(request.count):
            seed = first + number
            arguments = self._call(request, seed, on_step, on_preview)
            try:
                with torch.inference_mode():
                    picture = self._pipe(**arguments).images[0]
            except torch.OutOfMemoryError as error:
                torch.cuda.empty_cache()
                raise OutOfMemory(
                    f"The GPU's memory does not suffice for {request.width_px}x{request.height_px}"
                    " pixels: ask for a smaller size, or start the server with offloading."
                ) from error
            yield Made(packed(picture, request), seed)

    def _call(
        self,
        request: ImageRequest,
        seed: int,
        on_step: Callable[[int], None],
        on_preview: Callable[[bytes], None],
    ) -> dict[str, Any]:
        import torch

        shown = _moments(request.steps, request.previews)

        def step_ended(pipe: Any, step: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            on_step(step + 1)
            if step + 1 in shown and (picture := self._preview(tensors, request)) is not None:
                on_preview(packed(picture, request))
            return tensors

        wanted = {
            "prompt": request.prompt,
            "width": request.width_px,
            "height": request.height_px,
            "num_inference_steps": request.steps,
            # On the processor, so that a seed gives one picture on every device.
            "generator": torch.Generator("cpu").manual_seed(seed),
            "callback_on_step_end": step_ended,
            **request.passed_on,
        }
        return {name: value for name, value in wanted.items() if name in self._arguments}

    def _preview(self, tensors: dict[str, Any], request: ImageRequest) -> Any:
        """The unfinished picture, small; None where the pipeline's latents cannot be shown."""
        import torch

        latents = tensors.get("latents")
        vae = getattr(self._pipe, "vae", None)
        if latents is None or vae is None:
            return None
        with contextlib.suppress(ValueError, RuntimeError, TypeError, AttributeError, KeyError):
            if latents.ndim == 3:
                latents = self._pipe._unpack_latents(
                    latents, request.height_px, request.width_px, self._pipe.vae_scale_factor
                )
            if latents.ndim != 4:  # a film's, or one of a kind that came later
                return None
            most = max(1, _UNFINISHED_PX // int(self._pipe.vae_scale_factor))
            if (longest := max(latents.shape[-2:])) > most:
                latents = torch.nn.functional.interpolate(
                    latents.float(), scale_factor=most / longest, mode="area"
                )
            scaling = float(getattr(vae.config, "scaling_factor", 1) or 1)
            shift = float(getattr(vae.config, "shift_factor", 0) or 0)
            decoded = vae.decode((latents.to(vae.dtype) / scaling) + shift, return_dict=False)[0]
            return self._pipe.image_processor.postprocess(decoded, output_type="pil")[0]
        return None


def _sample_size(pipe: Any) -> int | None:
    """Pixels of the latents the model was trained with, as its configuration has them."""
    for part in ("transformer", "unet"):
        size = getattr(getattr(getattr(pipe, part, None), "config", None), "sample_size", None)
        if isinstance(size, int):
            return size
    return None


def _moments(steps: int, previews: int) -> frozenset[int]:
    """After which steps an unfinished picture is shown: evenly, and never after the last."""
    return frozenset(round(steps * (number + 1) / (previews + 1)) for number in range(previews)) - {
        0,
        steps,
    }


def packed(picture: Any, request: ImageRequest) -> bytes:
    out = io.BytesIO()
    options: dict[str, Any] = {}
    if request.format != "png":
        options["quality"] = 90 if request.compression is None else max(1, request.compression)
        picture = picture.convert("RGB")
    picture.save(out, request.format.upper(), **options)
    return out.getvalue()


def load(
    folder: Path,
    *,
    device: str,
    dtype: str,
    offload: str,
    work_bytes: int,
    most_px: int,
    say: Say,
) -> Pipeline:
    """Loads the pipeline of a folder; `say` is told phase, progress from 0 to 1, and words.

    `work_bytes` is what making a picture takes beside the weights, for `offload="auto"`. Never
    fetches anything. Raises what diffusers raises.
    """
    say("Starting", 0.0, "Importing torch and diffusers")
    import diffusers
    import torch

    name = json.loads((folder / "model_index.json").read_text("utf-8"))["_class_name"]
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError("model_index.json names no pipeline")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else _short_dtype()
    say("LoadingWeights", 0.0, f"Loading a {name}")
    with _components_told(lambda done, of, part: say(
        "LoadingWeights", _READING * done / of, f"Loading {part}, {done + 1} of {of} components"
    )):  # fmt: skip
        pipe = diffusers.DiffusionPipeline.from_pretrained(
            folder, local_files_only=True, **{_dtype_name(diffusers): getattr(torch, dtype)}
        )
    pipe.set_progress_bar_config(disable=True)
    if offload == "auto" and device != "cpu":
        free_bytes, _ = torch.cuda.mem_get_info(device)
        offload = fitting_offload(_weights_bytes(pipe), work_bytes, free_bytes)
    if device == "cpu" or offload == "none":
        say("LoadingWeights", _READING, f"Moving it to {device}")
        pipe.to(device)
    else:
        say("LoadingWeights", _READING, f"Keeping it in the host's memory ({offload} offload)")
        if offload == "model":
            pipe.enable_model_cpu_offload(device=device)
        else:
            pipe.enable_sequential_cpu_offload(device=device)
        vae = getattr(pipe, "vae", None)
        if vae is not None and hasattr(vae, "enable_tiling"):
            vae.enable_tiling()
    return Pipeline(pipe, most_px)


def fitting_offload(component_bytes: list[int], work_bytes: int, free_bytes: int) -> str:
    """The fastest way that fits: all components on the GPU, one at a time, or layer by layer."""
    if sum(component_bytes) + work_bytes <= free_bytes:
        return "none"
    if max(component_bytes, default=0) + work_bytes <= free_bytes:
        return "model"
    return "sequential"


def _weights_bytes(pipe: Any) -> list[int]:
    import torch

    modules = (part for part in pipe.components.values() if isinstance(part, torch.nn.Module))
    return [
        sum(tensor.nbytes for tensor in (*part.parameters(), *part.buffers())) for part in modules
    ]


def _dtype_name(diffusers: Any) -> str:
    """Its argument for the type of the weights: the first release that is no beta renames it."""
    return "torch_dtype" if diffusers.__version__.startswith("0.") else "dtype"


def _short_dtype() -> str:
    """bfloat16 where the GPU computes in it."""
    import torch

    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


@contextlib.contextmanager
def _components_told(told: Callable[[int, int, str], None]) -> Iterator[None]:
    """diffusers shows its loading as a bar over the components: that bar is replaced by `told`."""
    from diffusers.pipelines import pipeline_utils

    before = pipeline_utils.logging.tqdm

    def bar(items: Iterable[Any], **_options: Any) -> Iterator[Any]:
        parts = list(items)
        for number, part in enumerate(parts):
            told(number, len(parts), str(part[0] if isinstance(part, tuple) else part))
            yield part

    pipeline_utils.logging.tqdm = bar
    try:
        yield
    finally:
        pipeline_utils.logging.tqdm = before
