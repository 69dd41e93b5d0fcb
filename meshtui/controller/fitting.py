"""Whether a model can do what is asked of it, said before its server is started."""

from meshtui.controller.catalogue import Catalogue, Choice
from meshtui.domain.errors import InvalidInput
from meshtui.domain.task import Ability

_SHOWN = 5


def check_fits(choice: Choice, ability: Ability, catalogue: Catalogue) -> None:
    """Raises `InvalidInput` where the task that the model is enabled for does not give the
    ability; the hint says what the model can do, and which others can do this."""
    enabled = choice.enabled
    if enabled.task in ability.tasks:
        return
    able = [other.value for other in Ability if enabled.task in other.tasks]
    others = [
        name for name, other in catalogue.by_id().items() if other.enabled.task in ability.tasks
    ]
    hints = [
        f"It can {' and '.join(able)}." if able else "",
        f"Enabled models that can {ability}: {', '.join(others[:_SHOWN])}." if others else "",
        f"If its task is wrong, set it on the connection {choice.connection.name}.",
    ]
    raise InvalidInput(
        f"{enabled.model} cannot {ability}: it is enabled for {enabled.task}.",
        hint=" ".join(filter(None, hints)),
    )
