"""A model on the Hub, of which a look was taken."""

import msgspec

from meshtui.cache.card import MOST_CARD_BYTES, Card, parse_card
from meshtui.compat.configuration import MOST_BYTES
from meshtui.compat.subject import CARD, TEXTS, Access, Subject, SubjectFile
from meshtui.domain.errors import InvalidInput
from meshtui.domain.model_ref import ModelRef
from meshtui.hub.look import Wanted
from meshtui.hub.looks import Look
from meshtui.hub.safetensors_header import SafetensorsHeader, parse_header

_CARD_BYTES = 256 * 1024
WANTED = Wanted(
    texts={
        name: min(_CARD_BYTES, MOST_CARD_BYTES) if name == CARD else MOST_BYTES for name in TEXTS
    }
)


def subject_of_look(ref: ModelRef, look: Look) -> Subject:
    """The model as it was seen. Blocks for as long as headers take to be read."""
    sizes = {file.path: file.size_bytes for file in look.model.files}
    headers: dict[str, SafetensorsHeader] = {}
    wrong: dict[str, str] = {}
    for path, header in look.headers.items():
        if header.problem:
            wrong[path] = header.problem
            continue
        try:
            headers[path] = parse_header(header.text, sizes.get(path, 0))
        except InvalidInput as error:
            wrong[path] = error.message
    card = parse_card(look.texts[CARD]) if CARD in look.texts else Card()
    model, texts = look.model, look.texts or look.told
    return Subject(
        name=str(ref),
        source="hub",
        texts=texts,
        files=tuple(SubjectFile(path=f.path, size_bytes=f.size_bytes) for f in model.files),
        unreadable={n: why for n, why in look.unreadable.items() if n not in texts},
        headers=headers,
        wrong_headers=wrong,
        commit=model.commit,
        pipeline=model.pipeline or card.pipeline,
        library=model.library or card.library,
        licence=model.licence or card.licence,
        tags=model.tags or card.tags,
        relation=card.base_relation,
        access=_access(look),
    )


def _access(look: Look) -> Access:
    seen = Access(gated=look.model.gated, private=look.model.private, stale=look.problem)
    if look.refusal is None:
        return seen
    return msgspec.structs.replace(seen, refusal=look.refusal.message, fix=look.refusal.hint or "")
