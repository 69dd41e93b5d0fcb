"""`meshtui check`: does it run, on which engine, in how much memory, and if not, what then."""

import argparse
import sys
from pathlib import Path

from meshtui.cli import exit_codes
from meshtui.cli.check_markdown import markdown
from meshtui.cli.check_report import report_lines
from meshtui.cli.command import complain, print_json, run_action
from meshtui.client import ControllerClient
from meshtui.domain.check import CheckReport, CheckWishes, Verdict
from meshtui.domain.errors import InvalidInput, MeshtuiError
from meshtui.domain.task import EngineChoice, Task

RUNS, WARNINGS, BLOCKED, UNKNOWN = 0, 1, 2, 3
_STATUS = {
    Verdict.RUNS: RUNS,
    Verdict.WARNINGS: WARNINGS,
    Verdict.BLOCKED: BLOCKED,
    Verdict.UNKNOWN: UNKNOWN,
}
_EPILOG = """\
examples:
  meshtui check Qwen/Qwen2.5-7B-Instruct --gpu A10
  meshtui check ./my-model --gpu H100 --gpus 2 --max-tokens 32768 --json

A folder of this machine is meant where one of that name is there, or where the name begins with
/, ./, ../ or ~. Nothing of the weights is downloaded.

exit status (the worst of several models; what could not be told counts as worst):
  0  it runs
  1  it runs, with reservations: see the warnings
  2  it does not run
  3  it could not be told, or nothing could be asked
"""


def run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="meshtui check",
        description="Tell before it is deployed whether a model runs, on which engine and GPUs, "
        "in how much memory, and with which context length.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "models", metavar="MODEL", nargs="+", help="org/name[@revision], or a folder"
    )
    _wishes_of(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="one JSON object; a list of them for several models"
    )
    form.add_argument("--markdown", action="store_true", help="a report to keep or to send")
    parser.set_defaults(action=_check, connect=True, spawn=True)
    return run_action(parser, words)


def _wishes_of(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--gpu", metavar="NAME", help="a GPU by name, such as A10; default: those of this machine")
    add("--gpus", type=int, metavar="N", help="how many of them")
    add("--runtime", metavar="NAME", help="whose versions decide; default: the connection's")
    add("--connection", metavar="NAME", help="whose settings, Hub and access token count")
    add("--max-tokens", type=int, metavar="N", help="context length; default: the model's own")
    add("--tensor-parallel", type=int, metavar="N", help="split every layer over N GPUs")
    add("--kv-cache-dtype", metavar="TYPE", help="fp8 halves the KV cache")
    add("--quantization", metavar="METHOD", help="quantize while loading: fp8, bitsandbytes ...")
    add("--task", choices=[task.value for task in Task], help="default: what the model says")
    add("--engine", choices=[choice.value for choice in EngineChoice], help="default: AUTO")
    add("--max-num-seqs", type=int, metavar="N", help="most requests in one step")
    add("--max-num-batched-tokens", type=int, metavar="N", help="most tokens in one step")
    add("--gpu-memory-utilization", type=float, metavar="SHARE", help="0 to 1 of the GPU's memory")
    add("--vllm-version", metavar="V", help="as if the runtime had this version")
    add("--exact", action="store_true",
        help="ask the runtime's own vLLM too: takes ten seconds and more")  # fmt: skip
    add("--trust-remote-code", action="store_true", help="as if the model's own code were allowed")


def wishes(arguments: argparse.Namespace) -> CheckWishes:
    """What the options ask for."""
    return CheckWishes(
        connection=arguments.connection,
        runtime=arguments.runtime,
        vllm_version=arguments.vllm_version,
        engine=EngineChoice(arguments.engine) if arguments.engine else None,
        task=Task(arguments.task) if arguments.task else None,
        gpu=arguments.gpu,
        gpus=arguments.gpus,
        tensor_parallel_size=arguments.tensor_parallel,
        max_tokens=arguments.max_tokens,
        quantization=arguments.quantization,
        kv_cache_dtype=arguments.kv_cache_dtype,
        max_num_seqs=arguments.max_num_seqs,
        max_num_batched_tokens=arguments.max_num_batched_tokens,
        gpu_memory_utilization=arguments.gpu_memory_utilization,
        trust_remote_code=arguments.trust_remote_code,
        exact=arguments.exact,
    )


def meant(model: str) -> str:
    """The absolute path of a folder, or the name as it is."""
    is_path = model.startswith(("/", "./", "../", "~")) or model in (".", "..")
    place = Path(model).expanduser()
    return str(place.absolute()) if is_path or place.is_dir() else model


async def _check(client: ControllerClient, arguments: argparse.Namespace) -> int:
    try:
        models = [meant(model) for model in arguments.models]
        reports = await client.check_many(models, wishes(arguments))
    except (MeshtuiError, RuntimeError) as error:
        # Other commands end with other statuses; here they would read as a verdict.
        complain(error if isinstance(error, MeshtuiError) else InvalidInput(str(error)))
        return UNKNOWN
    if arguments.json:
        print_json(reports[0] if len(reports) == 1 else reports)
    elif arguments.markdown:
        sys.stdout.write("\n".join(markdown(report) for report in reports))
    else:
        print("\n\n".join("\n".join(report_lines(report)) for report in reports))
    return worst(reports)


def worst(reports: list[CheckReport]) -> int:
    """The exit status for several verdicts."""
    return max((_STATUS[report.verdict] for report in reports), default=exit_codes.OK)
