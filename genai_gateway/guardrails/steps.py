"""A policy made ready: its steps applied to texts, whole and streamed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from genai_gateway.errors import Blocked
from genai_gateway.guardrails.detector import Detector, Finding, find_in, replace_found
from genai_gateway.guardrails.injection import injection_score
from genai_gateway.guardrails.personal import personal_detector
from genai_gateway.guardrails.phrases import PhraseDetector
from genai_gateway.guardrails.placeholders import Restorer, Vault
from genai_gateway.guardrails.policy import Policy, Step
from genai_gateway.guardrails.scanning import Put, Scanner, Unescaper
from genai_gateway.guardrails.secrets import secrets_detector

_HINTS = {
    "pii": "Take personal data out of the request.",
    "secrets": "Take secrets out, and replace those that were sent: they may be known now.",
    "injection": "Take out what tells the model to ignore its instructions.",
    "phrases": "This is not a subject for this model.",
}
# Where the words of strangers stand; the operator's own system prompt is not suspected.
_SUSPECT = ("messages", "input")


@dataclass(frozen=True, slots=True)
class ReadyStep:
    """A step with its detector; an injection step has none, it gives a score."""

    step: Step
    detector: Detector | None

    @classmethod
    def of(cls, step: Step) -> ReadyStep:
        """The step, made ready."""
        if step.kind == "pii":
            return cls(step, personal_detector(step.kinds))
        if step.kind == "secrets":
            return cls(step, secrets_detector())
        if step.kind == "phrases":
            return cls(step, PhraseDetector(step.phrases))
        return cls(step, None)


@dataclass(slots=True)
class Report:
    """What the steps saw on one exchange: for the audit and the metrics, without any text."""

    policy: str
    texts: int = 0
    characters: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    found: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)

    def note(self, side: str, step: Step, kind: str) -> None:
        """Counts a finding by side, step, kind and what is done about it."""
        self.found[side, step.kind, kind, step.action] += 1

    def data(self) -> dict[str, object]:
        """As JSON."""
        return {
            "policy": self.policy,
            "texts": self.texts,
            "characters": self.characters,
            "unread": dict(self.unread),
            "found": {"/".join(key): count for key, count in self.found.items()},
        }


class Guard:
    """A policy, compiled once."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.input = tuple(ReadyStep.of(step) for step in policy.on("input"))
        self.output = tuple(ReadyStep.of(step) for step in policy.on("output"))

    def visit_input(self, vault: Vault, report: Report) -> InputVisitor:
        """A visitor for a request."""
        return InputVisitor(self, vault, report)

    def visit_output(self, vault: Vault, report: Report) -> OutputVisitor:
        """A visitor for a whole answer."""
        return OutputVisitor(self, vault, report)

    def channel(self, vault: Vault, report: Report, json: bool) -> Channel:
        """A filter for one channel of a streamed answer."""
        return Channel(self, vault, report, json)


class InputVisitor:
    """Applies the input steps to every place of a request. Raises Blocked."""

    def __init__(self, guard: Guard, vault: Vault, report: Report) -> None:
        self._guard = guard
        self._vault = vault
        self._report = report

    def text(self, text: str, place: str) -> str:
        """The text that takes the place of this one."""
        self._report.texts += 1
        self._report.characters += len(text)
        for ready in self._guard.input:
            if ready.detector is None:
                self._suspect(ready.step, text, place)
            else:
                text = self._apply(ready.step, ready.detector, text, place)
        return text

    def name(self, text: str, place: str) -> None:
        """A name that must stay as it is."""
        for ready in self._guard.input:
            if ready.detector is not None and ready.step.acts:
                self._refuse_any(ready.step, find_in((ready.detector,), text), place)

    def seam(self, before: str, after: str, place: str) -> None:
        """Two texts that the model reads as one."""
        for ready in self._guard.input:
            if ready.detector is None or not ready.step.acts:
                continue
            longest = ready.detector.longest
            window, edge = before[-longest:] + after[:longest], len(before[-longest:])
            across = [f for f in find_in((ready.detector,), window) if f.start < edge < f.end]
            self._refuse_any(ready.step, across, f"{place}, over two parts")

    def unread(self, what: str, place: str) -> None:
        """Something that has no words the gateway can read."""
        self._report.unread[what] += 1
        if self._guard.policy.unread == "refuse" and self._guard.input:
            raise Blocked(
                f"the policy {self._guard.policy.label} lets nothing pass that it cannot read:"
                f" {what} in {place}",
                "Send text, or ask for a model whose policy says unread: pass.",
            )

    def _apply(self, step: Step, detector: Detector, text: str, place: str) -> str:
        found = find_in((detector,), text)
        if not found:
            return text
        for finding in found:
            self._report.note("input", step, finding.kind)
        if step.action == "refuse":
            raise refusal(self._guard.policy, step, found[0].kind, place)
        if step.action == "flag":
            return text
        return replace_found(text, found, lambda f, value: self._vault.hide(f.kind, value))

    def _refuse_any(self, step: Step, found: Iterable[Finding], place: str) -> None:
        for finding in found:
            self._report.note("input", step, finding.kind)
            raise refusal(self._guard.policy, step, finding.kind, place)

    def _suspect(self, step: Step, text: str, place: str) -> None:
        if not place.startswith(_SUSPECT) or injection_score(text) < step.threshold:
            return
        self._report.note("input", step, "INJECTION")
        if step.acts:
            raise refusal(self._guard.policy, step, "INJECTION", place)


