"""The rules of the checker: each looks at one thing and says what it found.

A rule is a function of a `Subject` and a `Setting` that yields findings; one line in `RULES` adds
it. Where the configuration cannot be read, the rules that need it are left out, and the rule
`configuration` says why.
"""

from collections.abc import Callable, Iterable, Iterator

from meshtui.compat.rules.access import access
from meshtui.compat.rules.architecture import architecture, custom_code
from meshtui.compat.rules.configuration import configuration
from meshtui.compat.rules.gpu import gpu
from meshtui.compat.rules.instruct import instruct
from meshtui.compat.rules.length import max_tokens
from meshtui.compat.rules.parallel import tensor_parallel
from meshtui.compat.rules.quantization import quantization
from meshtui.compat.rules.tokenizer import tokenizer
from meshtui.compat.rules.weights import weights
from meshtui.compat.setting import Setting
from meshtui.compat.subject import Subject
from meshtui.domain.finding import Finding

Rule = Callable[[Subject, Setting], Iterable[Finding]]

# In the order in which they are shown. The first ones need no configuration.
WITHOUT_CONFIGURATION: tuple[Rule, ...] = (configuration, access, weights, tokenizer)
WITH_CONFIGURATION: tuple[Rule, ...] = (
    architecture,
    custom_code,
    instruct,
    quantization,
    gpu,
    tensor_parallel,
    max_tokens,
)


def findings(subject: Subject, setting: Setting) -> Iterator[Finding]:
    """What all rules found; where nothing may be read, only why."""
    if subject.access.refusal and not subject.texts:
        yield from access(subject, setting)
        return
    yield from (finding for rule in WITHOUT_CONFIGURATION for finding in rule(subject, setting))
    if subject.broken_configuration is None:
        yield from (finding for rule in WITH_CONFIGURATION for finding in rule(subject, setting))
