"""The synthesizers' own phone names, as visemes."""

from __future__ import annotations

import visemes

# viseme: phones; digits (stress), ":" (length) and "*" (devoiced) are dropped first
_TABLES: dict[str, dict[str, str]] = {
    "ca": {
        "sil": "pau #", "pbm": "p b m B", "fv": "f v", "w": "w", "aa": "a", "ah": "ax", "ao": "O", "eh": "e E", "ow": "o",
        "uw": "u", "iy": "i", "ih": "j y", "sh": "S Z tS dZ", "s": "s z ts dz", "td": "t d n r rr D", "l": "l L", "th": "T",
        "k": "k g N J G x",
    },
    "it": {
        "sil": "pau #", "pbm": "p b m", "fv": "f v", "w": "w", "aa": "a", "eh": "e E", "ao": "O", "ow": "o", "uw": "u",
        "iy": "i", "ih": "j", "sh": "S tS dZ", "s": "s z ts dz", "td": "t d n r nf", "l": "l L", "k": "k g J ng N",
    },
    "cs": {
        "sil": "pau # _", "pbm": "p b m", "fv": "f v M", "aa": "a", "eh": "e", "iy": "i", "ow": "o", "uw": "u", "ih": "j @",
        "sh": "s~ z~ c~ dz~ r~", "s": "s z c dz", "td": "t d n r d~ t~ n~", "l": "l", "k": "k g x ch h N G",
    },
    "fi": {
        "sil": "pau #", "pbm": "p b m", "fv": "f v w", "aa": "a", "ae": "@", "eh": "e", "iy": "i", "ow": "o", "uw": "u",
        "y": "y 7 2", "ih": "j", "sh": "S", "s": "s z", "td": "t d n r", "l": "l", "k": "k g N x q", "hh": "h ?",
    },
    "ru": {
        "sil": "pau #", "pbm": "p pp b bb m mm", "fv": "f ff v vv", "aa": "aa", "ah": "a ay", "ih": "ae i y j", "iy": "ii yy",
        "eh": "ee e", "ow": "oo o", "uw": "uu", "uh": "u ur", "sh": "sh zh ch sch", "s": "s ss z zz c",
        "td": "t tt d dd n nn r rr", "l": "l ll", "k": "k kk g gg h hh",
    },
    "in": {
        "sil": "pau #", "pbm": "p b m bh ph mh", "fv": "f v", "w": "w", "aa": "aa", "ah": "a ax", "ae": "ae", "ao": "aw ao",
        "eh": "eh ee ei e", "ih": "ih y ay", "iy": "iy ii", "ow": "oh oo ow o", "uw": "uw uu", "uh": "uh u", "sh": "sh ch j jh chh zh",
        "s": "s z ts", "td": "t th d dh n D T N Th Dh r rr R nn", "l": "l L ll", "k": "k kh g gh ng ny nj q x", "hh": "h hh",
    },
}  # fmt: skip
_VISEME_OF = {
    name: {phone: viseme for viseme, phones in table.items() for phone in phones.split()} for name, table in _TABLES.items()
}


def visemes_of(phoneset: str, phone: str) -> tuple[str, ...]:
    """Visemes of a phone of the set "us" (ARPABET), "ipa" or one of the tables above."""
    if phoneset == "us":
        return visemes.visemes_of_arpabet(phone)
    if phoneset == "ipa":
        return visemes.visemes_of_ipa(phone)
    table = _VISEME_OF[phoneset]
    plain = phone.rstrip("0123456789:*") or phone
    if plain not in table and phone not in table:
        raise KeyError(f"phone set {phoneset!r} has no phone {phone!r}: add it to phonesets.py")
    return (table.get(plain) or table[phone],)
