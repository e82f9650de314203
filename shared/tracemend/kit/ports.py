"""The ports: everything the work needs from the outside world, as protocols.

Stages and services know these and never an adapter; `runtime` turns URLs into adapters. One contract suite per port
(tests/contract) runs over all of its adapters, and says in code what the docstrings here say in words.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from tracemend.records import Checkpoint, Cue, Finish, Outcome, Prompt, Sampling, Trajectory, Unit, Verdict
from tracemend.redaction import Text
from tracemend.topics import Topic

# ------------------------------------------------------------------------------------------------ bus


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What an event belongs to; it rides beside the record and enters no id."""

    run: str
    plan: str = ""
    """Digest of the resolved plan in the store."""
    epoch: int = 0
    unit: Unit | None = None
    """The unit that a fork or rewrite is accounted to; none for shared base samples. Beside `siblings` it names the one
    arm that decides on their group: prompts that were redriven go round once per arm."""
    siblings: tuple[str, ...] = ()
    """Request ids of all K samples of the prompt, in sample order: the judge joins their verdicts into a `Group`.
    Empty for forks, rewrites and evaluation samples, which join nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One record on one topic, with its context."""

    topic: Topic
    record: Any
    context: Context
    trace: Mapping[str, str] = field(default_factory=dict, compare=False)
    """W3C trace context (`traceparent`, `tracestate`) of whoever published it; it enters no id and no comparison."""


class Delivery(Protocol):
    """A message handed to a consumer, to be acknowledged once its outputs are published."""

    @property
    def message(self) -> Message: ...

    async def ack(self) -> None:
        """Done with; the bus may commit the contiguous prefix of acknowledged deliveries."""
        ...

    async def nack(self, *, delay_s: float) -> None:
        """Deliver again after `delay_s` seconds."""
        ...

    async def bury(self, *, reason: str) -> None:
        """Give the message up: once it lies among the dead letters as it came, with `reason`, a short code, it is
        acknowledged. A bus without dead letters acknowledges it; the ledger has the record's end either way."""
        ...


class Subscription(Protocol):
    """An open subscription of one group to some topics."""

    def __aiter__(self) -> AsyncIterator[Delivery]: ...

    async def aclose(self) -> None: ...


class Codec(Protocol):
    """Records to bytes and back; `wire` is the one implementation, handed to what lies below it."""

    def encode(self, record: Any) -> bytes: ...

    def decode(self, record_type: type, content: bytes) -> Any: ...


class Bus(Protocol):
    """Topics with consumer groups. Every group sees every message at least once."""

    def subscribe(self, topics: Sequence[Topic], *, group: str) -> Subscription:
        """Takes effect when called: what is published afterwards is delivered, iterated or not."""
        ...

    async def publish(self, messages: Sequence[Message]) -> None:
        """Returns when every message is durable in the bus; raises `Retry` when that cannot be had."""
        ...

    async def drained(self) -> None:
        """Returns once every delivered message of every group has been acknowledged and none is queued."""
        ...

    async def aclose(self) -> None: ...


# ---------------------------------------------------------------------------------------------- store


class Store(Protocol):
    """Content-addressed blobs; a digest is the hex SHA-256 of the content and is verified on every read."""

    async def put(self, content: bytes) -> str:
        """Store `content` durably and atomically; returns its digest. Storing the same content again is free."""
        ...

    async def get(self, digest: str) -> bytes:
        """The content; `KeyError` if there is none, `CorruptBlob` if it no longer matches its digest."""
        ...

    async def get_range(self, digest: str, *, offset: int, length: int) -> bytes:
        """A part of a blob, unverified by the blob's digest: the caller verifies the part's own digest."""
        ...

    async def has(self, digest: str) -> bool: ...

    def digests(self) -> AsyncIterator[str]:
        """Every blob, in no order; for `gc`."""
        ...

    async def delete(self, digest: str) -> None:
        """Remove a blob; absent ones are no error."""
        ...


