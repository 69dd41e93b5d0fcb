"""A scripted controller with a model cache, and entries and transfers to fill it with."""

from collections.abc import Sequence

import msgspec

from meshtui.domain.controller import Overview
from meshtui.domain.errors import MeshtuiError, NotFound
from meshtui.domain.finding import Finding, Level
from meshtui.domain.model_cache import (
    BuildPlan,
    BuildWishes,
    CacheDetails,
    CacheEntry,
    CacheFile,
    CacheUsage,
    DeletePlan,
    DownloadPlan,
    ExportPlan,
    ExportWishes,
    HubCacheRepo,
    ImportPlan,
    PlannedFile,
    PruneItem,
    PrunePlan,
    PruneWishes,
    Transfer,
    TransferKind,
    TransferState,
    Verification,
    Weights,
    WeightsFormat,
)
from tests.tui.scripted import NOW, ScriptedClient, overview

ROOT = "/home/ana/.cache/meshtui/models"
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
OLD = "acme/old-classifier"
QWEN = "Qwen/Qwen2.5-7B-Instruct"
DAY_S = 86_400.0


def entry(model: str, **changes: object) -> CacheEntry:
    known: dict[str, object] = {
        "model": model,
        "folder": f"{ROOT}/{model.replace('/', '_2f')}",
        "size_bytes": 16_060_000_000,
        "commit": "0e9e39f249a16976918f6564b8830bc894c89659",
        "downloaded_at": NOW - 40 * DAY_S,
        "downloaded_by": "ana",
        "task": "text-generation",
        "library": "transformers",
        "licence": "apache-2.0",
        "languages": ("en", "fr"),
        "tags": ("conversational", "safetensors"),
        "url": f"https://huggingface.co/{model}",
        "weights": Weights(
            format=WeightsFormat.SAFETENSORS, dtype="BF16", shards=4, size_bytes=16_050_000_000
        ),
        "has_checksums": True,
    }
    return CacheEntry(**{**known, **changes})  # type: ignore[arg-type]


SHELF = (
    entry(
        LLAMA,
        licence="llama3.1",
        last_used_at=NOW - 7200,
        last_used_by="ana",
        enabled_on=("gpu-cluster",),
        served_by=("llama-1",),
    ),
    entry(
        MINILM,
        size_bytes=91_700_000,
        task="feature-extraction",
        library="sentence-transformers",
        weights=Weights(format=WeightsFormat.SAFETENSORS, dtype="F32", shards=1),
        last_used_at=NOW - 3 * DAY_S,
        last_used_by="ana",
        verification=Verification(at=NOW - DAY_S, against="checksums"),
    ),
    entry(
        OLD,
        size_bytes=1_340_000_000,
        task="text-classification",
        weights=Weights(format=WeightsFormat.PICKLE, shards=1),
        unsafe=("pytorch_model.bin",),
        last_used_at=NOW - 200 * DAY_S,
        last_used_by="bob",
    ),
    entry(
        f"mistralai/Mistral-7B-v0.1@{'7' * 40}",
        size_bytes=4_200_000_000,
        weights=Weights(
            format=WeightsFormat.SAFETENSORS, dtype="I32", shards=2, quantization="awq"
        ),
        verification=Verification(
            at=NOW - DAY_S,
            against="hub",
            findings=(
                Finding(
                    rule="changed",
                    level=Level.BLOCKER,
                    message="model-00001-of-00002.safetensors has changed.",
                    fix="Download or import the model again.",
                ),
            ),
        ),
    ),
    entry("broken_2fthing", problem="model_metadata.json is missing.", weights=Weights()),
)
USAGE = CacheUsage(
    root=ROOT,
    entries=5,
    used_bytes=sum(one.size_bytes for one in SHELF),
    partials=1,
    partial_bytes=2_100_000_000,
    disk_total_bytes=980_000_000_000,
    disk_free_bytes=568_000_000_000,
)


def transfer(
    model: str | None = QWEN, state: TransferState = TransferState.RUNNING, **changes: object
) -> Transfer:
    known: dict[str, object] = {
        "id": "t1",
        "kind": TransferKind.DOWNLOAD,
        "state": state,
        "model": model,
        "step": "Downloading",
        "done_bytes": 6_536_000_000,
        "total_bytes": 15_200_000_000,
        "rate_bytes_s": 212_000_000.0,
        "created_at": NOW - 60,
        "started_at": NOW - 31,
    }
    return Transfer(**{**known, **changes})  # type: ignore[arg-type]


