"""Entries that go out and come in, as tests of archives want them."""

import hashlib
import os
from pathlib import Path

from meshtui.cache.archive.exporting import export_model
from meshtui.cache.archive.importing import import_model
from meshtui.cache.archive.reading import plan_import
from meshtui.cache.store import Entry, ModelStore
from meshtui.cache.work import Work
from meshtui.domain.finding import Level
from meshtui.domain.model_cache import ExportPlan, ExportWishes, ImportPlan
from meshtui.domain.model_ref import ModelRef
from tests.support.models import put, safetensors

REF = ModelRef("acme/x")
VOLUME_BYTES = 100_000
LARGE = {"big.safetensors": safetensors({"w": ("U8", (345_678,), os.urandom(345_678))})}


def put_with_sums(store: ModelStore, content: dict[str, bytes], model: str = "acme/x") -> Entry:
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    return put(store, model, content, checksums=sums, download_date=1_700_000_000_000)


def exported(store: ModelStore, out: Path, **wishes: object) -> list[Path]:
    done = export_model(REF, store, ExportWishes(folder=str(out), **wishes), Work())  # type: ignore[arg-type]
    return [Path(path) for path in done.paths]


def imported(path: Path, store: ModelStore, *, replace: bool = False) -> Entry:
    plan = plan_import(path, store, Work())
    assert plan.possible, plan.findings
    ref, findings = import_model(path, store, Work(), replace=replace)
    assert all(finding.level is not Level.BLOCKER for finding in findings)
    assert plan.model == str(ref)
    return store.get(ref)


def rules(plan: ImportPlan | ExportPlan) -> set[str]:
    return {finding.rule for finding in plan.findings if finding.level is not Level.OK}
