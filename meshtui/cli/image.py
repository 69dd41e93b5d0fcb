"""`meshtui image`: pictures from words, written to files."""

import argparse
import asyncio
import contextlib
import re
import sys
from pathlib import Path

import msgspec

from meshtui.cli import exit_codes
from meshtui.cli.before_start import add_force, check_before_start
from meshtui.cli.command import run_action
from meshtui.cli.narration import Narrator
from meshtui.client import ControllerClient
from meshtui.domain.errors import InvalidInput, MeshtuiError
from meshtui.domain.images import (
    ImageMade,
    ImageRequest,
    ImagesEnded,
    ImageStep,
    ImageWaiting,
    picture_name,
)
from meshtui.domain.model_ref import ModelRef
from meshtui.domain.server import Explanation
from meshtui.domain.text import one_line

_EXAMPLES = """\
examples:
  meshtui image black-forest-labs/FLUX.1-schnell "a lighthouse in the fog" --steps 4 -o fog.png
  meshtui image org/model - --count 4 --seed 7 < prompt.txt
  meshtui image org/model --jsonl < prompts.jsonl      # {"prompt": "...", "seed": 3, "steps": 20}

Each picture is told on stdout as a line of JSON with its file, its seed and its prompt. No file is
ever overwritten. Ctrl-C stops the making in the engine, not only the display.
"""
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
# Of a line of JSON: what may stand in it, under these names.
_OWN = ("prompt", "negative_prompt", "size", "count", "steps", "guidance_scale", "seed")


def run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="meshtui image",
        description="Make pictures with an enabled model; its server is started when it is not "
        "running.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="org/name or org/name@revision")
    parser.add_argument("prompt", metavar="TEXT", nargs="?", help="the prompt; - reads stdin")
    parser.add_argument("--jsonl", action="store_true", help="one request a line, from stdin")
    parser.add_argument("-o", "--output", type=Path, metavar="PATH",
                        help="the file, or the folder of several; - is stdout")  # fmt: skip
    parser.add_argument("--connection", help="needed where several connections enable the model")
    parser.add_argument("--negative-prompt", metavar="TEXT", help="what is not to be seen")
    parser.add_argument("--size", metavar="WxH", help="in pixels: 1024x768")
    parser.add_argument("--count", "-n", type=int, metavar="N", help="how many pictures")
    parser.add_argument("--steps", type=int, metavar="N", help="of denoising")
    parser.add_argument("--guidance-scale", type=float, metavar="G")
    parser.add_argument("--seed", type=int, metavar="N", help="of the first picture")
    parser.add_argument("--format", default=None, choices=("png", "jpeg", "webp"),
                        help="of the files (default: by the name, else png)")  # fmt: skip
    add_force(parser)
    parser.set_defaults(action=_image, connect=True, spawn=True)
    return run_action(parser, words)


async def _image(client: ControllerClient, arguments: argparse.Namespace) -> int:
    requests = await _requests(arguments)
    model = str(ModelRef.parse(arguments.model))
    if not arguments.force:
        await check_before_start(client, model, arguments.connection)
    output: Path | None = arguments.output
    # Never named before it is known that there is one picture only.
    single = len(requests) == 1 and requests[0].count == 1
    status = exit_codes.OK
    for request in requests:
        asked = msgspec.structs.replace(request, model=model, connection=arguments.connection)
        place = _Place(output, asked, is_file=single)
        if not await _make(client, asked, place):
            status = exit_codes.FAILED
    return status


async def _make(client: ControllerClient, request: ImageRequest, place: "_Place") -> bool:
    narrator = Narrator()
    error: Explanation | None = None
    try:
        async with contextlib.aclosing(client.images(request)) as events:
            async for event in events:
                match event:
                    case ImageWaiting(server):
                        narrator.server(server)
                    case ImageStep():
                        narrator.steps(event)
                    case ImageMade():
                        narrator.clear()
                        await asyncio.to_thread(place.write, event)
                    case ImagesEnded():
                        error = event.error
    finally:
        narrator.clear()
    if error is not None:
        narrator.note(f"meshtui: {error.cause}")
        narrator.note(f"  {error.fix}")
    return error is None