# --------------------------------------------------------------------------------------------- ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a work key's result lies: a range of a pack blob, with the digest of that range."""

    pack: str
    offset: int
    length: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a piece of work took."""

    stage: str
    num_items: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    """Prompt tokens that came from a cache."""
    num_new_tokens: int = 0
    seconds: float = 0.0
    money: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmittedPrompt:
    """A prompt that the run will work on, by row order; its record lies in the store."""

    row: int
    prompt: str
    address: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRow:
    """A row that ingestion kept out, with why and, for duplicates, what it matched."""

    row: int
    reason: str
    detail: str
    source: str
    address: Address | None = None


class Ledger(Protocol):
    """The one place with memory: digests, states, counts and times, never text. First writer wins."""

    # runs -----------------------------------------------------------------------------------------
    async def open_run(self, run: str, *, plan: str) -> str:
        """Create or find a run; returns its state. A different plan replaces the stored digest."""
        ...

    async def runs(self) -> list[str]:
        """Every run, the oldest first."""
        ...

    async def run_plan(self, run: str) -> str | None: ...

    async def set_state(self, run: str, state: str) -> None: ...

    async def run_state(self, run: str) -> str | None: ...

    # intake ---------------------------------------------------------------------------------------
    async def admit(
        self, run: str, *, prompts: Sequence[AdmittedPrompt], refused: Sequence[RefusedRow], units: Sequence[Unit]
    ) -> None:
        """Seal the intake in one transaction: prompts, refused rows and planned units. Repeating it changes nothing."""
        ...

    async def intake(self, run: str) -> tuple[int, int] | None:
        """(admitted, refused) once sealed, else None."""
        ...

    def admitted(self, run: str) -> AsyncIterator[AdmittedPrompt]: ...

    def refused(self, run: str) -> AsyncIterator[RefusedRow]: ...

    # work -----------------------------------------------------------------------------------------
    async def results(self, keys: Sequence[str]) -> dict[str, Address]:
        """Addresses of those keys that are done."""
        ...

    def work(self, *, paid_by: str | None = None) -> AsyncIterator[tuple[str, Address]]:
        """Every finished work key and where its result lies, whichever run paid for it or of one alone; for looking at
        runs."""
        ...

    async def take_up(self, keys: Sequence[str], *, worker: str) -> tuple[dict[str, Address], dict[str, int]]:
        """`results`, and `begin` for the keys that have none, in one transaction."""
        ...

    async def begin(self, keys: Sequence[str], *, worker: str) -> dict[str, int]:
        """Count an attempt on each key *before* the work; returns the number of unfinished attempts before this one."""
        ...

    async def close_attempts(self, keys: Sequence[str]) -> None:
        """A graceful stop or a `Retry`: the attempt did not end in a crash and does not count."""
        ...

    async def forget(self, keys: Sequence[str]) -> None:
        """These keys are not done: whoever asks for them next does the work again."""
        ...

    async def finish(
        self,
        results: Mapping[str, Address],
        *,
        run: str,
        costs: Mapping[str, Cost],
        subjects: Mapping[str, str] = MappingProxyType({}),
    ) -> dict[str, Address]:
        """Insert results, first writer wins, and close their attempts, in one transaction; returns the winners'
        addresses. `costs` (by work key) are added to the run for the keys that this call won; `subjects` say which
        prompt a key's work is about, for `about`."""
        ...

    # outcomes -------------------------------------------------------------------------------------
    async def conclude(self, run: str, outcomes: Sequence[tuple[Outcome, Address]], *, epoch: int = 0) -> None:
        """Insert outcomes, first writer wins per (unit, epoch)."""
        ...

    def outcomes(
        self, run: str, *, arm: str | None = None, prompt: str | None = None
    ) -> AsyncIterator[ConcludedUnit]: ...

    async def reopen(self, run: str, *, arm: str, prompts: Sequence[str]) -> int:
        """Open the next epoch for all units of `arm` on those of `prompts` of which one has ended: what they ended in
        stays stored and counts no more. Returns how many units that are."""
        ...

    async def reopened(self, run: str, *, arms: Sequence[str] | None = None) -> dict[tuple[str, str], int]:
        """(arm, prompt) to the epoch that its units are open in, where that is not the first."""
        ...

    async def open_prompts(
        self, run: str, *, arms: Sequence[str] | None = None, among: Sequence[str] | None = None
    ) -> set[str]:
        """Prompts with a planned unit that has no outcome yet; of `arms` and `among` only, where given."""
        ...

    async def open_units(self, run: str, *, limit: int = 1000) -> list[tuple[Unit, int]]:
        """At most `limit` of the planned units that have no outcome yet, and the epoch that each is open in."""
        ...

    async def outcome_counts(self, run: str) -> dict[tuple[str, str, str], int]:
        """(arm, state, reason) to the number of units."""
        ...

    async def unit_counts(self, run: str) -> dict[str, int]:
        """Planned units per arm."""
        ...

    # phases ---------------------------------------------------------------------------------------
    async def phase(self, run: str, key: str) -> Address | None:
        """The result of a phase whose key hashes its inputs, if it is done."""
        ...

    async def finish_phase(self, run: str, key: str, *, name: str, address: Address) -> Address:
        """First writer wins; returns the winner's address."""
        ...

    async def phases(self, run: str) -> list[tuple[str, str, Address]]:
        """(name, key, address) in the order they ended."""
        ...

    # upkeep ---------------------------------------------------------------------------------------
    async def referenced(self) -> set[str]:
        """Digests of every blob that any run refers to: packs, phase results and plans; for `gc`."""
        ...

    def addresses(self, *, packs: Sequence[str] | None = None) -> AsyncIterator[Address]:
        """Where the records of prompts, refused rows, outcomes and results lie, of all runs; some more than once. Of
        `packs` only, where given."""
        ...

    def about(self, prompt: str) -> AsyncIterator[Address]:
        """Those of `addresses` that are about a prompt, outcomes of all epochs among them, and results of which it is
        not known what they are about: an older release did not say."""
        ...

    async def repoint(self, moves: Mapping[Address, Address]) -> None:
        """What lies at a key of `moves` lies at its value from now on, for all rows at once; for `purge`."""
        ...

    # costs ----------------------------------------------------------------------------------------
    async def book_cost(self, run: str, cost: Cost, *, by: str) -> None:
        """`cost` is what `by` has taken for the stage in all, beside the work that was finished. It replaces what `by`
        said before, so that it may be said again."""
        ...

    async def costs(self, run: str) -> list[Cost]:
        """One sum per stage, by name of the stage."""
        ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcludedUnit:
    """A unit's outcome as the ledger has it; the record itself lies at `address`."""

    unit: Unit
    epoch: int
    state: str
    reason: str
    address: Address


