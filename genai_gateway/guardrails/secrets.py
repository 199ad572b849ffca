"""Secrets by the marks that their makers give them."""

from __future__ import annotations

import re

from genai_gateway.guardrails.detector import Pattern, PatternDetector

_NOT_BEFORE = r"(?<![A-Za-z0-9])"
_AWS = ("AKIA", "ASIA", "AROA", "AIDA")
_GITHUB = ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")
_MARKS: tuple[tuple[str, str, str], ...] = (
    *(("AWS_KEY", mark, rf"{mark}[A-Z2-7]{{16}}(?![A-Za-z0-9])") for mark in _AWS),
    *(("GITHUB_TOKEN", mark, rf"{mark}[A-Za-z0-9]{{36,255}}") for mark in _GITHUB),
    ("GITHUB_TOKEN", "github_pat_", r"github_pat_[A-Za-z0-9_]{22,255}"),
    ("GITLAB_TOKEN", "glpat-", r"glpat-[A-Za-z0-9_\-]{20,64}"),
    ("SLACK_TOKEN", "xox", r"xox[abprs]-[A-Za-z0-9\-]{10,250}"),
    *(("STRIPE_KEY", mark, rf"{mark}[A-Za-z0-9]{{16,99}}") for mark in ("sk_live_", "rk_live_")),
    ("ANTHROPIC_KEY", "sk-ant-", r"sk-ant-[A-Za-z0-9_\-]{20,200}"),
    ("OPENAI_KEY", "sk-", r"sk-(?!ant-)(?:proj-|svcacct-)?[A-Za-z0-9_\-]{20,250}"),
    ("GOOGLE_KEY", "AIza", r"AIza[A-Za-z0-9_\-]{35}(?![A-Za-z0-9_\-])"),
    ("HF_TOKEN", "hf_", r"hf_[A-Za-z0-9]{30,64}"),
    ("NPM_TOKEN", "npm_", r"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    ("PYPI_TOKEN", "pypi-", r"pypi-AgE[A-Za-z0-9_\-]{50,300}"),
    ("SENDGRID_KEY", "SG.", r"SG\.[A-Za-z0-9_\-]{22}\.[A-Za-z0-9_\-]{43}(?![A-Za-z0-9_\-])"),
    ("TONDO_KEY", "tondo_", r"tondo_[A-Za-z0-9_\-]{43}(?![A-Za-z0-9_\-])"),
    (
        "JWT",
        "eyJ",
        r"eyJ[A-Za-z0-9_\-]{8,100}\.eyJ[A-Za-z0-9_\-]{8,150}(?:\.[A-Za-z0-9_\-]{0,50})?",
    ),
    ("URL_PASSWORD", "://", r"(?<=://)[^\s:@/]{1,64}:[^\s:@/]{3,64}@"),
    (
        "PRIVATE_KEY",
        "-----BEGIN",
        r"-----BEGIN[A-Z0-9_-]{0,20} ?(?:[A-Z0-9]{1,12} ){0,2}PRIVATE KEY",
    ),
)

# A secret is one word; only a private key's first line has spaces.
_OPEN_TAIL = re.compile(r"(?:-----BEGIN[A-Z0-9 \-]*|\S+)\Z")


_NAMES = sorted({mark for _, mark, _ in _MARKS})
_SIGN = re.compile("|".join(map(re.escape, _NAMES)))
_BEGINNINGS = {mark[:n] for mark in _NAMES for n in range(1, len(mark))}
_BEGUN = re.compile(rf"(?:{'|'.join(map(re.escape, sorted(_BEGINNINGS)))})\Z")


class SecretsDetector(PatternDetector):
    """Finds secrets. A word without any mark, and without the beginning of one at its end, cannot
    become a secret: it need not be held back.
    """

    def open_from(self, text: str) -> int:
        """The beginning of the last word, if there is a mark in it or one may have begun."""
        start = super().open_from(text)
        tail = text[start:]
        begun = _BEGUN.search(tail) is not None
        return start if begun or _SIGN.search(tail) else len(text)


def secrets_detector() -> SecretsDetector:
    """A detector of secrets."""
    patterns = [
        Pattern(kind, re.compile((_NOT_BEFORE if mark[0] not in "-:" else "") + expression), mark)
        for kind, mark, expression in _MARKS
    ]
    return SecretsDetector("secrets", patterns, _SIGN, _OPEN_TAIL)
