"""Signs of prompt injection: a score from rules, after the usual disguises are taken off.

Rules see what they were written for and no more; what share of known attacks they see, and how
often they are wrong, stands in ``docs/gateway.md``.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from genai_gateway.guardrails.detector import plain

_PREVIOUS = (
    r"(?:previous|prior|above|earlier|preceding|all|any|your|the|system|initial|original|other)"
)
_ORDERS = (
    r"(?:instruction|direction|rule|prompt|guideline|command|context|restriction|constraint|policy|"
    r"policies|filter|safeguard|guardrail|training|programming|message|conversation|safety)s?"
)
_RULES: tuple[tuple[float, str], ...] = (
    (
        0.9,
        rf"\b(?:ignore|disregard|forget|override|bypass|discard|drop|skip|neglect|dismiss)\b"
        rf"(?:\W+\w+){{0,3}}?\W+{_PREVIOUS}\b(?:\W+\w+){{0,3}}?\W+{_ORDERS}\b",
    ),
    (
        0.6,
        rf"\b(?:ignore|disregard|forget|override|bypass|disable|turn off|deactivate)\b"
        rf"(?:\W+\w+){{0,2}}?\W+{_ORDERS}\b",
    ),
    (
        0.6,
        r"\b(?:ignore|disregard|forget) (?:everything|all|anything)\b"
        r"(?:\W+\w+){0,3}?\W+(?:before|above|previously|prior|told|said|so far|learned)\b",
    ),
    (
        0.7,
        r"\b(?:reveal|show|print|repeat|output|display|disclose|leak|dump|tell me|give me|share|"
        r"recite|expose|quote|translate|summari[sz]e|encode)\b(?:\W+\w+){0,5}?\W+"
        r"(?:system|initial|hidden|original|secret|internal|developer|confidential)\b"
        r"(?:\W+\w+){0,2}?\W+(?:prompt|instruction|message|rule|configuration|guideline|polic)",
    ),
    (
        0.6,
        r"\b(?:repeat|print|output|recite) (?:everything|all|the (?:text|words)|your \w+)\b"
        r"(?:\W+\w+){0,4}?\W+(?:above|before|verbatim|prior)\b",
    ),
    (
        0.7,
        r"\b(?:you are|you're|act as|become|pretend (?:to be|you are)|roleplay as|simulate)\b"
        r"(?:\W+\w+){0,4}?\W+(?:DAN|unrestricted|unfiltered|uncensored|jailbroken|amoral|evil|"
        r"developer mode|root|without (?:any )?(?:restriction|limit|rule|filter|ethic)s?)\b",
    ),
    (
        0.7,
        r"\bdo anything now\b|\b(?:DAN|developer|god|debug|admin|sudo|maintenance|jailbreak) mode\b"
        r"(?:\W+\w+){0,3}?\W*(?:enabled?|activated?|on|engaged|unlock)|\bjailbreak(?:ed)?\b",
    ),
    (
        0.5,
        r"\b(?:no|without|free (?:of|from)|not bound by|no longer (?:bound|restricted))\b"
        r"(?:\W+\w+){0,3}?\W+(?:restrictions?|limitations?|filters?|censorship|ethic\w*|moral\w*|"
        r"guidelines|safeguards)\b",
    ),
    (
        0.6,
        r"(?:^|\n)\s*(?:#+\s*|\[|<\|?|\{)?(?:/?system|/?inst|assistant|im_start|im_end|admin)\b"
        r"\s*(?:\]|\|?>|\}|:|#)|<<\s*SYS\s*>>|<\|(?:system|im_start|endoftext|user|assistant)",
    ),
    (
        0.6,
        r"\b(?:new|updated|real|actual|true|important) (?:instructions?|task|directive|objective|"
        r"system prompt|rules)\b(?:\W+\w+){0,3}?\s*(?::|are|is|follow)",
    ),
    (
        0.6,
        r"\bend of (?:the )?(?:user |system )?(?:prompt|instructions?|input|context|data)\b"
        r"|-{3,}\s*(?:end|begin)\b",
    ),
    (
        0.6,
        r"\b(?:send|forward|email|post|upload|exfiltrate|transmit|leak|append|submit)\b"
        r"(?:\W+\w+){0,8}?\W+(?:passwords?|api[ _-]?keys?|credentials?|secrets?|tokens?|"
        r"conversation|chat history|system prompt|private|confidential|contacts)\b",
    ),
    (0.5, r"!\[[^\]]*\]\(https?://[^)\s]*[?&=][^)\s]*\)"),
    (
        0.5,
        r"\b(?:note|message|instruction|attention|important|hey|dear|hello)\w*\b(?:\W+\w+){0,3}?\W+"
        r"(?:to|for)?\W*(?:the )?(?:ai|a\.i\.|llm|assistant|language model|chatbot|agent|gpt)\b"
        r"(?:\W+\w+){0,4}?\W+(?:you|must|should|please|ignore|do|now|read)\b",
    ),
    (
        0.5,
        r"\bwhen (?:you |the (?:ai|assistant|model) )?(?:read|see|process|summari[sz]e)s?\b"
        r"(?:\W+\w+){0,8}?\W+(?:you must|instead|do not|also|always|secretly|silently)\b",
    ),
    (
        0.4,
        r"\b(?:do not|don't|never) (?:tell|inform|mention|reveal|alert|notify)\b(?:\W+\w+){0,4}?\W+"
        r"(?:the )?(?:user|anyone|anybody|this)\b",
    ),
    (
        0.4,
        r"\b(?:hypothetical|fictional|imaginary)\b(?:\W+\w+){0,12}?\W+"
        r"(?:no (?:rules|laws|limits)|illegal|bomb|hack|malware|without (?:rules|limits))",
    ),
    (
        0.5,
        r"\bstay in character\b|\bbreak (?:the )?character\b|\byou (?:can|must|will) (?:never|not) "
        r"refuse\b|\bnever refuse\b|\bcannot refuse\b",
    ),
    (
        0.4,
        r"\b(?:as|i am|i'm|this is) (?:the |your |an? )?(?:developer|creator|administrator|admin|"
        r"openai|anthropic|owner|system administrator)\b",
    ),
    (
        0.5,
        r"\b(?:decode|base64|rot13|hex|reverse|unscramble)\b(?:\W+\w+){0,8}?\W+"
        r"(?:and )?(?:follow|execute|obey|run|do|comply|act on|perform|carry out)\b",
    ),
)
_EXPRESSIONS = tuple((weight, re.compile(rule, re.IGNORECASE)) for weight, rule in _RULES)
_BASE64 = re.compile(r"[A-Za-z0-9+/]{24,}={0,2}")
_SPACED = re.compile(r"\b(?:\w[ .\-_*]){5,}\w\b")
_LEET = tuple(str.maketrans("013457@$", letters) for letters in ("oieastas", "oleastas"))
_MOST_DECODED = 8
_LONGEST = 200_000


def injection_score(text: str) -> float:
    """How much a text looks like an injection, 0 to 1: independent signs add up."""
    best = 0.0
    for form in _forms(text[:_LONGEST]):
        innocent = 1.0
        for weight, expression in _EXPRESSIONS:
            if expression.search(form):
                innocent *= 1.0 - weight
        best = max(best, 1.0 - innocent)
    return round(best, 3)


def _forms(text: str) -> Iterator[str]:
    """The text, and what it is with the usual disguises taken off."""
    clear, _ = plain(text)
    yield clear
    if any(character in clear for character in "013457@$"):
        yield from (clear.translate(letters) for letters in _LEET)
    if _SPACED.search(clear):
        yield _SPACED.sub(lambda m: re.sub(r"[ .\-_*]", "", m[0]), clear)
    for match in list(_BASE64.finditer(clear))[:_MOST_DECODED]:
        decoded = _decoded(match[0])
        if decoded:
            yield decoded


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
