"""The models: whether each is whole and proven, the champion answers here, and the store serves its features.

What only a model can tell about the store is found here too: its views, and whether the user may read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from feature_store.clock import Clock
from feature_store.errors import StoreError
from feature_store.online.catalogue import RedisCatalogue
from feature_store.online.serving_rights import RefusedRead, refused_reads
from feature_store.online.store import ViewState
from feature_store.schema import FeatureView
from models.errors import ModelsError
from models.plans.factorised import FactorisedPlan
from models.plans.kernel import WAY_OUT, compiled_kernels_trouble
from models.registry.predictor import Predictor
from models.registry.registry import Registry
from service.checkup.finding import Finding, failure, ok, warning
from service.exit_codes import DEPENDENCY_DOWN, FAILURE
from service.settings import ItemsSettings, Settings

STORE_TIMEOUT_MS = 2_000.0
"""Of one command."""
PROOFS_SHOWN = 5
"""Newest versions that are verified besides the champion."""


def check_models(settings: Settings, store_url: str, clock: Clock) -> list[Finding]:
    """All findings about the registry and its champion.

    Args:
        store_url: of a store that answers; empty where it does not, and nothing is asked of it.
    """
    registry = Registry(settings.registry.dir)
    try:
        champion = registry.champion()
        if champion is None:
            return [_no_champion(registry)]
        others = [version for version in registry.versions()[-PROOFS_SHOWN:] if version != champion]
        before = _n_threads()
        predictor = Predictor(registry.get(champion), settings.plan.choice)
    except ModelsError as error:
        return [failure("champion", str(error), "publish it again, or promote a version that is whole", FAILURE)]
    manifest = predictor.manifest
    findings = [
        ok(
            "champion",
            f"{champion}: {manifest.learner}, proof over {manifest.proof.rows + manifest.proof.threshold_rows} rows "
            f"with |Δp| up to {manifest.proof.max_p_error:.1g}, golden rows answered alike here",
        ),
        _plan(predictor),
        _threads(_n_threads() - before),
        *(_proof(registry, version) for version in others),
    ]
    if store_url:
        findings += _views(predictor, settings.items, store_url, clock())
    return findings


def _no_champion(registry: Registry) -> Finding:
    versions = registry.versions()
    where = f"{registry.directory / registry.name}"
    if not versions:
        return failure("champion", f"{where} holds no model", registry.way_out_of_none(), FAILURE)
    advice = f"clickserve models promote {versions[-1]}, or train a better one"
    return failure("champion", f"{where}: none of {len(versions)} versions is champion", advice, FAILURE)


def _plan(predictor: Predictor) -> Finding:
    """Scoring by ONNX Runtime works, and takes ten times as long as it could."""
    name = predictor.plan.name
    if predictor.fallback is not None:
        return warning(
            "score plan", f"{name}: {predictor.fallback}", "answers are right but slower, code plan_fallback"
        )
    if predictor.factorised is not None and (trouble := compiled_kernels_trouble()) is not None:
        return warning("score plan", f"{name}: the compiled kernels {trouble}", WAY_OUT)
    return ok("score plan", f"{name}, as certified against ONNX Runtime" if predictor.factorised else name)


def _threads(started: int) -> Finding:
    """ONNX Runtime's own threads spin between requests, on cores that workers want."""
    if started > 0:
        return warning(
            "scoring threads", f"loading the champion started {started}", "report this: a worker scores on one thread"
        )
    return ok("scoring threads", "ONNX Runtime scores on the thread that asks, and starts none")


def _proof(registry: Registry, version: str) -> Finding:
    try:
        registry.get(version)
    except ModelsError as error:
        return warning(f"model {version}", str(error), "do not promote it; remove its folder")
    return ok(f"model {version}", "whole, and its proof holds")


