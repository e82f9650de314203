"""Guard `cue_trigger`: where the reasoning turns to complying, a safety trigger takes the turning step's place.

The intervention of IPO without its training (methods.md §10): the engine writes in chunks; once a chunk has completed
steps of the reasoning, the detector looks at the reasoning so far, and a step that is a compliance cue is dropped
before anybody sees it. The trigger's ids follow the ids that were kept, and the engine goes on from exactly those.
Steps are shown when a look has cleared them; the answer follows once the whole reasoning is cleared. With
`watch="all"` the answer is looked at in the same way, behind the reasoning or alone; else it is shown as it comes, and
so is a response without a reasoning block, once it is known to have none.

It fails closed: what the detector cannot tell stays hidden until a later look clears it, and a reasoning that ends so
ends as `on_unknown` says.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, fields, replace
from typing import get_args

from tracemend.generator.guarding import Assignment, Guarded, Piece, Tally, Trigger, guards
from tracemend.generator.guards._draft import Draft, Reading
from tracemend.generator.settings import GuardEnd, GuardMode, GuardWatch
from tracemend.kit.errors import Reject, SetupError
from tracemend.kit.ids import digest_of, seed_of
from tracemend.kit.ports import Completion, CueFinder, ModelRequest, TextModel
from tracemend.kit.registry import did_you_mean
from tracemend.records import Cue, Finish, Intervention, Part
from tracemend.redaction import Text
from tracemend.traces.template import ChatTemplate

_GAP = "\n\n"
"""What parts reasoning and answer in what the detector reads."""
_REFUSAL = "I'm sorry, but I can't help with that."


@guards.register
def cue_trigger(
    *,
    finder: CueFinder | None = None,
    triggers: Sequence[Trigger] = (),
    mode: GuardMode = "enforce",
    watch: GuardWatch = "reasoning",
    max_interventions: int = 3,
    on_exhausted: GuardEnd = "refuse",
    on_unknown: GuardEnd = "refuse",
    chunk_tokens: int = 64,
    untagged_tokens: int = 512,
    refusal: str = _REFUSAL,
) -> CueTrigger:
    """A guard that cuts at cues.

    Args:
        finder: The detector; needed unless `mode` is `off`.
        triggers: The pool; a response's seed says where in it to begin, further interventions take the next ones.
        mode: `enforce`; `monitor` looks and counts and changes nothing; `off` does not look.
        watch: `reasoning`; or `all`, the answer as well, and so a response that has no reasoning.
        max_interventions: How many cues are replaced in one response.
        on_exhausted: At one cue more: `refuse` ends the response before it, `continue` lets it pass.
        on_unknown: The same for a reasoning that ends while the detector cannot tell.
        chunk_tokens: How much the engine writes between two looks. At a cue its step is thrown away, and less than a
            chunk behind it. 0 for a whole response at a time: the fewest looks, and nothing is shown before the end.
        untagged_tokens: Where the model writes the opening tag itself, words without one are an answer, or a reasoning
            whose closing tag is still to come. They stay hidden until a tag or the end tells, or until they are this
            many: from there on the response is an answer, whatever tag follows.
        refusal: What the guard answers where it refuses.
    """
    for name, value, known in (
        ("mode", mode, get_args(GuardMode)),
        ("watch", watch, get_args(GuardWatch)),
        ("on_exhausted", on_exhausted, get_args(GuardEnd)),
        ("on_unknown", on_unknown, get_args(GuardEnd)),
    ):
        if value not in known:
            raise SetupError(f"guard 'cue_trigger': {name} cannot be '{value}'{did_you_mean(str(value), list(known))}")
    if min(max_interventions, chunk_tokens, untagged_tokens) < 0:
        raise SetupError("guard 'cue_trigger': max_interventions, chunk_tokens and untagged_tokens are 0 or more")
    if mode != "off" and finder is None:
        raise SetupError("guard 'cue_trigger' needs a detector: set `judge.detector`, or the mode to off")
    if mode == "enforce" and max_interventions and not triggers:
        raise SetupError("guard 'cue_trigger' has no triggers to put in: name a pool that holds some")
    rules = Rules(
        mode, watch, max_interventions, on_exhausted, on_unknown, chunk_tokens, untagged_tokens, Text(refusal)
    )
    return CueTrigger(rules, finder=finder if mode != "off" else None, triggers=triggers)


@dataclass(frozen=True, slots=True)
class Rules:
    """The options, as `cue_trigger` documents them."""

    mode: GuardMode
    watch: GuardWatch
    max_interventions: int
    on_exhausted: GuardEnd
    on_unknown: GuardEnd
    chunk_tokens: int
    untagged_tokens: int
    refusal: Text


class CueTrigger:
    """The `Guard` that `cue_trigger` makes."""

    def __init__(self, rules: Rules, *, finder: CueFinder | None, triggers: Sequence[Trigger]) -> None:
        self._rules = rules
        self._finder = finder
        self._triggers = tuple(triggers)
        facts = [rules, finder.identity if finder else "", [(trigger.id, trigger.text) for trigger in triggers]]
        self.identity = f"cue_trigger:{digest_of(facts)[:16]}"

    async def write(
        self, assignment: Assignment, *, model: TextModel, template: ChatTemplate
    ) -> AsyncGenerator[Piece | Guarded, None]:
        writing = _Writing(self._rules, self._finder, self._triggers, assignment, model, template)
        async with aclosing(writing.pieces()) as pieces:
            async for piece in pieces:
                yield piece


class _Writing:
    """One response under the guard."""

    def __init__(
        self,
        rules: Rules,
        finder: CueFinder | None,
        triggers: tuple[Trigger, ...],
        assignment: Assignment,
        model: TextModel,
        template: ChatTemplate,
    ) -> None:
        self._rules = rules
        self._finder = finder
        self._triggers = triggers
        self._assignment = assignment
        self._model = model
        self._draft = Draft(template, untagged_tokens=rules.untagged_tokens)
        self._counts: Counter[str] = Counter()
        self._seconds = self._look_seconds = self._money = 0.0
        self._num_cleared = 0
        """Chars of what is watched that a look has cleared, or that the guard put in."""
        self._num_seen = 0
        """Chars of what is watched at the last look."""
        self._is_done_looking = finder is None
        self._shown = {Part.REASONING: 0, Part.ANSWER: 0}
        self._is_refused = False
        self._intervention: Intervention | None = None

    async def pieces(self) -> AsyncGenerator[Piece | Guarded, None]:
        is_enforced = self._rules.mode == "enforce"
        while self._draft.finish is None:
            await self._draw()
            reading = self._draft.reading()
            if not is_enforced:  # looking takes time, and nothing depends on it
                for piece in self._news(reading, is_open=True):
                    yield piece
            await self._watch(reading)
            if is_enforced:
                for piece in self._news(self._draft.reading(), is_open=self._is_done_looking):
                    yield piece
        yield self._guarded()

    # writing ----------------------------------------------------------------------------------------

    async def _draw(self) -> None:
        """Have the engine write the next chunk, or what is left of the response."""
        draft, assignment = self._draft, self._assignment
        room = self._room()
        if room < 1:
            draft.finish = Finish.LENGTH
            return
        num_asked = min(room, self._rules.chunk_tokens or room)
        completion = await self._model.complete(
            ModelRequest(
                prompt_tokens=assignment.prompt_tokens + draft.token_ids,
                sampling=replace(assignment.sampling, max_new_tokens=num_asked),
                seed=self._seed(),
            )
        )
        self._book(completion)
        draft.extend(completion.token_ids)
        if completion.finish is not Finish.LENGTH:
            draft.finish = completion.finish
        elif num_asked == room or len(completion.token_ids) < num_asked:
            draft.finish = Finish.LENGTH

    def _room(self) -> int:
        """Tokens that may still be written."""
        num_written, longest = len(self._draft.token_ids), self._model.capabilities.max_model_len
        room = self._assignment.sampling.max_new_tokens - num_written
        # A prompt too long for the model is for the engine to refuse.
        is_begun = num_written > 0
        return min(room, longest - len(self._assignment.prompt_tokens) - num_written) if longest and is_begun else room

    def _seed(self) -> int:
        """The response's own for its first tokens; each later call draws anew, the same in every mode."""
        num_kept, num_interventions = len(self._draft.token_ids), self._counts["num_interventions"]
        first = self._assignment.seed
        return first if not num_kept else seed_of(f"{first}/{num_kept}/{num_interventions}")

    def _book(self, completion: Completion) -> None:
        self._counts["num_calls"] += 1
        for name in ("num_prompt_tokens", "num_cached_tokens", "num_new_tokens"):
            self._counts[name] += getattr(completion, name)
        self._seconds += completion.seconds
        self._money += completion.money

    # looking ----------------------------------------------------------------------------------------

    async def _watch(self, reading: Reading) -> None:
        """Look at steps that have come to their end since the last look, and act on what the detector says."""
        if self._is_done_looking:
            return
        text, num_chars, is_over = self._watched(reading)
        if num_chars > self._num_seen or (is_over and num_chars > self._num_cleared):
            self._num_seen = num_chars
            cue = await self._look(Text(text[:num_chars]))
            if cue.step > 0:
                self._counts["num_cues"] += 1
                self._act(*_place(reading, max(cue.char, self._num_cleared)))
                return
            if cue.step == 0:
                self._num_cleared = num_chars
        if is_over:
            self._is_done_looking = True
            is_unknown = self._num_cleared < num_chars
            if is_unknown and self._rules.mode == "enforce" and self._rules.on_unknown == "refuse":
                self._refuse(*_place(reading, self._num_cleared), why="unknown")

    def _watched(self, reading: Reading) -> tuple[str, int, bool]:
        """What is watched so far, the chars of it in whole steps, and whether that is all that will be watched."""
        reasoning, answer = reading.reasoning.reveal(), reading.answer.reveal()
        if self._rules.watch == "reasoning":
            return reasoning, reading.num_step_chars, reading.is_settled
        if not reading.is_settled or not answer:
            return reasoning, reading.num_step_chars, self._draft.finish is not None
        start = _answer_start(reading)
        text = reasoning + _GAP[: start - len(reasoning)] + answer
        return text, start + reading.num_answer_step_chars, self._draft.finish is not None

    async def _look(self, reasoning: Text) -> Cue:
        assert self._finder is not None, "without a detector nothing is looked at"
        self._counts["num_looks"] += 1
        started_s = time.monotonic()
        try:
            cue = await self._finder.find(self._assignment.prompt, reasoning)
        except Reject as error:
            cue = Cue(detector=self._finder.identity, step=-1, labels=(error.reason,))
        finally:
            self._look_seconds += time.monotonic() - started_s
        self._counts["num_unknown"] += cue.step < 0
        return cue

    # acting -----------------------------------------------------------------------------------------

    def _act(self, part: Part, char: int) -> None:
        """There is a cue at `char` of `part`."""
        if self._rules.mode == "monitor":
            self._is_done_looking = True  # the first cue is what is counted
            self._remember(self._draft.num_kept(char, part), failure="monitored")
        elif self._counts["num_interventions"] < self._rules.max_interventions:
            self._replace(part, char)
        elif self._rules.on_exhausted == "refuse":
            self._refuse(part, char, why="exhausted")
        else:
            self._is_done_looking = True

    def _replace(self, part: Part, char: int) -> None:
        number = self._counts["num_interventions"]
        trigger = self._triggers[(self._assignment.seed + number) % len(self._triggers)]
        self._counts["num_discarded_tokens"] += self._draft.cut(char, part)
        self._remember(len(self._draft.token_ids), trigger=trigger)
        self._counts["num_inserted_tokens"] += self._draft.insert(trigger.text)
        self._counts["num_interventions"] += 1
        text, _, _ = self._watched(self._draft.reading())
        self._num_cleared = self._num_seen = len(text)

    def _refuse(self, part: Part, char: int, *, why: str) -> None:
        self._counts["num_discarded_tokens"] += self._draft.cut(char, part)
        self._remember(len(self._draft.token_ids), failure=why)
        self._counts["num_inserted_tokens"] += self._draft.close(self._rules.refusal, part)
        self._is_refused = self._is_done_looking = True

    def _remember(self, cut_token: int, *, trigger: Trigger | None = None, failure: str = "") -> None:
        """Keep the first intervention, and how it ended in the end."""
        if self._intervention is None:
            assert self._finder is not None
            self._intervention = Intervention(
                kind="guard",
                strategy="cue_trigger",
                producer=self._finder.identity,
                payload=trigger.text if trigger else Text(""),
                cut_token=cut_token,
                variant=trigger.id if trigger else "",
            )
        self._intervention = replace(self._intervention, failure=failure or self._intervention.failure)

    # telling ----------------------------------------------------------------------------------------

    def _news(self, reading: Reading, *, is_open: bool) -> list[Piece]:
        """What may be shown and has not been; all there is where the response `is_open`."""
        num_chars, num_answer = len(reading.reasoning), len(reading.answer)
        num_cleared = num_chars if is_open else min(self._num_cleared, num_chars)
        news = [self._piece(Part.REASONING, reading.reasoning, num_cleared)]
        if reading.is_settled and num_cleared >= num_chars:
            if not is_open and self._rules.watch == "all":
                num_answer = max(0, self._num_cleared - _answer_start(reading))
            news.append(self._piece(Part.ANSWER, reading.answer, num_answer))
        return [piece for piece in news if piece.text]

    def _piece(self, part: Part, text: Text, end: int) -> Piece:
        # White space at the end goes with what follows it: a response ends without.
        end = len(text.reveal()[:end].rstrip())
        start, self._shown[part] = self._shown[part], max(self._shown[part], end)
        return Piece(part=part, text=Text(text.reveal()[start:end]))

    def _guarded(self) -> Guarded:
        assert self._draft.finish is not None
        counted = {field.name for field in fields(Tally)}
        tally = Tally(
            **{name: number for name, number in self._counts.items() if name in counted},
            is_refused=self._is_refused,
            seconds=self._seconds,
            look_seconds=self._look_seconds,
            money=self._money,
        )
        attempt = tally.num_interventions
        step = replace(self._intervention, attempt=attempt) if self._intervention else None
        return Guarded(
            token_ids=self._draft.token_ids,
            num_reasoning_tokens=self._draft.num_reasoning_tokens(),
            finish=self._draft.finish,
            tally=tally,
            intervention=step,
        )


def _answer_start(reading: Reading) -> int:
    """The char of what is watched at which the answer begins."""
    return len(reading.reasoning) + (len(_GAP) if reading.reasoning else 0)


def _place(reading: Reading, char: int) -> tuple[Part, int]:
    """The part, and the char in it, of a char of what is watched."""
    start, is_begun = _answer_start(reading), bool(reading.answer)
    is_in_answer = is_begun and char >= start
    return (Part.ANSWER, char - start) if is_in_answer else (Part.REASONING, min(char, len(reading.reasoning)))
