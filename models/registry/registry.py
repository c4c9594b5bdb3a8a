"""The registry: a directory of published models, and which of them is champion.

    <directory>/<name>/v000001-3f9a01bc/    an artifact: number of publication, first digits of its core's hash
    <directory>/<name>/champion             the champion's version, one line of text, replaced by rename
    <directory>/<name>/.claims/000002       a number that somebody is publishing under

Published folders never change. Any number of processes may publish, promote and read at once: numbers are claimed by
creating a file that must not exist, folders and pointer appear by rename. A publisher that dies leaves a claim and a
hidden folder that nobody reads. Versions sort in the order of publication.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from models.errors import ArtifactDamaged, ModelNotFound, ProofMissing, RegistryError
from models.registry.artifact import MANIFEST, ModelArtifact, load_artifact, sha256, write_artifact
from models.registry.files import naming_the_disk, write_once, write_over
from models.registry.gate import Gate, Verdict
from models.registry.manifest import Manifest
from models.registry.model_name import DEFAULT_NAME, NAME_RULE, is_model_name
from models.registry.predictor import Predictor

_VERSION = re.compile(r"v(\d{6,})-[0-9a-f]{8}")

NAMES_SHOWN = 20
"""Names of other models that a message lists."""

RenderFiles = Callable[[Manifest], Mapping[str, bytes]]
"""Files that speak of the version, such as the model card, made once the version is known."""


@dataclass(frozen=True, slots=True)
class Published:
    """A model that is now in the registry; `verdict` says whether it passed the gate."""

    version: str
    path: Path
    manifest: Manifest
    verdict: Verdict
    is_champion: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """One version in the registry, whatever its state."""

    version: str
    manifest: Manifest | None
    """None where nothing in the folder can be trusted."""
    state: str
    """`ok`, `damaged: …` or `unfinished`."""


class Registry:
    """Published models of one name."""

    def __init__(self, directory: Path, name: str = DEFAULT_NAME) -> None:
        """Does not touch the disk.

        Raises:
            RegistryError: the name is not made of small letters, digits, `-` and `_`.
        """
        if not is_model_name(name):
            raise RegistryError(f"{NAME_RULE}; got {name!r}")
        self.directory, self.name = directory, name
        self._home = directory / name
        self._pointer = self._home / "champion"

    def publish(self, manifest: Manifest, files: Mapping[str, bytes], render: RenderFiles, gate: Gate) -> Published:
        """Adds a model; the first one that passes the gate where there is no champion becomes champion.

        Args:
            manifest: complete but for name, version and checksums, which are filled in here.
            files: content of the artifact's other files, by name.
            render: makes further files from the manifest with its version.
        Raises:
            ProofMissing: the proof does not hold: such a model is never published.
            RegistryError: the disk is full or may not be written; nothing half-written is left.
        """
        if not manifest.proof.holds:
            raise ProofMissing(
                f"the exported graph does not answer as its trainer did: {manifest.proof.described()}; it is not "
                "published, because what it would serve is not what was measured; report this model's data and seed"
            )
        with naming_the_disk("publish in", self._home), self._claimed_number() as number:
            version = f"v{number:06d}-{manifest.core_sha256[:8]}"
            named = msgspec.structs.replace(manifest, name=self.name, version=version)
            contents = {**files, **render(named)}
            complete = msgspec.structs.replace(named, files={n: sha256(content) for n, content in contents.items()})
            write_artifact(self._home / version, complete, contents)
        verdict = gate.judge(complete, champion=None)
        is_champion = verdict.passed and self._become_first_champion(version)
        return Published(version, self._home / version, complete, verdict, is_champion)

    def check_writable(self) -> None:
        """For who is about to work long before he publishes; leaves nothing behind.

        Raises:
            RegistryError: the directory cannot be made, or may not be written.
        """
        claims = self._home / ".claims"
        missing = [folder for folder in (claims, *claims.parents) if not folder.exists()]
        with naming_the_disk("publish in", self._home), self._claimed_number():
            pass
        for folder in missing:
            with suppress(OSError):  # somebody else has published meanwhile
                folder.rmdir()

    def versions(self) -> tuple[str, ...]:
        """All published versions, oldest first; none where the directory does not exist."""
        complete = [version for version in self._folders() if (self._home / version / MANIFEST).is_file()]
        return tuple(sorted(complete, key=_number))

    def listing(self) -> tuple[Listed, ...]:
        """Every version, oldest first, each verified; one that is damaged takes none of the others away.

        Raises:
            RegistryError: the registry itself cannot be read.
        """
        return tuple(self._listed(version) for version in sorted(self._folders(), key=_number))

    def newest(self) -> str:
        """The version published last. Raises ModelNotFound where there is none."""
        versions = self.versions()
        if not versions:
            raise ModelNotFound(f"the registry {self._home} holds no model; {self.way_out_of_none()}")
        return versions[-1]

    def way_out_of_none(self) -> str:
        """What to do where this name has no version: the usual reason is that the models have other names."""
        others = self._other_names()
        train = "train one with `clickserve train`"
        if not others:
            return train
        more = f" and {len(others) - NAMES_SHOWN} more" if len(others) > NAMES_SHOWN else ""
        return (
            f"name one of those that are there (--name NAME; registry.models of the service): "
            f"{', '.join(others[:NAMES_SHOWN])}{more}; or {train}"
        )

    def champion(self) -> str | None:
        """The champion's version, or None where none was promoted."""
        try:
            return self._pointer.read_text().strip()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise RegistryError(f"{self._pointer} is not text; promote a version to write it anew") from None
        except OSError as error:
            raise RegistryError(f"cannot read {self._pointer}: {error.strerror or error}") from error

    def missing(self) -> Path:
        """Where there is no champion: the outermost of registry, folder of this name and pointer that is not there."""
        return next((path for path in (self.directory, self._home) if not path.exists()), self._pointer)

    def get(self, version: str) -> ModelArtifact:
        """A verified artifact.

        Raises:
            ModelNotFound: there is no such version.
            ArtifactDamaged, ProofMissing: as `load_artifact`.
        """
        if version not in self._folders():
            shown = ", ".join(self.versions()[-5:]) or "none"
            raise ModelNotFound(f"the registry {self._home} holds no version {version!r}; the newest are: {shown}")
        return load_artifact(self._home / version)

    def load(self, version: str) -> Predictor:
        """A version ready to answer. Raises as `get`, and PlanError where its graph cannot be loaded here."""
        return Predictor(self.get(version))

    def promote(self, version: str, gate: Gate) -> Verdict:
        """Makes a version champion if the gate lets it.

        Raises:
            ModelNotFound, ArtifactDamaged, ProofMissing: as `get`.
            RegistryError: the pointer cannot be written.
        """
        candidate = self.get(version).manifest
        reigning = self.champion()
        against = None if reigning in (None, version) else self.get(str(reigning)).manifest
        verdict = gate.judge(candidate, against)
        if verdict.passed:
            with naming_the_disk("promote in", self._home):
                write_over(self._pointer, f"{version}\n".encode())
        return verdict

    def _listed(self, version: str) -> Listed:
        path = self._home / version
        if not (path / MANIFEST).is_file():
            return Listed(version, None, "unfinished")
        try:
            return Listed(version, load_artifact(path).manifest, "ok")
        except (ArtifactDamaged, ProofMissing) as error:
            return Listed(version, None, f"damaged: {str(error).removeprefix(f'{path}: ')}")

    def _other_names(self) -> list[str]:
        """Of models in the same directory that have a version."""
        try:
            named = sorted(path.name for path in self.directory.iterdir() if is_model_name(path.name))
        except OSError:
            return []
        return [name for name in named if name != self.name and Registry(self.directory, name)._has_versions()]

    def _has_versions(self) -> bool:
        try:
            return bool(self.versions())
        except RegistryError:
            return False

    def _folders(self) -> list[str]:
        """Names of all folders that look like a version, complete or not."""
        try:
            return [entry.name for entry in self._home.iterdir() if _VERSION.fullmatch(entry.name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RegistryError(f"cannot read {self._home}: {error.strerror or error}") from error

    @contextmanager
    def _claimed_number(self) -> Iterator[int]:
        """A number of publication that nobody else has or will get."""
        claims = self._home / ".claims"
        claims.mkdir(parents=True, exist_ok=True)
        number = max((_number(folder) for folder in self._folders()), default=0)
        while True:
            number += 1
            claim = claims / f"{number:06d}"
            try:
                os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileExistsError:
                continue
            # Its owner may have published and let go between our look at the folders and our claim.
            if any(_number(folder) == number for folder in self._folders()):
                claim.unlink()
                continue
            break
        try:
            yield number
        finally:
            claim.unlink()

    def _become_first_champion(self, version: str) -> bool:
        """Sets the pointer unless there is one; of several publishers at once exactly one succeeds."""
        with naming_the_disk("name the champion in", self._home):
            return write_once(self._pointer, f"{version}\n".encode())


def _number(version: str) -> int:
    return int(version[1:].split("-", maxsplit=1)[0])
