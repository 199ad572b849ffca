"""Personal data that a pattern can prove: addresses, numbers with checksums, numbers with rules."""

from __future__ import annotations

import ipaddress
import re

from genai_gateway.guardrails.detector import Pattern, PatternDetector

# Digits and letters next to a finding would make it part of something longer. Only ASCII counts:
# in Chinese or Japanese a number stands between letters without a space.
_NOT_BEFORE = r"(?<![A-Za-z0-9])"
_NOT_AFTER = r"(?![A-Za-z0-9])"

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+\-])[A-Za-z0-9][A-Za-z0-9._%+\-]{0,63}@"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.){1,6}[A-Za-z]{2,24}"
    r"(?![A-Za-z0-9])"
)
# In one run, in groups as on the card, or digit by digit; other groups are other numbers in a row.
_CARD = re.compile(
    rf"{_NOT_BEFORE}(?:[1-6]\d{{11,18}}|[1-6]\d{{3}}([ \-])(?:\d{{4}}\1\d{{4}}\1\d{{1,7}}"
    rf"|\d{{6}}\1\d{{4,5}})|[1-6](?:[ \-]\d){{11,18}}){_NOT_AFTER}"
)
_IBAN = re.compile(rf"{_NOT_BEFORE}[A-Z]{{2}}\d{{2}}(?: ?[A-Z0-9]){{11,30}}{_NOT_AFTER}")
_SSN = re.compile(r"(?<![A-Za-z0-9\-])\d{3}([ \-])\d{2}\1\d{4}(?![A-Za-z0-9\-])")
_IPV4 = re.compile(r"(?<![A-Za-z0-9.])(?:\d{1,3}\.){3}\d{1,3}(?![A-Za-z0-9]|\.\d)")
_IPV6 = re.compile(
    r"(?<![A-Za-z0-9:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![A-Za-z0-9:]|\.\d)"
)
_PHONE = re.compile(
    r"(?<![A-Za-z0-9.+\-])"
    r"(?:\+[1-9]\d{0,2}(?:[ .\-]?\(?\d{1,5}\)?){2,6}"
    r"|(?:(?:001|1)[ .\-]?)?(?:\(\d{3}\) ?|\d{3}[ .\-])\d{3}[ .\-]\d{4})"
    r"(?:x\d{1,6})?(?![A-Za-z0-9\-])"
)

# The first digits of the makers of cards, and how many digits their cards have.
_CARD_LENGTHS: tuple[tuple[str, tuple[int, ...]], ...] = (
    (r"4", (16, 19)),
    (r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", (16,)),
    (r"3[47]", (15,)),
    (r"30[0-5]|36|38", (14,)),
    (r"2131|1800", (15,)),
    (r"35", (16,)),
    (r"6011|62|64[4-9]|65", (16, 17, 18, 19)),
    (r"50[0-3]\d|5893|6304|6759|676[1-3]", (12, 13, 14, 15, 16, 17, 18, 19)),
)

# The lengths of the countries that have IBANs, from the registry of SWIFT.
_IBAN_LENGTHS = """
AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29
ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20
LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25
QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 TN24 TR26 UA29 VA22 VG24 XK20
"""


def luhn(text: str) -> bool:
    """Whether the digits have the check digit of a payment card (ISO/IEC 7812)."""
    digits = [int(c) for c in reversed(text) if c.isdigit()]
    doubled = [d * 2 - 9 if d > 4 else d * 2 for d in digits[1::2]]
    return 12 <= len(digits) <= 19 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def card(text: str) -> bool:
    """Whether a number is a payment card's: its maker's length, and its check digit."""
    digits = "".join(c for c in text if c.isdigit())
    lengths = next((n for mark, n in _CARD_LENGTHS if re.match(mark, digits)), ())
    return len(digits) in lengths and luhn(digits)


def iban(text: str) -> bool:
    """Whether a text is an IBAN: its country's length, and the remainder 1 by 97 (ISO 13616)."""
    compact = text.replace(" ", "")
    if f" {compact[:2]}{len(compact)}" not in _IBAN_LENGTHS.replace("\n", " "):
        return False
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def ssn(text: str) -> bool:
    """Whether a number can be a US social security number (rules of the SSA since 2011)."""
    area, group, serial = text[:3], text[4:6], text[7:]
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def ip_address(text: str) -> bool:
    """Whether a text is an IP address that says where somebody is."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return False
    # "a::b" is an address and much more often C++: without a digit it is not believed.
    told = any(c.isdigit() for c in text)
    return told and not (ip.is_unspecified or ip.is_loopback)


def phone(text: str) -> bool:
    """Whether a number has as many digits as E.164 allows."""
    return 7 <= sum(c.isdigit() for c in text.partition("x")[0]) <= 15


PATTERNS = {
    "email": Pattern("EMAIL", _EMAIL, "@"),
    "card": Pattern("CARD", _CARD, "", card),
    "iban": Pattern("IBAN", _IBAN, "", iban),
    "ssn": Pattern("SSN", _SSN, "", ssn),
    "phone": Pattern("PHONE", _PHONE, "", phone),
    "ip": Pattern("IP", _IPV4, ".", ip_address),
    "ipv6": Pattern("IP", _IPV6, ":", ip_address),
}
KINDS = ("card", "email", "iban", "ip", "phone", "ssn")

_SIGN = re.compile(r"[0-9@]|::")

# The last run of words and of groups of digits: what of a finding may stand at a text's end.
_OPEN_TAIL = re.compile(r"[A-Za-z0-9@._%+\-:()]+(?: [A-Z0-9()+.\-]+)* ?\Z")


def personal_detector(kinds: tuple[str, ...] = KINDS) -> PatternDetector:
    """A detector of these kinds of personal data."""
    names = [*kinds, *(["ipv6"] if "ip" in kinds else [])]
    return PatternDetector("pii", [PATTERNS[name] for name in names], _SIGN, _OPEN_TAIL)
