"""Bringing in what is on this machine: archives and folders, and the Hugging Face cache."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.content import Content

from meshtui.domain.model_cache import HubCacheRepo, ImportPlan
from meshtui.domain.text import one_line

from .. import words
from ..frame import workstation
from ..widgets.dialogs import Confirm
from ..widgets.table import Column, Row
from . import acts
from .paths import PathField
from .plan import PlanDialog, blocked, line
from .rows import fit_name, short_name

_COLUMNS = (
    Column("", 1),
    Column("MODEL", 26, most=50, fit=fit_name),
    Column("SIZE", 7, right=True),
    Column("FILES", 5, right=True, drop=2),
    Column("HOW", 8, drop=1),
    Column("", 16, most=40),
)


def _row(
    key: str, name: str, size_bytes: int, files: int, how: str, *, cached: bool, wrong: str
) -> Row:
    sign, tone, note = " ", "$muted", "new"
    if wrong:
        sign, tone, note = words.FAILED, "$error", wrong
    elif cached:
        sign, tone, note = words.READY, "$success", "in the cache"
    return Row(
        key,
        (
            (sign, tone),
            (name, "$strong"),
            (words.size(size_bytes), ""),
            (f"{files:,}", "$muted"),
            (how, "$muted"),
            (one_line(note), tone if wrong else "$muted"),
        ),
    )


class ImportDialog(PlanDialog):
    """The plan of each archive or entry's folder; those that are new are marked."""

    HEADING = "Import"
    ASKING = "reading what is in it…"
    COLUMNS: ClassVar[tuple[Column, ...]] = _COLUMNS
    MARKS = True
    KEYS = (("enter", "Look, then import"), ("space", "Mark"), ("esc", "Close"))

    def __init__(self) -> None:
        super().__init__()
        self._plans: dict[str, ImportPlan] = {}

    def compose_form(self) -> ComposeResult:
        place = "an archive, an entry's folder, or a folder of several"
        yield line("from", PathField(placeholder=place, id="path"))

    async def ask(self) -> None:
        path = self.query_one(PathField).path
        found = await workstation(self).client.plan_import(path)
        self._plans = {plan.source: plan for plan in found}

    def show_plan(self) -> None:
        plans = self._plans.values()
        rows = [
            _row(
                plan.source,
                short_name(plan.model or plan.source.rpartition("/")[2]),
                plan.size_bytes,
                plan.files,
                plan.container,
                cached=plan.replaces,
                wrong="" if plan.possible else "cannot be imported",
            )
            for plan in plans
        ]
        self.items.show(rows)
        self.items.mark(plan.source for plan in plans if plan.possible and not plan.replaces)
        free = f" · {words.size(next(iter(plans)).free_bytes)} free" if plans else ""
        self.tell(f"{words.plural(len(plans), 'model')} found{free}")
        self.on_table_moved()

    def on_table_moved(self) -> None:
        plan = self._plans.get(self.items.current or "")
        self.tell_of(plan.findings if plan else ())

    def carry_out(self) -> None:
        plans = [self._plans[key] for key in self.items.chosen if self._plans[key].possible]
        lost = [plan.model or plan.source for plan in plans if plan.replaces]
        if plans and lost:
            question = Confirm(*_replacing(lost), "Replace")
            self.app.push_screen(question, lambda yes: self._start(plans) if yes else None)
        elif plans:
            self._start(plans)

    def _start(self, plans: Sequence[ImportPlan]) -> None:
        client = workstation(self).client
        starts = [partial(client.import_model, plan.source, plan.replaces) for plan in plans]
        acts.begin(self, starts, f"Importing {words.plural(len(plans), 'model')}.")
        self.dismiss(plans[0].model)


def _replacing(models: Sequence[str]) -> tuple[str, list[str]]:
    """The question whether these are to be replaced, and what it is about."""
    names = [one_line(model, 100) for model in models[:8]]
    more = [f"and {len(models) - 8} more"] if len(models) > 8 else []
    return "Replace what is in the cache?", [*names, *more]


class AdoptDialog(PlanDialog):
    """The snapshots of the Hugging Face cache; those that are new and cost nothing are marked."""

    HEADING = "Adopt from the Hugging Face cache"
    ASKING = "reading the Hugging Face cache…"
    COLUMNS: ClassVar[tuple[Column, ...]] = _COLUMNS
    MARKS = True
    KEYS = (("enter", "Adopt"), ("space", "Mark"), ("^a", "All"), ("esc", "Close"))

    def __init__(self) -> None:
        super().__init__()
        self._repos: dict[str, HubCacheRepo] = {}

    def compose_form(self) -> ComposeResult:
        yield line("from", PathField(placeholder="the usual place", id="path"))

    def on_mount(self) -> None:
        self.look_up()

    async def ask(self) -> None:
        path = self.query_one(PathField).path
        found = await workstation(self).client.hub_cache(path or None)
        self._repos = {repo.folder: repo for repo in found}

    def show_plan(self) -> None:
        repos = self._repos.values()
        self.items.empty = "nothing is there to adopt"
        self.items.show(
            [
                _row(
                    repo.folder,
                    short_name(repo.model),
                    repo.size_bytes,
                    repo.files,
                    {"link": "linked", "reflink": "shared"}.get(repo.how, "copied"),
                    cached=repo.cached,
                    wrong="cannot be adopted" if blocked(repo.findings) else "",
                )
                for repo in repos
            ]
        )
        self.items.mark(repo.folder for repo in repos if _is_free(repo))
        self._show_sum()

    def on_mark_table_marked(self) -> None:
        self._show_sum()

    def on_table_moved(self) -> None:
        repo = self._repos.get(self.items.current or "")
        self.tell_of(repo.findings if repo else ())

    def _show_sum(self) -> None:
        marked = [self._repos[key] for key in self.items.marks]
        copied = [repo for repo in marked if repo.how == "copy"]
        text = f"{len(marked)} of {len(self._repos)} marked, {_size(marked)}"
        if copied:
            self.tell(
                text,
                Content.styled(
                    f"{words.ATTENTION} {_size(copied)} are copied: no link leads there.",
                    "$warning",
                ),
            )
        else:
            self.tell(f"{text}; no byte is copied" if marked else text)

    def carry_out(self) -> None:
        repos = [self._repos[key] for key in self.items.chosen]
        repos = [repo for repo in repos if not blocked(repo.findings)]
        lost = [repo.model for repo in repos if repo.cached]
        if repos and lost:
            question = Confirm(*_replacing(lost), "Replace")
            self.app.push_screen(question, lambda yes: self._start(repos) if yes else None)
        elif repos:
            self._start(repos)

    def _start(self, repos: Sequence[HubCacheRepo]) -> None:
        client = workstation(self).client
        starts = [
            partial(client.adopt, repo.folder, repo.cached, repo.how == "copy") for repo in repos
        ]
        acts.begin(self, starts, f"Adopting {words.plural(len(repos), 'model')}.")
        self.dismiss(repos[0].model)


def _is_free(repo: HubCacheRepo) -> bool:
    return not repo.cached and repo.how != "copy" and not blocked(repo.findings)


def _size(repos: Iterable[HubCacheRepo]) -> str:
    return words.size(sum(repo.size_bytes for repo in repos))
