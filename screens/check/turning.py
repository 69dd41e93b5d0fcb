"""The keys that change what a model is checked for."""

from meshtui.domain.check import CheckWishes

from ..frame import WorkScreen
from .knob import Knob
from .parameters import GPU, PARAMETERS, Known, Parameter, Value, proposed


class Turning(WorkScreen):
    """A screen with `wishes`, of which one parameter is the current one. It is told of changes by
    `wished`, and says what is `known`, on which values depend."""

    def __init__(self) -> None:
        super().__init__()
        self.wishes = CheckWishes()
        self.current: Parameter = GPU

    @property
    def known(self) -> Known:
        raise NotImplementedError

    def wished(self) -> None:
        """The wishes are others now: asks again, and shows them."""
        raise NotImplementedError

    def show_wishes(self) -> None:
        """Shows the wishes and the current parameter as they are."""
        raise NotImplementedError

    def _wish(self, parameter: Parameter, wishes: CheckWishes) -> None:
        self.current = parameter
        before, self.wishes = self.wishes, wishes
        if wishes == before:
            self.show_wishes()
        else:
            self.wished()

    def _turn(self, parameter: Parameter, direction: int) -> None:
        self._wish(parameter, parameter.turn(self.wishes, self.known, direction))

    def _put(self, parameter: Parameter, value: Value) -> None:
        self._wish(parameter, parameter.put(self.wishes, value))

    def _choose(self, parameter: Parameter) -> None:
        from .choosing import ValuePicker, value_of

        picker = ValuePicker(parameter, self.known, parameter.wished(self.wishes))

        def chosen(key: str | None) -> None:
            if key is not None:
                self._put(parameter, value_of(parameter, key))

        self.app.push_screen(picker, chosen)

    def on_knob_focused(self, message: Knob.Focused) -> None:
        self.current = message.knob.parameter
        self.show_wishes()

    def on_knob_turned(self, message: Knob.Turned) -> None:
        self._turn(message.knob.parameter, message.direction)

    def on_knob_opened(self, message: Knob.Opened) -> None:
        self._choose(message.knob.parameter)

    def action_values(self) -> None:
        self._choose(self.current)

    def action_turn(self, direction: int) -> None:
        self._turn(self.current, direction)

    def action_turn_that(self, name: str, direction: int) -> None:
        self._turn(next(p for p in PARAMETERS if p.name == name), direction)

    def action_reset(self) -> None:
        self._put(self.current, None)

    def action_reset_all(self) -> None:
        self._wish(self.current, CheckWishes(connection=self.wishes.connection))

    def action_apply(self) -> None:
        """Takes over what the checker proposes."""
        self._wish(self.current, proposed(self.wishes, self.known))
