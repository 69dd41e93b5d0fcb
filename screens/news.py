"""What is worth a toast when something that goes on with the cache is over."""

from meshtui.domain.finding import Level
from meshtui.domain.model_cache import Transfer, TransferState

from . import words
from .state import State

# Of many that fail, the list of transfers tells the rest.
_MOST_FAILURES = 3


def of_transfer(transfer: Transfer, state: State) -> tuple[str, str] | None:
    """Words and severity, or None: it goes on, its end was asked for, or others of a batch are
    still on their way."""
    name = transfer.model or transfer.place or "something"
    same = [other for other in state.transfers.values() if other.kind is transfer.kind]
    going_on = any(not other.state.is_over for other in same)
    if transfer.state is TransferState.FAILED:
        failures = sum(other.state is TransferState.FAILED for other in same)
        if going_on and failures > _MOST_FAILURES:
            return None
        error = transfer.error
        why = f"{error.message} {error.hint or ''}".rstrip() if error else ""
        return f"{name} was not {words.transferred(transfer.kind)}: {why}", "error"
    if transfer.state is not TransferState.DONE:
        return None
    wrong = [finding for finding in transfer.findings if finding.level is not Level.OK]
    if wrong:
        more = f" And {words.plural(len(wrong) - 1, 'finding')} more." if len(wrong) > 1 else ""
        severity = "error" if any(f.level is Level.BLOCKER for f in wrong) else "warning"
        done = words.transferred(transfer.kind)
        return f"{name} {done}: {wrong[0].message} {wrong[0].fix}{more}", severity
    if going_on:
        return None
    return f"{name} {words.transferred(transfer.kind)}.", "information"