class _Place:
    """Where the pictures of a request go."""

    def __init__(self, output: Path | None, request: ImageRequest, *, is_file: bool) -> None:
        self._request = request
        self._stdout = output == Path("-")
        self._folder, self._name = Path(), ""
        if output is None or self._stdout:
            pass
        elif is_file and not output.is_dir():
            self._folder, self._name = output.parent, output.name
        else:
            self._folder = output
        if self._stdout and not is_file:
            raise InvalidInput("Only one picture can go to stdout.", hint="Name a folder.")
        if self._stdout and sys.stdout.isatty():
            raise InvalidInput("A picture is no text for a terminal.", hint="Name a file with -o.")
        if not self._folder.is_dir():
            raise InvalidInput(
                f"There is no folder {one_line(str(self._folder))}.",
                hint="Make it, or name another.",
            )
        if self._name and (self._folder / self._name).exists():
            raise InvalidInput(
                f"{one_line(str(output))} exists.", hint="Name another: nothing is overwritten."
            )

    def write(self, made: ImageMade) -> None:
        if self._stdout:
            sys.stdout.buffer.write(made.data)
            sys.stdout.buffer.flush()
            return
        path = self._written(made)
        told = {
            "path": str(path),
            "prompt": self._request.prompt,
            "seed": made.seed,
            "model": self._request.model,
        }
        print(msgspec.json.encode(told).decode(), flush=True)

    def _written(self, made: ImageMade) -> Path:
        for number in range(1, 10_000):
            request = self._request
            own = picture_name(request.prompt, made.seed, request.format, number)
            path = self._folder / (self._name or own)
            try:
                with path.open("xb") as file:
                    file.write(made.data)
            except FileExistsError:
                if self._name:
                    raise
            else:
                return path
        raise MeshtuiError(f"The folder {one_line(str(self._folder))} is full of such pictures.")


async def _requests(arguments: argparse.Namespace) -> list[ImageRequest]:
    if arguments.jsonl:
        if arguments.prompt is not None:
            raise InvalidInput("With --jsonl, prompts come from stdin only.")
        text = await asyncio.to_thread(sys.stdin.read)
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        found = [_of_line(number, line, arguments) for number, line in lines]
        if not found:
            raise InvalidInput("There is no request on stdin.")
        return found
    text = arguments.prompt
    if text == "-" or (text is None and not sys.stdin.isatty()):
        text = await asyncio.to_thread(sys.stdin.read)
    if not text or not text.strip():
        raise InvalidInput(
            "There is no prompt.", hint="Give it as the second argument, or as - on stdin."
        )
    return [_request(arguments, {"prompt": text.strip()})]


def _of_line(number: int, line: str, arguments: argparse.Namespace) -> ImageRequest:
    try:
        given = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"Line {number} of stdin is no JSON: {error}.") from None
    if not isinstance(given, dict) or "prompt" not in given:
        raise InvalidInput(f'Line {number} of stdin has no "prompt".')
    if unknown := set(given) - set(_OWN):
        raise InvalidInput(
            f"Line {number} of stdin names {one_line(', '.join(sorted(unknown)), 200)}.",
            hint=f"It may have: {', '.join(_OWN)}.",
        )
    try:
        return _request(arguments, given)
    except InvalidInput as error:
        raise InvalidInput(f"Line {number} of stdin: {error}", hint=error.hint) from None


def _request(arguments: argparse.Namespace, given: dict[str, object]) -> ImageRequest:
    """The command line's settings, under what is given for this request."""
    settings = {name: getattr(arguments, name) for name in _OWN if hasattr(arguments, name)}
    wanted = {name: value for name, value in {**settings, **given}.items() if value is not None}
    size = wanted.pop("size", None)
    if size is not None:
        found = _SIZE.fullmatch(size) if isinstance(size, str) else None
        if found is None:
            raise InvalidInput("The size is written as 1024x768.")
        wanted |= {"width_px": int(found[1]), "height_px": int(found[2])}
    wanted["format"] = arguments.format or _format_of(arguments.output)
    try:
        return msgspec.convert({"model": "", **wanted}, ImageRequest)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"The request cannot be read: {error}.") from None


def _format_of(output: Path | None) -> str:
    suffix = output.suffix.lower() if output else ""
    return {".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}.get(suffix, "png")