class CacheClient(ScriptedClient):
    """Plans are answered from attributes that a test may change; what is started is kept in
    `commands`. `fails` is raised by the next plan."""

    def __init__(self, *entries: CacheEntry, first: Overview | None = None) -> None:
        super().__init__(first or msgspec.structs.replace(overview(), cache=USAGE, transfers=()))
        self.entries = {one.model: one for one in entries or SHELF}
        self.fails: MeshtuiError | None = None
        self.import_plans: list[ImportPlan] = []
        self.repos: list[HubCacheRepo] = []
        self.delete_refusal: str | None = None
        self.download_plan = DownloadPlan(
            model=QWEN,
            commit="a" * 40,
            files=(
                PlannedFile(path="config.json", size_bytes=663, selected=True),
                PlannedFile(path="model-1.safetensors", size_bytes=15_200_000_000, selected=True),
                PlannedFile(
                    path="original/consolidated.pth",
                    size_bytes=15_100_000_000,
                    selected=False,
                    reason="a second copy of the weights",
                ),
            ),
            have_bytes=2_100_000_000,
            free_bytes=568_000_000_000,
            licence="apache-2.0",
            findings=(
                Finding(
                    rule="gated",
                    level=Level.WARNING,
                    message="The repository is gated; this token has access.",
                ),
            ),
        )
        self.build_plan = BuildPlan(
            source="/x", files=3, size_bytes=5_000_000, free_bytes=10**12, task="text-generation"
        )

    def _asked(self) -> None:
        if self.fails is not None:
            raise self.fails

    async def cache_entries(self) -> list[CacheEntry]:
        self._asked()
        return list(self.entries.values())

    async def cache_entry(self, model: str) -> CacheDetails:
        self._asked()
        if model not in self.entries:
            raise NotFound(f"{model} is not in the cache.")
        return CacheDetails(
            entry=self.entries[model],
            files=(
                CacheFile(path="config.json", size_bytes=663, sha256="1f" * 32),
                CacheFile(path="model-00001-of-00004.safetensors", size_bytes=4_976_698_672),
            ),
            card="# The model\n\nIt answers questions.\n\n- in English\n- in French",
            architectures=("LlamaForCausalLM",),
            context_length=131_072,
            frees_bytes=16_060_000_000,
            findings=(
                Finding(rule="licence", level=Level.WARNING, message="The licence has conditions."),
            ),
            verdict="vLLM 0.32 runs it here.",
        )

    async def cancel_transfer(self, transfer_id: str) -> Transfer:
        return self._started("cancel", transfer_id)

    async def retry_transfer(self, transfer_id: str) -> Transfer:
        return self._started("retry", transfer_id)

    async def remove_transfer(self, transfer_id: str) -> None:
        self._started("forget", transfer_id)

    async def plan_download(self, model: str, connection: str | None = None) -> DownloadPlan:
        self._asked()
        return msgspec.structs.replace(self.download_plan, model=model)

    async def download(
        self, model: str, connection: str | None = None, files: list[str] | None = None
    ) -> Transfer:
        return self._started("download", model, connection or "", str(files))

    async def plan_import(self, path: str) -> list[ImportPlan]:
        self._asked()
        self.commands.append(("plan import", path))
        return self.import_plans

    async def import_model(self, path: str, replace: bool = False) -> Transfer:
        return self._started("import", path, str(replace))

    async def plan_build(self, path: str, wishes: BuildWishes) -> BuildPlan:
        self._asked()
        said = {"model": wishes.model} if wishes.model else {}
        return msgspec.structs.replace(self.build_plan, source=path, **said)

    async def build_entry(self, path: str, wishes: BuildWishes, replace: bool = False) -> Transfer:
        return self._started("build", path, str(wishes.model), str(wishes.library), str(replace))

    async def hub_cache(self, path: str | None = None) -> list[HubCacheRepo]:
        self._asked()
        return self.repos

    async def adopt(self, folder: str, replace: bool = False, allow_copy: bool = False) -> Transfer:
        return self._started("adopt", folder, str(replace), str(allow_copy))

    async def plan_export(self, model: str, wishes: ExportWishes) -> ExportPlan:
        self._asked()
        return ExportPlan(
            model=model,
            paths=(f"{wishes.folder}/{model.replace('/', '_2f')}.{wishes.container}",),
            files=9,
            size_bytes=self.entries[model].size_bytes,
            free_bytes=10**12,
        )

    async def export(self, model: str, wishes: ExportWishes) -> Transfer:
        return self._started(
            "export", model, wishes.folder, wishes.container, str(wishes.volume_bytes)
        )

    async def verify(
        self, model: str, against_hub: bool = False, connection: str | None = None
    ) -> Transfer:
        return self._started("verify", model, str(against_hub))

    def _deletes(self, models: Sequence[str]) -> list[DeletePlan]:
        return [
            DeletePlan(
                model=model,
                size_bytes=self.entries[model].size_bytes,
                frees_bytes=self.entries[model].size_bytes,
                enabled_on=self.entries[model].enabled_on,
                served_by=self.entries[model].served_by,
                refusal="The server llama-1 uses it: stop it first."
                if self.entries[model].served_by
                else self.delete_refusal,
            )
            for model in models
        ]

    async def plan_delete(self, models: Sequence[str]) -> list[DeletePlan]:
        self._asked()
        return self._deletes(models)

    async def delete_models(self, models: Sequence[str]) -> list[DeletePlan]:
        self.commands.append(("delete", *models))
        return self._deletes(models)

    async def plan_prune(self, wishes: PruneWishes) -> PrunePlan:
        self._asked()
        return PrunePlan(
            items=(
                PruneItem(model=OLD, reason="not used for 200 days", frees_bytes=1_340_000_000),
            ),
            kept=(PruneItem(model=LLAMA, reason="a server uses it", frees_bytes=0),),
        )

    async def prune(self, wishes: PruneWishes) -> PrunePlan:
        self.commands.append(("prune", str(wishes.unused_s), str(wishes.partials)))
        return await self.plan_prune(wishes)

    def _started(self, *command: str) -> Transfer:
        self.commands.append(command)
        return transfer()