def _views(predictor: Predictor, items: ItemsSettings, store_url: str, now_ms: int) -> list[Finding]:
    """Fingerprints that the champion wants against those that the store holds, and where its ads come from."""
    inputs = predictor.manifest.inputs
    if not inputs.views:
        return []
    catalogue = RedisCatalogue(store_url, inputs.project)
    item_views = inputs.ad_views if items.source == "table" else ()
    findings: list[Finding] = []
    try:
        refused = refused_reads(store_url, inputs.project, inputs.views, item_views, timeout_ms=STORE_TIMEOUT_MS)
        findings.append(_rights(refused))
        states = catalogue.states()
    except StoreError as error:
        return [*findings, failure("views", str(error), "see the findings about the store", DEPENDENCY_DOWN)]
    findings += [_view(view, states, now_ms) for view in inputs.views]
    wanted = {view.fingerprint for view in inputs.ad_views}
    if wanted:
        n_ads = max((state.rows for state in states if state.fingerprint in wanted), default=0)
        findings.append(_item_table(items, n_ads))
        if predictor.factorised is not None and items.source == "table":
            findings.append(_ad_parts(predictor.factorised, items, n_ads))
    return findings


def _rights(refused: Sequence[RefusedRead]) -> Finding:
    """Whether the store's user may make every read of serving; most that are refused only show in stale answers."""
    check = "store rights"
    if not refused:
        return ok(check, "the user may make every read that serving makes")
    seen = ", ".join(f"{read.command.upper()} of {read.key}" for read in refused)
    advice = f"ACL SETUSER USER {' '.join(read.rule for read in refused)}; docs/redis.md (Rights) has the whole line"
    return failure(check, f"the user may not make these reads of serving: {seen}", advice, DEPENDENCY_DOWN)


def _view(view: FeatureView, states: Sequence[ViewState], now_ms: int) -> Finding:
    check = f"view {view.name}"
    materialize = f"clickserve materialize --view {view.name}"
    same_name = [state for state in states if state.view == view.name and state.finished_ms is not None]
    held = next((state for state in same_name if state.fingerprint == view.fingerprint), None)
    if held is None:
        served = ", ".join(state.fingerprint[:8] for state in same_name) or "no rows of it"
        seen = f"the champion wants fingerprint {view.fingerprint[:8]}, the store holds {served}"
        return failure(check, seen, f"{materialize}, or promote a model of the served one", FAILURE)
    age_s = (now_ms - held.watermark_ms) / 1000
    seen = f"fingerprint {view.fingerprint[:8]}, {held.rows} rows, the newest {_duration(age_s)} old"
    if held.watermark_ms + view.ttl_ms <= now_ms:
        fate = "are used only by an item table that runs" if view.entity == "ad" else "have expired"
        return warning(check, seen, f"{materialize}: all rows are older than their time-to-live and {fate}")
    return ok(check, seen)


def _item_table(items: ItemsSettings, n_ads: int) -> Finding:
    """Whether the catalogue and `items.source` suit each other."""
    check, fits = "item table", n_ads <= items.max_ads
    if items.source == "table":
        if fits:
            return ok(check, f"{n_ads} ads, of {items.max_ads} allowed")
        advice = (
            "raise items.max_ads where memory allows, or set items.source = store: ads are then read with each user"
        )
        return failure(check, f"{n_ads} ads, more than items.max_ads = {items.max_ads}", advice, FAILURE)
    seen = f"none, every request reads its ads from the store; there are {n_ads}"
    if fits:
        return warning(check, seen, f"set items.source = table: items.max_ads = {items.max_ads} allows them in memory")
    return ok(check, seen)


def _ad_parts(plan: FactorisedPlan, items: ItemsSettings, n_ads: int) -> Finding:
    """Whether what the plan keeps of each ad may be made ahead for all of them."""
    check, part_bytes = "ad parts", plan.width * plan.dtype.itemsize
    size_mb = n_ads * part_bytes / 2**20
    seen = f"{part_bytes} bytes for each of {n_ads} ads, {size_mb:.1f} MB"
    if size_mb <= items.derived_max_mb:
        return ok(check, f"{seen}, of {items.derived_max_mb:g} allowed")
    return warning(
        check,
        f"{seen}, more than items.derived_max_mb = {items.derived_max_mb:g}: each request works out its own",
        "raise items.derived_max_mb where memory allows; answers are the same, but slower",
    )


def _duration(seconds: float) -> str:
    """In the largest unit that leaves a number above 1."""
    for unit, length_s in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length_s:
            return f"{seconds / length_s:.1f} {unit}"
    return f"{seconds:.0f} s"


def _n_threads() -> int:
    """Threads of this process; 0 where the system does not list them."""
    listed = Path("/proc/self/task")
    return sum(1 for _ in listed.iterdir()) if listed.exists() else 0
