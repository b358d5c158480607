"""What all adapters to processes share: from runs of a model to a stream of samples.

The stream is cut into batches of indices: batch ``b`` holds the indices ``b*B`` to ``(b+1)*B - 1``. Its first run asks
the model for ``B`` crystals with the seed ``derive_seed(seed, b)``; those that are crystals and fit the condition take
its indices in the order in which they were written. What stays open, because crystals were passed over, missing or lost
with a run, is filled by further runs ``1, 2, ...`` for the same batch with the seeds ``derive_seed(seed, b, run)``. So
the indices have no gaps, a stream can begin at any index without knowing what happened before its batch, and nothing
depends on how many samples were asked for.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import warnings
from abc import ABC, abstractmethod
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from generators.adapters.environment import Python, probe
from generators.adapters.process import child_environment
from generators.adapters.reading import PassedOver, Refused, judge
from generators.adapters.runs import CONDITION, OUTPUT, FailedRun, Part, Run, Store, work
from generators.base import Sample, derive_seed, untrained
from generators.state_file import read_own, understood, write_own

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from pymatgen.core import Structure

    from generators.adapters.options import Running
    from generators.adapters.reading import Found
    from generators.base import Condition, FitReport, Labelled

FORMAT = 1
ATTEMPTS = 2
"""A run that fails is run once more with the same seed before it is given up."""
HASHED_BYTES = 4_000_000
"""A file of the model up to this size is known by its content, a larger one (weights) by size and time."""


@dataclass
class _Standing:
    """What one stream knows of its model: whether it was looked at, and how it fares."""

    store: Store
    environment: dict[str, str] | None = None
    found: Python | None = None
    failures: int = 0
    enough: bool = False
    """Whether the run at work has brought all that is needed."""
    lost: list[tuple[Path, Run, list[str], str]] = field(default_factory=list)
    """Lost runs since the last good one: kept only when a later run has taken their place."""


class OutsideGenerator(ABC):
    """A model in an environment of its own, run as a process.

    Parameters
    ----------
    running : Running
    python : str or None
        The model's interpreter.
    needs : tuple of str
        Modules that it must have.
    """

    name: ClassVar[str]
    conditions_on: frozenset[str] = frozenset()
    version = "1+0"
    package: ClassVar[str | None] = None
    """Package of the model, if its version is that of its crystals; None: the model tells it with each batch."""

    def __init__(self, running: Running, python: str | None, needs: tuple[str, ...]) -> None:
        self.running, self.python, self.needs = running, python, needs

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the options that make an equal generator, JSON-compatible."""

    @abstractmethod
    def _command(self, run: Run, output: Path, condition_file: Path) -> tuple[list[str], dict[str, Any]]:
        """Return the command of a run, and what of it a sample's ``info`` shall tell under ``asked``."""

    @abstractmethod
    def _parts(self, folder: Path, seen: int, code: int | None) -> Iterator[Part]:
        """Yield the finished parts in a folder from number ``seen`` on; ``code`` is None while the model works."""

    def _check(self, environment: Mapping[str, str]) -> None:  # noqa: B027 - not every model needs more
        """Look for what the model needs besides modules; raises EnvironmentProblem."""

    def _files(self) -> tuple[str, ...]:
        """List files whose content decides what comes out."""
        return ()

    def _refuse(self, condition: Condition) -> None:  # noqa: B027 - most models are asked anyway
        """Raise ValueError for a condition that the model can't meet."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.options() == other.options()

    def __hash__(self) -> int:
        return hash((type(self), json.dumps(self.options(), sort_keys=True)))

    def fit(self, dataset: Iterable[Structure], **options: Any) -> FitReport:
        """Count the structures: an outside model is trained outside.

        Raises
        ------
        ValueError
            If an option is given.
        """
        return untrained(self.name, dataset, options)

    def update(self, labelled: Iterable[Labelled]) -> Self:
        """Return an equal generator: an outside model does not learn from a campaign."""
        del labelled
        return type(self)(**self.options())

    def save(self, directory: Path) -> None:
        """Write ``generator.json``: the options, never the model."""
        write_own(directory, self.name, FORMAT, {"options": self.options()})

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what :meth:`save` wrote."""
        state = read_own(directory, cls.name, FORMAT)
        with understood(directory):
            return cls(**state["options"])

    def check(self) -> Python | None:
        """Ask the model's environment whether it has what is needed.

        Returns
        -------
        Python or None
            Versions; None if the model has no interpreter of ours to ask.

        Raises
        ------
        EnvironmentProblem
            The message names what is missing, where, and what would be right.
        """
        environment = child_environment(self.name, self.running.environment, self.python)
        found = None if self.python is None else probe(self.name, self.python, self.needs, environment)
        self._check(environment)
        return found

    def sample(self, n: int, condition: Condition, seed: int, start: int = 0) -> Iterator[Sample]:
        """Yield samples ``start`` .. ``n - 1`` as soon as the model has written them; see :class:`Generator`.

        Closing the iterator ends the model.

        Raises
        ------
        ValueError
            At once, if the model can't meet the condition.
        EnvironmentProblem
            Before the model is first run; not at all if every run it takes is in ``cache``.
        RuntimeError
            If ``max_failures`` runs in a row are lost, or ``tries`` runs do not fill a batch.
        """
        self._refuse(condition)
        return self._stream(n, condition, seed, start)

    def _stream(self, n: int, condition: Condition, seed: int, start: int) -> Iterator[Sample]:
        if start >= n:
            return
        size = self.running.batch
        with ExitStack() as stack:
            if self.running.cache is None:
                root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"nucleate-{self.name}-")))
            else:
                root = Path(self.running.cache) / self._key(condition, seed)
            standing = _Standing(Store(root))
            stack.callback(standing.store.clear)
            for batch in range(start // size, (n - 1) // size + 1):
                yield from self._fill(batch, n, condition, seed, start, standing)

    def _key(self, condition: Condition, seed: int) -> str:
        """Name a stream by all that decides it: model, condition and seed."""
        ignored = {"timeout_s", "environment", "cache", "max_failures", "tries", "grace_s"}
        options = {key: value for key, value in self.options().items() if key not in ignored}
        document = [self.name, FORMAT, options, [_fingerprint(Path(f)) for f in self._files()], asdict(condition), seed]
        digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
        return f"{self.name}-{digest[:20]}"

    def _fill(
        self, batch: int, n: int, condition: Condition, seed: int, start: int, standing: _Standing
    ) -> Iterator[Sample]:
        """Yield the samples of one batch of indices."""
        size = self.running.batch
        filled = delivered = 0
        passed_over, lost = PassedOver(), []
        for number in range(self.running.tries):
            wanted = size
            if filled:  # ask for what is missing, and for what will probably be passed over of it
                wanted = min(size, math.ceil((size - filled) * delivered / filled))
            run_seed = derive_seed(seed, batch) if number == 0 else derive_seed(seed, batch, number)
            run = Run(batch, number, wanted, run_seed, batch * size, condition)
            standing.enough = False
            try:
                with closing(self._crystals(run, standing)) as crystals:
                    for place, (found, part, asked) in enumerate(crystals):
                        if standing.enough:
                            continue  # until the model has ended, so that its run can be kept
                        delivered += 1
                        standing.enough = place == wanted - 1
                        structure = judge(found, condition)
                        if isinstance(structure, Refused):
                            passed_over.add(structure)
                            continue
                        index = batch * size + filled
                        filled += 1
                        standing.enough |= filled == size or index == n - 1
                        if start <= index < n:
                            info = {
                                "model": part.model,
                                "model_version": part.version,
                                "batch": batch,
                                "run": number,
                                "place": place,
                                "sha256": part.sha256,
                            }
                            info |= {"asked": asked} if asked else {}
                            info |= {"passed_over": len(passed_over)} if passed_over.kinds else {}
                            yield Sample(index, structure, derive_seed(seed, index), self.name, self.version, info)
            except FailedRun as failure:
                lost.append(failure.reason)
            if filled == size or batch * size + filled >= n:
                break
        if passed_over.kinds or lost:
            warnings.warn(_summary(self.name, batch, passed_over, lost), stacklevel=2)
        if filled < size and batch * size + filled < n:
            raise RuntimeError(
                f"{self.name}: {self.running.tries} runs (option tries) filled {filled} of the {size} places of batch "
                f"{batch}; {passed_over or 'no crystal was passed over'}"
                + (f"; lost runs: {'; '.join(lost)}" if lost else "")
                + ". Widen the condition, or use a model that keeps it"
            )

    def _crystals(self, run: Run, standing: _Standing) -> Generator[tuple[Found, Part, dict[str, Any]], None, None]:
        """Yield what one run brings, from the cache or from the model, which is tried twice.

        Raises
        ------
        FailedRun
            If it failed twice, after what it brought.
        RuntimeError
            If too many in a row did.
        """
        _, asked = self._command(run, Path(OUTPUT), Path(CONDITION))
        kept = standing.store.kept(run, self._parts)
        if kept is not None:
            parts, reason = kept
            for part in parts:
                for crystal in part.crystals:
                    yield crystal, part, asked
            if reason is not None:
                raise FailedRun(reason)
            return
        if standing.environment is None:
            standing.found = self.check()
            standing.environment = child_environment(self.name, self.running.environment, self.python)
        hashes: list[str] = []
        best: tuple[int, Path | None] = (-1, None)
        last = FailedRun("it was not run")
        for _ in range(ATTEMPTS):
            folder = standing.store.workplace(run, {"format": FORMAT, **asdict(run.condition)})
            command, _ = self._command(run, folder / OUTPUT, folder / CONDITION)
            seen = 0
            try:
                with closing(self._work(command, folder, run, standing)) as fresh:
                    for part in fresh:
                        seen += 1
                        if seen <= len(hashes):
                            continue  # the first attempt brought it, from the same seed
                        hashes.append(part.sha256)
                        version = self._version(standing)
                        told = part if version is None else part._replace(version=version)
                        for crystal in part.crystals:
                            yield crystal, told, asked
            except FailedRun as failure:
                if standing.enough:
                    return
                last = failure
                if seen > best[0]:
                    best = (seen, folder)
            else:
                return
        standing.failures += 1
        if best[1] is not None:
            standing.lost.append((best[1], run, hashes, last.reason))
        if standing.failures >= self.running.max_failures:
            raise RuntimeError(
                f"{self.name}: {standing.failures} runs in a row were lost (option max_failures), the last because "
                f"{last.reason}. The end of what the model said:\n{last.tail or '(nothing)'}"
            )
        raise last

    def _work(self, command: list[str], folder: Path, run: Run, standing: _Standing) -> Generator[Part, None, None]:
        version = self._version(standing)

        def done(hashes: list[str]) -> None:
            for place, lost_run, lost_hashes, reason in standing.lost:
                standing.store.keep(place, lost_run, lost_hashes, version=version, lost=reason)
            standing.lost.clear()
            standing.failures = 0
            standing.store.keep(folder, run, hashes, version=version)

        return work(
            command,
            folder,
            standing.environment or {},
            self._parts,
            timeout_s=self.running.timeout_s,
            grace_s=self.running.grace_s,
            done=done,
            enough=lambda: standing.enough,
        )

    def _version(self, standing: _Standing) -> str | None:
        """Return the model's version where only its environment knows it."""
        if self.package is None or standing.found is None:
            return None
        return standing.found.modules.get(self.package)


def _fingerprint(path: Path) -> list[Any]:
    try:
        status = path.stat()
        if status.st_size > HASHED_BYTES:
            return [status.st_size, status.st_mtime_ns]
        return [hashlib.sha256(path.read_bytes()).hexdigest()]
    except OSError:
        return []


def _summary(name: str, batch: int, passed_over: PassedOver, lost: list[str]) -> str:
    said = [f"{len(passed_over)} crystals passed over: {passed_over}"] if passed_over else []
    said += [f"{len(lost)} runs lost, each tried {ATTEMPTS} times: {'; '.join(lost)}"] if lost else []
    return f"{name}: batch {batch}: {'; '.join(said)}"