class OutputVisitor:
    """Applies the output steps to a whole answer, and restores what placeholders stand for."""

    def __init__(self, guard: Guard, vault: Vault, report: Report) -> None:
        self._steps = [
            (ready.detector, _put(guard.policy, ready.step, report, json=False))
            for ready in guard.output
            if ready.detector is not None
        ]
        self._vault = vault
        self._report = report

    def text(self, text: str, place: str) -> str:
        """The text that takes the place of this one."""
        for ready, put in self._steps:
            text = replace_found(text, find_in((ready,), text), put)
        return self._vault.restore(text)

    def name(self, text: str, place: str) -> None:
        """Names are the client's own words: it made the tools."""

    def seam(self, before: str, after: str, place: str) -> None:
        """Parts of answers are shown apart."""

    def unread(self, what: str, place: str) -> None:
        """Notes what was not read."""
        self._report.unread[what] += 1


class Channel:
    """Filters one channel of an answer: findings first, in the model's own words, then the way
    back from placeholders to values. ``blocked`` is the error if a step refused: what ``feed`` or
    ``end`` returned may still be shown, nothing after it.
    """

    __slots__ = ("_plainer", "_restorer", "_scanners", "blocked")

    def __init__(self, guard: Guard, vault: Vault, report: Report, json: bool) -> None:
        self._scanners = [
            Scanner((ready.detector,), _put(guard.policy, ready.step, report, json))
            for ready in guard.output
            if ready.detector is not None
        ]
        self._plainer = Unescaper() if json and self._scanners else None
        self._restorer = Restorer(vault, json) if len(vault) else None
        self.blocked: Blocked | None = None

    def feed(self, text: str) -> str:
        """What may be shown after this piece."""
        return self._filtered(text, ending=False)

    def end(self) -> str:
        """What was held back."""
        return self._filtered("", ending=True)

    def _filtered(self, text: str, ending: bool) -> str:
        if self._plainer is not None:
            text = self._plainer.feed(text) + (self._plainer.end() if ending else "")
        for scanner in self._scanners:
            text = scanner.feed(text) + (scanner.end() if ending else "")
            if scanner.blocked is not None:
                self.blocked = self.blocked or scanner.blocked
                ending = True
        if self._restorer is not None:
            text = self._restorer.feed(text) + (self._restorer.end() if ending else "")
        return text


def refusal(policy: Policy, step: Step, kind: str, place: str) -> Blocked:
    """The error of a step that refuses; it names the kind and the place, never the text."""
    return Blocked(
        f"the policy {policy.label} refuses {kind} ({step.kind}) in {place}", _HINTS[step.kind]
    )


def _put(policy: Policy, step: Step, report: Report, json: bool) -> Put:
    def put(finding: Finding, value: str) -> str:
        report.note("output", step, finding.kind)
        if step.action == "refuse":
            raise refusal(policy, step, finding.kind, "the answer")
        if step.action == "flag":
            return value
        # In JSON a run of digits may be a number, and must stay one.
        return "0" if json and value.isdigit() else f"[{finding.kind} REMOVED]"

    return put