# -------------------------------------------------------------------------------------------- engines


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an engine can do beside writing text."""

    token_ids: bool = False
    """Takes `prompt_tokens` and gives `token_ids`; continues token-exactly."""
    logprobs: bool = False
    attentions: bool = False
    prefix_cache: bool = False
    seeds: bool = False
    """The same request with the same seed gives the same tokens, whatever it is batched with."""
    max_model_len: int = 0
    """Longest prompt plus response in tokens; 0 where the engine does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One completion to write: chat `messages`, or `prompt_tokens` where the engine takes ids."""

    messages: tuple[Mapping[str, str], ...] = ()
    prompt_tokens: tuple[int, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    stop: tuple[str, ...] = ()
    num_logprobs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What an engine wrote. `text` keeps the reasoning tags; `token_ids` includes the end token when it was drawn."""

    text: Text
    finish: Finish
    token_ids: tuple[int, ...] = ()
    reasoning: Text | None = None
    """Set where an endpoint gives the reasoning in a field of its own; `text` then is the answer alone."""
    logprobs: tuple[float, ...] = ()
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    """Prompt tokens that came from a cache."""
    num_new_tokens: int = 0
    seconds: float = 0.0
    money: float = 0.0


class TextModel(Protocol):
    """An engine that completes prompts. Callers send as many requests at once as they like; the engine batches."""

    @property
    def identity(self) -> str:
        """Digest of what determines its output: weights, tokenizer and template; never its address."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    async def complete(self, request: ModelRequest) -> Completion:
        """Raises `Retry` for what may pass, `Reject` for what cannot (prompt too long, unknown token ids)."""
        ...

    async def aclose(self) -> None:
        """Stop, free the device; requests in flight end with `Retry`."""
        ...


# ------------------------------------------------------------------------------------ graders, launchers


class Grader(Protocol):
    """The judges, as the evaluator, guards and rewards reach them."""

    @property
    def identity(self) -> dict[str, str]:
        """Axis to the identity of the judge in use."""
        ...

    async def grade(self, trajectory: Trajectory) -> Verdict: ...


class CueFinder(Protocol):
    """A compliance-cue detector, as guards and analyses reach it."""

    @property
    def identity(self) -> str: ...

    async def find(self, prompt: Prompt, reasoning: Text) -> Cue:
        """The first compliance cue of `reasoning`, which may still be growing; `token` is -1. Raises `Retry` where the
        detector's model asks for patience."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A training or evaluation job: which module runs, with which arguments, in which folder."""

    name: str
    module: str
    arguments: Mapping[str, Any]
    folder: str
    num_processes: int = 1


class Launcher(Protocol):
    """Who runs a job: this process, a subprocess under torchrun, Kubernetes."""

    async def run(self, job: Job) -> Checkpoint:
        """Runs to the end; raises `SetupError` or `Reject` with the job's own last words."""
        ...
